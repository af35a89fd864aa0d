#!/usr/bin/env bash
# Masked generative extraction on Libri2Mix. Name the data through --local_data_opts, as local/data.sh --help says, e.g.
#   ./run.sh --local_data_opts "--libri2mix /corpora/Libri2Mix --librispeech /corpora/LibriSpeech"
# and to generate the mixtures first: "... --metadata /corpora/LibriMix/metadata/Libri2Mix".
# Stage 1 fetches the enrolment lists of BUT Speech@FIT (1 MB); others: "... --enroll_list full|random|tselm|FILE".
# The codec is DAC at 16 kHz where its weights are at hand, else the one that ships with the package; to fetch them:
#   ./run.sh --codec_args "--download true" ...
# A trained model on the dev set alone, where data/dev is there: ./run.sh --stage 2 --skip_train true --test_sets dev --pretrained_exp exp/my_model
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

./tse_gen.sh \
    --train_set train \
    --valid_set dev \
    --test_sets "test" \
    --fs 16k \
    --ref_num 2 \
    --nj 8 \
    --inference_nj 8 \
    --codec_config auto \
    --tse_config conf/train/masked.yaml \
    --inference_config "conf/decode/greedy_16.yaml conf/decode/one_step.yaml" \
    --scoring_preset generative \
    "$@"
