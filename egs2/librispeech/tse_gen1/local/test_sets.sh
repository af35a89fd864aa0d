#!/usr/bin/env bash
# Fixed evaluation sets of speakers who are in no training set: two-speaker mixtures whose talkers are both of one collection, drawn
# once, and the official Libri2Mix dev mixtures of speakers that nothing was trained on.
#   local/test_sets.sh --librispeech /corpora/LibriSpeech --speakers_json splits_more.json
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Defaults. Each of these is an option; see help_message.
datadir=data
fs=16k
nj=2
python=python3
librispeech=
speakers_json=
sets="test_a=test-other test_b_speechocean=speechocean762 test_b_commonvoice=common-voice \
dev_a=dev-clean dev_b_speechocean=speechocean762 dev_b_commonvoice=common-voice"
num_mixtures=60
metadata=
official_set=dev_c
allow_missing=false
min_or_max=min
downloads=downloads
seed=0

help_message="Usage: local/test_sets.sh --librispeech DIR --speakers_json FILE [--option value ...]

Makes a data directory DATADIR/NAME, with enrolments, for every set; give their names to run.sh --test_sets.

Options, with their defaults:
  --datadir        where the data directories go (${datadir})
  --fs             sampling rate, 8k or 16k (${fs})
  --nj             number of processes (${nj})
  --python         Python interpreter (${python})
  --librispeech    the folder that holds the subsets (test-other, ...) and SPEAKERS.TXT
  --speakers_json  file that says which speakers may be used for what, {\"train\": {SUBSET: [SPEAKER, ...]}, \"dev\": ...,
                   \"test\": ...}
  --sets           NAME=SUBSET ...; the part of NAME before '_' is the split whose speakers are mixed
                   (${sets})
  --num_mixtures   mixtures in each of them; both speakers of a mixture are targets (${num_mixtures})
  --metadata       LibriMix's libri2mix_dev-clean.csv, or its like; its mixtures of which no speaker is in the split 'train'
                   make one more set. Empty: none (${metadata})
  --official_set   name of that set (${official_set})
  --allow_missing  leave out official mixtures whose recordings are not there, instead of stopping (${allow_missing})
  --min_or_max     cut to the shorter source, or pad to the longer (${min_or_max})
  --downloads      where the mixtures go (${downloads})
  --seed           everything follows from it (${seed})"

. ./path.sh
. utils/parse_options.sh

if [[ $# -ne 0 ]]; then
    echo "test_sets.sh: error: unexpected argument '$1' (--help lists the options)" >&2
    exit 2
fi
for name in librispeech speakers_json; do
    if [[ -z ${!name} ]]; then
        echo "test_sets.sh: error: --${name} is missing (--help lists the options)" >&2
        exit 2
    fi
done

# metadata_of NAME SPLIT [ARGUMENTS]: the rows of one set.
metadata_of() {
    "${python}" -m espnet_tse_gen.bin.prepare_libri2mix --make_metadata --metadata "${downloads}/metadata" --set_name "$1" \
        --speakers_json "${speakers_json}" --split "$2" "${@:3}"
}

names=
for entry in ${sets}; do
    if [[ ${entry} != *_*=* ]]; then
        echo "test_sets.sh: error: --sets: expected SPLIT_NAME=SUBSET, found '${entry}'" >&2
        exit 2
    fi
    name=${entry%%=*}
    metadata_of "${name}" "${name%%_*}" --librispeech "${librispeech}" --subsets "${entry#*=}" --num_mixtures "${num_mixtures}" \
        --seed "${seed}" --nj "${nj}"
    names+=" ${name}"
done
if [[ -n ${metadata} ]]; then
    metadata_of "${official_set}" train --rows_of "${metadata}"
    names+=" ${official_set}"
fi
"${python}" -m espnet_tse_gen.bin.prepare_libri2mix --libri2mix "${downloads}/mixtures" --librispeech "${librispeech}" \
    --metadata "${downloads}/metadata" --replace true --allow_missing "${allow_missing}" --sets "${names}" --sample_rate "${fs}" \
    --min_or_max "${min_or_max}" --mix_type mix_clean --data_dir "${datadir}" --seed "${seed}" --nj "${nj}"
