#!/usr/bin/env bash
# Data directories of the mini corpus: synthetic voices, mixed as Libri2Mix is. Needs no corpus, and keeps what is there.
set -euo pipefail

# Defaults. Each of these is an option; see help_message.
datadir=data
fs=16k
nj=2
python=python3
downloads=downloads
num_voices=56
utterances_per_voice=25
train_mixtures=1200
dev_mixtures=60
test_mixtures=40
min_or_max=min
seed=0

help_message="Usage: local/data.sh [--option value ...]

Makes DATADIR/{train,dev,test} of two-speaker mixtures of synthetic voices.

Options, with their defaults:
  --datadir               where the data directories go (${datadir})
  --fs                    sampling rate, 8k or 16k (${fs})
  --nj                    number of processes (${nj})
  --python                Python interpreter (${python})
  --downloads             where the recordings go (${downloads})
  --num_voices            number of voices, at least 8 (${num_voices})
  --utterances_per_voice  sentences per voice (${utterances_per_voice})
  --train_mixtures        mixtures to train on (${train_mixtures})
  --dev_mixtures          mixtures to validate on (${dev_mixtures})
  --test_mixtures         mixtures to test on (${test_mixtures})
  --min_or_max            cut to the shorter source, or pad to the longer (${min_or_max})
  --seed                  everything follows from it (${seed})"

. ./path.sh
. utils/parse_options.sh

if [[ $# -ne 0 ]]; then
    echo "data.sh: error: unexpected argument '$1' (--help lists the options)" >&2
    exit 2
fi

"${python}" -m espnet_tse_gen.bin.prepare_mini_librimix --output_dir "${downloads}" --num_voices "${num_voices}" \
    --utterances_per_voice "${utterances_per_voice}" --train_mixtures "${train_mixtures}" \
    --dev_mixtures "${dev_mixtures}" --test_mixtures "${test_mixtures}" --seed "${seed}" --nj "${nj}"

"${python}" -m espnet_tse_gen.bin.prepare_libri2mix --libri2mix "${downloads}/mini_libri2mix" \
    --librispeech "${downloads}/mini_librispeech" --metadata "${downloads}/mini_librimix_metadata" --replace true \
    --sets "train-mini dev-mini test-mini" --sample_rate "${fs}" --min_or_max "${min_or_max}" --mix_type mix_clean \
    --data_dir "${datadir}" --seed "${seed}" --nj "${nj}"
