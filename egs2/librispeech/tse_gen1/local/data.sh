#!/usr/bin/env bash
# Data directories from speech in LibriSpeech's layout: DATADIR/train, clean utterances to train on (wav.scp, utt2spk), and DATADIR/{dev,test},
# two-speaker mixtures that are drawn once from other speakers, and made as those of Libri2Mix are.
# Subsets are divided by commas; with --speakers_json, none means all that it names.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

datadir=data                # where the data directories go
fs=16k                      # sampling rate, 8k or 16k
nj=2                        # number of processes
python=python3              # Python interpreter
librispeech=                # the folder that holds train-clean-100 etc. and SPEAKERS.TXT
speakers_json=              # file that says which speakers may be used for what, {"train": {SUBSET: [SPEAKER, ...]}, "dev":
#   ..., "test": ...}; without it, all speakers of the subsets
train_subsets=train-clean-100 # subsets to train on
valid_subsets=dev-clean     # subsets to validate on
test_subsets=test-clean     # subsets to test on
dev_mixtures=100            # mixtures to validate on
test_mixtures=300           # mixtures to test on, of each of which both speakers are targets
min_or_max=min              # cut to the shorter source, or pad to the longer
downloads=downloads         # where the mixtures go
seed=0                      # everything follows from it

. ./path.sh
. utils/parse_options.sh
. utils/recipe_functions.sh

[[ $# -eq 0 ]] || die "unexpected argument '$1' (--help lists the options)"
required librispeech

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
