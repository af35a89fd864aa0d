#!/usr/bin/env bash
# Data directories from speech in LibriSpeech's layout: the list of clean utterances to train on, and two-speaker mixtures to
# validate and test on, drawn once from other speakers and made as those of Libri2Mix are.
set -euo pipefail

# Defaults. Each of these is an option; see help_message.
datadir=data
fs=16k
nj=2
python=python3
librispeech=
speakers_json=
train_subsets=train-clean-100
valid_subsets=dev-clean
test_subsets=test-clean
dev_mixtures=100
test_mixtures=300
min_or_max=min
downloads=downloads
seed=0

help_message="Usage: local/data.sh --librispeech DIR [--option value ...]

Makes DATADIR/train (wav.scp, utt2spk: clean utterances) and DATADIR/{dev,test} (two-speaker mixtures). Subsets are divided by
commas; with --speakers_json, none means all that it names.

Options, with their defaults:
  --datadir        where the data directories go (${datadir})
  --fs             sampling rate, 8k or 16k (${fs})
  --nj             number of processes (${nj})
  --python         Python interpreter (${python})
  --librispeech    the folder that holds train-clean-100 etc. and SPEAKERS.TXT
  --speakers_json  file that says which speakers may be used for what, {\"train\": {SUBSET: [SPEAKER, ...]}, \"dev\": ...,
                   \"test\": ...}; without it, all speakers of the subsets
  --train_subsets  subsets to train on (${train_subsets})
  --valid_subsets  subsets to validate on (${valid_subsets})
  --test_subsets   subsets to test on (${test_subsets})
  --dev_mixtures   mixtures to validate on (${dev_mixtures})
  --test_mixtures  mixtures to test on, of each of which both speakers are targets (${test_mixtures})
  --min_or_max     cut to the shorter source, or pad to the longer (${min_or_max})
  --downloads      where the mixtures go (${downloads})
  --seed           everything follows from it (${seed})"

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

# speakers_of SPLIT SUBSETS: set the array `options` to what says which speakers of which subsets.
speakers_of() {
    options=(--librispeech "${librispeech}")
    if [[ -n ${speakers_json} ]]; then
        options+=(--speakers_json "${speakers_json}" --split "$1")
    fi
    if [[ -n $2 ]]; then
        options+=(--subsets "${2//,/ }")
    fi
}

speakers_of train "${train_subsets}"
"${python}" -m espnet_tse_gen.bin.prepare_speech_lists "${options[@]}" --output_dir "${datadir}/train"

# mixtures SPLIT SUBSETS NUMBER: metadata, mixtures and data directory of one set.
mixtures() {
    speakers_of "$1" "$2"
    "${python}" -m espnet_tse_gen.bin.prepare_libri2mix --make_metadata "${options[@]}" \
        --set_name "$1-drawn" --num_mixtures "$3" --seed "${seed}" --nj "${nj}" --metadata "${downloads}/metadata"
    "${python}" -m espnet_tse_gen.bin.prepare_libri2mix --libri2mix "${downloads}/mixtures" --librispeech "${librispeech}" \
        --metadata "${downloads}/metadata" --replace true --sets "$1-drawn" --sample_rate "${fs}" \
        --min_or_max "${min_or_max}" --mix_type mix_clean --data_dir "${datadir}" --seed "${seed}" --nj "${nj}"
}

mixtures dev "${valid_subsets}" "${dev_mixtures}"
mixtures test "${test_subsets}" "${test_mixtures}"
