#!/usr/bin/env bash
# Data directories of clean speech from a LibriSpeech tree: wav.scp, utt2spk and spk2gender of each set. No audio is copied.
# Subsets are divided by commas; with --speakers_json, none means all that it names.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

datadir=data                # where the data directories go
train_set=train             # name of the data directory of training
valid_set=dev               # name of that of validation
test_set="test"             # name of that of the table
python=python3              # Python interpreter
librispeech=                # the folder that holds train-clean-100 etc. and SPEAKERS.TXT
speakers_json=              # file that says which speakers may be used for what, {"train": {SUBSET: [SPEAKER, ...]}, "dev":
#   ..., "test": ...}; without it, all speakers of the subsets
train_subsets=train-clean-100 # subsets to train on
valid_subsets=dev-clean     # subsets to validate on
test_subsets=test-clean     # subsets to measure on

. ./path.sh
. utils/parse_options.sh
. utils/recipe_functions.sh

[[ $# -eq 0 ]] || die "unexpected argument '$1' (--help lists the options)"
required librispeech

# prepare SET SPLIT SUBSETS: one data directory.
prepare() {
    speakers_of "$2" "$3"
    "${python}" -m espnet_tse_gen.bin.prepare_speech_lists "${options[@]}" --output_dir "${datadir}/$1"
}

prepare "${train_set}" train "${train_subsets}"
prepare "${valid_set}" dev "${valid_subsets}"
prepare "${test_set}" test "${test_subsets}"
