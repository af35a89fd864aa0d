#!/usr/bin/env bash
# Data directories of the mini corpus, DATADIR/{train,dev,test}: two-speaker mixtures of the speech that ships with the package, drawn
# once, and made as those of Libri2Mix are. Needs no corpus, and keeps what is there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

datadir=data                # where the data directories go
fs=16k                      # sampling rate, 8k or 16k
nj=2                        # number of processes
python=python3              # Python interpreter
downloads=downloads         # where the mixtures go
train_mixtures=96           # mixtures to train on
dev_mixtures=12             # mixtures to validate on
test_mixtures=24            # mixtures to test on, of each of which both speakers are targets
min_or_max=min              # cut to the shorter source, or pad to the longer
seed=0                      # everything follows from it

. ./path.sh
. utils/parse_options.sh
. utils/recipe_functions.sh

[[ $# -eq 0 ]] || die "unexpected argument '$1' (--help lists the options)"
whole_number 1 train_mixtures dev_mixtures test_mixtures

speech=(--librispeech ../../../espnet_tse_gen/speech --metadata "${downloads}/metadata" --seed "${seed}" --nj "${nj}")
# No speaker is in two of them.
for set in train=train-clean-5 dev=dev-clean test=test-other; do
    number=${set%=*}_mixtures
    "${python}" -m espnet_tse_gen.bin.prepare_libri2mix --make_metadata "${speech[@]}" --subsets "${set#*=}" \
        --set_name "${set%=*}-mini" --num_mixtures "${!number}"
done
"${python}" -m espnet_tse_gen.bin.prepare_libri2mix --libri2mix "${downloads}/mini_libri2mix" "${speech[@]}" --replace true \
    --sets "train-mini dev-mini test-mini" --sample_rate "${fs}" --min_or_max "${min_or_max}" --mix_type mix_clean \
    --data_dir "${datadir}"
