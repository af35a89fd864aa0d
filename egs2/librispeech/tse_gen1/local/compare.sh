#!/usr/bin/env bash
# SpEx+, MC-SpEx, the ablations of MC-SpEx, TD-SpeakerBeam and a masked generative extractor, without and with MC-SpEx as its front
# end, trained on the same drawn mixtures: validation in EXPDIR/comparison.md, and all but the ablations on the test set in
# EXPDIR/comparison/RESULTS.md, with a report page beside it. What is there is kept.
#   local/compare.sh --local_data_opts "--librispeech /corpora/LibriSpeech"
# With --part dual_path, only what the parts of the dual-path extractor bring, at an equal, short budget: as it is, without the
# enrolment's frames, without the embedding of the voice, without attention over bands, and on fewer hours of speech. Validation in
# EXPDIR/ablations/comparison.md.
# Options are those of run.sh, and these:
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

size=16k_small              # which conf/train/{spex_plus,mc_spex,td_speakerbeam}_NAME.yaml: 16k_small (for CPUs) or 16k
part=all                    # train only 'discriminative' or 'masked' (without front end), so that two can run at the same
#   time; 'all' does the rest. Or 'dual_path'
epochs=2                    # dual_path: of 150 steps each; the learning rate falls to almost zero over them
mixing=                     # dual_path: further --tse_args, for all: shares of collections, noise, ...
fewer=                      # dual_path: the --tse_args of the training on fewer hours; without it, there is none
expdir=exp                  # where models and results go
python=python3              # Python interpreter
declare -a given=()

. ./path.sh
. utils/parse_options.sh
. utils/recipe_functions.sh

given+=("$@" --expdir "${expdir}" --python "${python}")
[[ -f conf/train/mc_spex_${size}.yaml ]] || die "conf/train/mc_spex_${size}.yaml: no such file; correct --size"
[[ ${part} =~ ^(all|discriminative|masked|dual_path)$ ]] ||
    die "--part takes all, discriminative, masked or dual_path, not '${part}'"
whole_number 1 epochs

# train NAME CONFIG [ARGUMENTS]: data, statistics and training of one system. The data are the same of all: one at a time.
train() {
    local options=("${given[@]}" --skip_eval true --codec_config conf/codec/mel_16k.yaml --tse_config "conf/train/$2.yaml"
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
