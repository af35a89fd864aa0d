#!/usr/bin/env bash
# Masked generative extraction on the mini corpus: synthetic voices, made in stage 1, from nothing to scores on a CPU in
# minutes. Options of tse_gen.sh may follow: ./run.sh --help.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

# The extractor that ships with the package, trained for longer by this same recipe, is decoded with as well.
shipped=../../../espnet_tse_gen/pretrained/mini_librimix
pretrained=()
if [[ -f ${shipped}/config.yaml ]]; then
    pretrained=(--pretrained_exp "${shipped}")
fi

./tse_gen.sh \
    --train_set train \
    --valid_set dev \
    --test_sets "test" \
    --fs 16k \
    --ref_num 2 \
    --nj 2 \
    --inference_nj 2 \
    --codec_config conf/codec/mel_16k.yaml \
    --tse_config conf/train/masked_small.yaml \
    --inference_config "conf/decode/greedy_16.yaml conf/decode/one_step.yaml" \
    "${pretrained[@]}" \
    "$@"
