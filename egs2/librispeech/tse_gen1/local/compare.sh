#!/usr/bin/env bash
# SpEx+, MC-SpEx, the ablations of MC-SpEx, TD-SpeakerBeam and a masked generative extractor, without and with MC-SpEx as its front
# end, trained on the same drawn mixtures: validation in EXPDIR/comparison.md, and all but the ablations on the test set in
# EXPDIR/comparison/RESULTS.md, with a report page beside it. What is there is kept.
#   local/compare.sh --local_data_opts "--librispeech /corpora/LibriSpeech"
# Options are those of run.sh, and these:
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

size=16k_small              # which conf/train/{spex_plus,mc_spex,td_speakerbeam}_NAME.yaml: 16k_small (for CPUs) or 16k
part=all                    # train only 'discriminative' or 'masked' (without front end), so that two can run at the same
#   time; 'all' does the rest
expdir=exp                  # where models and results go
python=python3              # Python interpreter
declare -a given=()

. ./path.sh
. utils/parse_options.sh
. utils/recipe_functions.sh

given+=("$@" --expdir "${expdir}" --python "${python}")
[[ -f conf/train/mc_spex_${size}.yaml ]] || die "conf/train/mc_spex_${size}.yaml: no such file; correct --size"
[[ ${part} =~ ^(all|discriminative|masked)$ ]] || die "--part takes all, discriminative or masked, not '${part}'"

# train NAME CONFIG [ARGUMENTS]: data, statistics and training of one system.
train() {
    ./run.sh "${given[@]}" --skip_eval true --stop_stage 7 --codec_config conf/codec/mel_16k.yaml \
        --tse_config "conf/train/$2.yaml" --tse_tag "$1" --tse_args "${3:-}"
}

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

systems=(spex_plus mc_spex mc_spex_fusion_none mc_spex_modulation_concat mc_spex_mask_interaction_none td_speakerbeam)
"${python}" -m espnet_tse_gen.bin.compare_trainings --exp_dirs "${systems[@]/#/${expdir}/}" --output_dir "${expdir}" \
    --command "local/compare.sh --size ${size}"
./run.sh "${given[@]}" --skip_data_prep true --skip_train true --skip_packing true --stage 8 --tse_tag comparison \
    --tse_config "conf/train/td_speakerbeam_${size}.yaml" \
    --pretrained_exp "${expdir}/td_speakerbeam ${expdir}/spex_plus ${expdir}/mc_spex ${expdir}/masked ${expdir}/masked_front_end" \
    --inference_config "conf/decode/segments.yaml conf/decode/one_step.yaml"
