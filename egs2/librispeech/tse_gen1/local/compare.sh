#!/usr/bin/env bash
# SpEx+, MC-SpEx, the ablations of MC-SpEx, TD-SpeakerBeam and a masked generative extractor, without and with MC-SpEx as its front
# end, trained on the same drawn mixtures: validation in EXPDIR/comparison.md, and all but the ablations on the test set in
# EXPDIR/comparison/RESULTS.md, with a report page beside it. What is there is kept.
#   local/compare.sh --local_data_opts "--librispeech /corpora/LibriSpeech"
# With --part dual_path, only what the parts of the dual-path extractor bring, at an equal, short budget: as it is, without the
# enrolment's frames, without the embedding of the voice, without attention over bands, and on fewer hours of speech. Validation in
# EXPDIR/ablations/comparison.md.
# With --part generation, what masked generation brings on top of a front end, at an equal, short budget: tokens of several codecs,
# and one codec's with the front end trained along, with each of its conditions alone, and with the mixture only. They are judged
# by what they decode, with every way of decoding of the model that ships, in EXPDIR/generation/generation.md
# (benchmarks/generation.py).
# Options are those of run.sh, and these:
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

size=16k_small              # which conf/train/{spex_plus,mc_spex,td_speakerbeam}_NAME.yaml: 16k_small (for CPUs) or 16k
part=all                    # train only 'discriminative' or 'masked' (without front end), so that two can run at the same
#   time; 'all' does the rest. Or 'dual_path', or 'generation'
epochs=2                    # dual_path, generation: of 150 steps each; the learning rate falls to almost zero over them
mixing=                     # dual_path, generation: further --tse_args, for all: shares of collections, noise, ...
fewer=                      # dual_path: the --tse_args of the training on fewer hours; without it, there is none
front_end=dual_path_16k     # generation: the model that the others stand on
generator=tse_gen_16k       # generation: a trained one, of which every way of decoding is shown
codecs="mel_16k_fine mel_16k mel_16k_1024 mel_rvq_16k mini_16k" # generation: files of conf/codec; the first one's tokens are also
#   predicted from less
items=32                    # generation: targets to decode
dumpdir=dump                # where formatted audio goes
expdir=exp                  # where models and results go
python=python3              # Python interpreter
declare -a given=()

. ./path.sh
. utils/parse_options.sh
. utils/recipe_functions.sh

given+=("$@" --expdir "${expdir}" --dumpdir "${dumpdir}" --python "${python}")
[[ -f conf/train/mc_spex_${size}.yaml ]] || die "conf/train/mc_spex_${size}.yaml: no such file; correct --size"
[[ ${part} =~ ^(all|discriminative|masked|dual_path|generation)$ ]] ||
    die "--part takes all, discriminative, masked, dual_path or generation, not '${part}'"
whole_number 1 epochs items

# train NAME CONFIG [ARGUMENTS] [CODEC]: data, statistics and training of one system. The data are the same of all: one at a time.
train() {
    local options=("${given[@]}" --skip_eval true --codec_config "conf/codec/${4:-mel_16k}.yaml" --tse_config "conf/train/$2.yaml"
        --tse_tag "$1" --tse_args "${3:-}")
    mkdir -p "${expdir}"
    flock "${expdir}/.data.lock" ./run.sh "${options[@]}" --stop_stage 3
    ./run.sh --stage 4 "${options[@]}" --stop_stage 7
}

# compare FOLDER MEASURE OPTIONS NAME...: the table of the validation of FOLDER/NAME..., in that folder.
compare() {
    local systems=("${@:4}")
    "${python}" -m espnet_tse_gen.bin.compare_trainings --exp_dirs "${systems[@]/#/$1/}" --output_dir "$1" --measure "$2" \
        --command "local/compare.sh $3"
}

if [[ ${part} == dual_path ]]; then
    budget="--max_epoch ${epochs} --scheduler_conf first_cycle_steps=$((150 * epochs)) ${mixing}"
    train ablations/dual_path dual_path_16k "${budget}"
    for left_out in enroll_frames speaker_embedding band_attention; do
        train "ablations/no_${left_out}" dual_path_16k "${budget} --extractor_conf ${left_out}=false"
    done
    [[ -z ${fewer} ]] || train ablations/fewer_hours dual_path_16k "${budget} ${fewer}"
    compare "${expdir}/ablations" si_sdr_loss "--part dual_path --epochs ${epochs}" \
        dual_path no_{enroll_frames,speaker_embedding,band_attention} ${fewer:+fewer_hours}
    exit
fi
if [[ ${part} == generation ]]; then
    budget="--max_epoch ${epochs} --scheduler_conf first_cycle_steps=$((150 * epochs)) ${mixing}"
    guided="${budget} --front_end ${front_end}" trained=()
    # generate NAME CODEC ARGUMENTS
    generate() {
        train "generation/$1" tse_gen_16k "$3" "$2"
        trained+=("${expdir}/generation/$1")
    }
    for codec in ${codecs}; do
        case ${codec} in
            # Its codebooks share latent dimensions, so that the heads cannot start from the estimate.
            *rvq*) generate "${codec}" "${codec}" "${guided} --extractor_conf estimate_head=0" ;;
            # Nor can its tokens be decoded with the estimate's phase.
            mini*) generate "${codec}" "${codec}" "${guided} --extractor_conf estimate_head=0 --model_conf decoded_weight=0" ;;
            *) generate "${codec}" "${codec}" "${guided}" ;;
        esac
    done
    codec=${codecs%% *}
    generate "${codec}_trained_along" "${codec}" "${guided} --model_conf front_end_rate=0.1"
    for features in features latent+stft tokens; do
        generate "${codec}_${features}" "${codec}" \
            "${guided} --extractor_conf estimate_head=0 --extractor_conf front_end_features=${features}"
    done
    generate "${codec}_mixture" "${codec}" \
        "${budget} --extractor_conf estimate_head=0 --extractor_conf front_end_features=none --model_conf decoded_weight=0"
    "${python}" ../../../benchmarks/generation.py --data_dir "${dumpdir}/raw/dev" --items "${items}" --model "${generator}" \
        --few "${trained[@]}" --output "${expdir}/generation/generation.md"
    exit
fi
if [[ ${part} != masked ]]; then
    train spex_plus "spex_plus_${size}"
    train mc_spex "mc_spex_${size}"
    train td_speakerbeam "td_speakerbeam_${size}"
    train mc_spex_fusion_none "mc_spex_${size}" "--extractor_conf fusion=none"
    train mc_spex_modulation_concat "mc_spex_${size}" "--extractor_conf modulation=concat"
    train mc_spex_mask_interaction_none "mc_spex_${size}" "--extractor_conf mask_interaction=none"
fi
front_end="--front_end ${expdir}/mc_spex"
case ${size} in
    # A third of its epochs: about the time that MC-SpEx takes.
    16k_small) masked=(masked_small_long masked_small_long) options=("--max_epoch 4" "--max_epoch 4 ${front_end}") ;;
    *) masked=(masked_dynamic masked_front_end) options=("" "${front_end}") ;;
esac
[[ ${part} == discriminative ]] || train masked "${masked[0]}" "${options[0]}"
[[ ${part} == all ]] || exit 0
train masked_front_end "${masked[1]}" "${options[1]}"

compare "${expdir}" si_snr_loss_s0 "--size ${size}" \
    spex_plus mc_spex mc_spex_{fusion_none,modulation_concat,mask_interaction_none} td_speakerbeam
./run.sh "${given[@]}" --skip_data_prep true --skip_train true --skip_packing true --stage 8 --tse_tag comparison \
    --tse_config "conf/train/td_speakerbeam_${size}.yaml" \
    --pretrained_exp "${expdir}/td_speakerbeam ${expdir}/spex_plus ${expdir}/mc_spex ${expdir}/masked ${expdir}/masked_front_end" \
    --inference_config "conf/decode/segments.yaml conf/decode/one_step.yaml"
