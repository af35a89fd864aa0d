#!/usr/bin/env bash
# SpEx+, MC-SpEx, the ablations of MC-SpEx, TD-SpeakerBeam and a masked generative extractor, trained on the same drawn mixtures,
# at a size for CPUs: validation in EXPDIR/comparison.md, and all but the ablations on the test set in one RESULTS.md.
# Options are those of run.sh, of which --local_data_opts must name the corpus. What is there is kept.
#   local/compare.sh --local_data_opts "--librispeech /corpora/LibriSpeech"
# With PART=discriminative or PART=masked in front, only these trainings are run, so that two can run at the same time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

part=${PART:-all}
expdir=exp
python=python3
for ((i = 1; i < $#; i++)); do
    value=$((i + 1))
    case ${!i} in
        --expdir) expdir=${!value} ;;
        --python) python=${!value} ;;
    esac
done
size=16k_small

# train NAME CONFIG [ARGUMENTS]: data, statistics and training of one system.
train() {
    ./run.sh "${given[@]}" --skip_eval true --stop_stage 7 --tse_config "conf/train/$2.yaml" --tse_tag "$1" --tse_args "${3:-}"
}

given=("$@")
systems=(spex_plus mc_spex mc_spex_fusion_none mc_spex_modulation_concat mc_spex_mask_interaction_none td_speakerbeam)
masked=mini_drawn
if [[ ${part} != masked ]]; then
    train spex_plus "spex_plus_${size}"
    train mc_spex "mc_spex_${size}"
    train td_speakerbeam "td_speakerbeam_${size}"
    train mc_spex_fusion_none "mc_spex_${size}" "--extractor_conf fusion=none"
    train mc_spex_modulation_concat "mc_spex_${size}" "--extractor_conf modulation=concat"
    train mc_spex_mask_interaction_none "mc_spex_${size}" "--extractor_conf mask_interaction=none"
fi
if [[ ${part} != discriminative ]]; then
    # A third of the epochs of conf/train/mini_long.yaml: about the time that MC-SpEx takes.
    ./run.sh "${given[@]}" --skip_eval true --stop_stage 7 --codec_config conf/codec/mel_16k.yaml \
        --tse_config conf/train/mini_long.yaml --tse_tag "${masked}" --tse_args "--max_epoch 4"
fi
[[ ${part} == all ]] || exit 0

"${python}" -m espnet_tse_gen.bin.compare_trainings --exp_dirs "${systems[@]/#/${expdir}/}" --output_dir "${expdir}" \
    --command "local/compare.sh"
./run.sh "${given[@]}" --skip_data_prep true --skip_train true --skip_packing true --tse_tag none --stage 8 \
    --tse_config "conf/train/td_speakerbeam_${size}.yaml" \
    --pretrained_exp "${expdir}/td_speakerbeam ${expdir}/spex_plus ${expdir}/mc_spex ${expdir}/${masked}" \
    --inference_config "conf/decode/segments.yaml conf/decode/one_pass.yaml"
