#!/usr/bin/env bash
# Data directories of clean speech from a LibriSpeech tree: wav.scp, utt2spk and spk2gender of each set. No audio is copied.
set -euo pipefail

# Defaults. Each of these is an option; see help_message.
datadir=data
train_set=train
valid_set=dev
test_set="test"
python=python3
librispeech=
speakers_json=
train_subsets=train-clean-100
valid_subsets=dev-clean
test_subsets=test-clean

help_message="Usage: local/data.sh --librispeech DIR [--option value ...]

Makes the three data directories. Subsets are divided by commas; with --speakers_json, none means all that it names.

Options, with their defaults:
  --datadir        where the data directories go (${datadir})
  --train_set      name of the data directory of training (${train_set})
  --valid_set      name of that of validation (${valid_set})
  --test_set       name of that of the table (${test_set})
  --python         Python interpreter (${python})
  --librispeech    the folder that holds train-clean-100 etc. and SPEAKERS.TXT
  --speakers_json  file that says which speakers may be used for what, {\"train\": {SUBSET: [SPEAKER, ...]}, \"dev\": ...,
                   \"test\": ...}; without it, all speakers of the subsets
  --train_subsets  subsets to train on (${train_subsets})
  --valid_subsets  subsets to validate on (${valid_subsets})
  --test_subsets   subsets to measure on (${test_subsets})"

. ./path.sh
. utils/parse_options.sh

if [[ $# -ne 0 ]]; then
    echo "data.sh: error: unexpected argument '$1' (--help lists the options)" >&2
    exit 2
fi
if [[ -z ${librispeech} ]]; then
    echo "data.sh: error: --librispeech is missing; name the LibriSpeech tree (in run.sh: --local_data_opts \"--librispeech DIR\")" >&2
    exit 2
fi

# prepare SET SPLIT SUBSETS: one data directory.
prepare() {
    local options=()
    if [[ -n ${speakers_json} ]]; then
        options+=(--speakers_json "${speakers_json}" --split "$2")
    fi
    if [[ -n $3 ]]; then
        options+=(--subsets "${3//,/ }")
    fi
    "${python}" -m espnet_tse_gen.bin.prepare_speech_lists --librispeech "${librispeech}" "${options[@]}" \
        --output_dir "${datadir}/$1"
}

prepare "${train_set}" train "${train_subsets}"
prepare "${valid_set}" dev "${valid_subsets}"
prepare "${test_set}" test "${test_subsets}"
