#!/usr/bin/env bash
# Masked generative extraction of real voices on a CPU, in minutes: the speech that ships with the package is mixed, a model is
# fine-tuned on it, and decodes beside those that ship. Options of tse_gen.sh may follow: ./run.sh --help.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

shipped=../../../espnet_tse_gen/pretrained
front_end=dual_path_16k
# The generative model that training starts from, and beside which it decodes.
start=tse_gen_16k
training="--front_end ${front_end} --init_param ${start} --max_epoch 2 --num_iters_per_epoch 20 --optim_conf lr=2.0e-4"
training+=" --scheduler_conf max_lr=2.0e-4 --scheduler_conf first_cycle_steps=40 --scheduler_conf warmup_steps=5"

./tse_gen.sh \
    --train_set train \
    --valid_set dev \
    --test_sets "test" \
    --fs 16k \
    --ref_num 2 \
    --nj 2 \
    --inference_nj 2 \
    --codec_config conf/codec/mel_16k_fine.yaml \
    --codec_dir "${shipped}/${start}/codec" \
    --dynamic_mixing false \
    --tse_config conf/train/tse_gen_16k.yaml \
    --tse_tag demo \
    --tse_args "${training}" \
    --inference_config "conf/decode/soft.yaml conf/decode/joint_16.yaml conf/decode/augmented.yaml" \
    --inference_args "--reconstruction estimate" \
    --pretrained_exp "${shipped}/${front_end} ${shipped}/${start}" \
    "$@"
