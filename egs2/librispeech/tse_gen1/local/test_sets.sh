#!/usr/bin/env bash
# Fixed evaluation sets of speakers who are in no training set: two-speaker mixtures whose talkers are both of one collection, drawn
# once, and the official Libri2Mix dev mixtures of speakers that nothing was trained on.
#   local/test_sets.sh --librispeech /corpora/LibriSpeech --speakers_json splits_more.json
# Every set is a data directory DATADIR/NAME with enrolments; give their names to run.sh --test_sets.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

datadir=data                # where the data directories go
fs=16k                      # sampling rate, 8k or 16k
nj=2                        # number of processes
python=python3              # Python interpreter
librispeech=                # the folder that holds the subsets (test-other, ...) and SPEAKERS.TXT
speakers_json=              # file that says which speakers may be used for what, {"train": {SUBSET: [SPEAKER, ...]}, "dev":
#   ..., "test": ...}
sets="test_a=test-other test_b_speechocean=speechocean762 test_b_commonvoice=common-voice" # NAME=SUBSET ...; what stands before the
#   first '_' of NAME is the split whose speakers are mixed
sets+=" dev_a=dev-clean dev_b_speechocean=speechocean762 dev_b_commonvoice=common-voice"
num_mixtures=60             # mixtures in each of them; both speakers of a mixture are targets
metadata=                   # LibriMix's libri2mix_dev-clean.csv, or its like; its mixtures of which no speaker is in the
#   split 'train' make one more set. Empty: none
official_set=dev_c          # name of that set
allow_missing=false         # leave out official mixtures whose recordings are not there, instead of stopping
min_or_max=min              # cut to the shorter source, or pad to the longer
downloads=downloads         # where the mixtures go
seed=0                      # everything follows from it

. ./path.sh
. utils/parse_options.sh
. utils/recipe_functions.sh

[[ $# -eq 0 ]] || die "unexpected argument '$1' (--help lists the options)"
required librispeech speakers_json

# metadata_of NAME SPLIT [ARGUMENTS]: the rows of one set.
metadata_of() {
    "${python}" -m espnet_tse_gen.bin.prepare_libri2mix --make_metadata --metadata "${downloads}/metadata" --set_name "$1" \
        --speakers_json "${speakers_json}" --split "$2" "${@:3}"
}

names=
for entry in ${sets}; do
    # What follows a dash in the name of a set of Libri2Mix is the part of it that is meant.
    if [[ ${entry} != *_*=* || ${entry%%=*} == *-* ]]; then
        die "--sets: expected SPLIT_NAME=SUBSET, without a dash in NAME, found '${entry}'"
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
