#!/usr/bin/env bash
# Extractors trained on clean speech in LibriSpeech's layout: mixtures of training are drawn on the fly, those of validation and
# test are drawn once. Name the corpus through --local_data_opts, as local/data.sh --help says, e.g.
#   ./run.sh --local_data_opts "--librispeech /corpora/LibriSpeech"
# The discriminative extractors: --tse_config conf/train/spex_plus_16k.yaml, or the like; all of them and the ablations of
# MC-SpEx at a size for CPUs, in one table: local/compare.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

./tse_gen.sh \
    --speech_dir "{datadir}/train" \
    --train_set train \
    --valid_set dev \
    --test_sets "test" \
    --fs 16k \
    --ref_num 2 \
    --dynamic_mixing true \
    --use_codes false \
    --tse_config conf/train/masked_dynamic.yaml \
    --inference_config "conf/decode/greedy_16.yaml conf/decode/one_step.yaml" \
    "$@"
