#!/usr/bin/env bash
# Data directories of the mini corpus, DATADIR/{train,dev,test}: two-speaker mixtures of synthetic voices, mixed as Libri2Mix is. Needs
# no corpus, and keeps what is there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

datadir=data                # where the data directories go
fs=16k                      # sampling rate, 8k or 16k
nj=2                        # number of processes
python=python3              # Python interpreter
downloads=downloads         # where the recordings go
num_voices=56               # number of voices, at least 8
utterances_per_voice=25     # sentences per voice
train_mixtures=1200         # mixtures to train on
dev_mixtures=60             # mixtures to validate on
test_mixtures=40            # mixtures to test on
min_or_max=min              # cut to the shorter source, or pad to the longer
seed=0                      # everything follows from it

. ./path.sh
. utils/parse_options.sh
. utils/recipe_functions.sh

[[ $# -eq 0 ]] || die "unexpected argument '$1' (--help lists the options)"

"${python}" -m espnet_tse_gen.bin.prepare_mini_librimix --output_dir "${downloads}" --num_voices "${num_voices}" \
    --utterances_per_voice "${utterances_per_voice}" --train_mixtures "${train_mixtures}" \
    --dev_mixtures "${dev_mixtures}" --test_mixtures "${test_mixtures}" --seed "${seed}" --nj "${nj}"

"${python}" -m espnet_tse_gen.bin.prepare_libri2mix --libri2mix "${downloads}/mini_libri2mix" \
    --librispeech "${downloads}/mini_librispeech" --metadata "${downloads}/mini_librimix_metadata" --replace true \
    --sets "train-mini dev-mini test-mini" --sample_rate "${fs}" --min_or_max "${min_or_max}" --mix_type mix_clean \
    --data_dir "${datadir}" --seed "${seed}" --nj "${nj}"
