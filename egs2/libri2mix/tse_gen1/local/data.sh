#!/usr/bin/env bash
# Data directories of Libri2Mix, DATADIR/{train,dev,test}, from an existing tree. With --metadata, the mixtures of the sets are generated
# into --libri2mix first: what is not there yet, after its disk use has been printed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

datadir=data                # where the data directories go
fs=16k                      # sampling rate, 8k or 16k
sample_rate=                # the same (value of --fs)
nj=2                        # number of processes
python=python3              # Python interpreter
libri2mix=                  # the tree that holds wav8k, wav16k: read, or generated into
librispeech=                # the folder that holds train-clean-100 etc. and SPEAKERS.TXT; gives full clean recordings for
#   enrolment and the speakers' sexes; needed with --metadata
metadata=                   # folder of the official libri2mix_*.csv (or libri3mix_*.csv); the mixtures are generated
wham=                       # the folder wham_noise, for mix_both and mix_single
sets="train-100,dev,test"   # sets, divided by commas; train-100,train-360 are joined to 'train'
min_or_max=min              # cut to the shorter source, or pad to the longer
mix_type=mix_clean          # mix_clean, mix_both or mix_single; mix_single has one speaker: run.sh --ref_num 1
allow_missing=false         # leave out mixtures whose recordings are not there, and draw another enrolment where the list's
#   is not, instead of stopping
replace=false               # make a generated set anew whose metadata changed, instead of stopping
seed=0                      # for the choice of enrolments
# Enrolment in evaluation (for training, enrolments are drawn on the fly)
enroll_list=but             # one of
#   but     the list of BUT Speech@FIT (SpeakerBeam): sources of other mixtures
#   full    its utterances, whole, from --librispeech
#   random  drawn: other recordings of the speaker in --librispeech, else in the tree
#   tselm   drawn, and speaker 1 is the only target (3,000 targets), as TSELM and LauraTSE evaluate
#   FILE    a list of your own; {set} in its name stands for dev and test; docs/recipe.md says how its lines look
enroll_list_raw=false       # keep enrolments that are the target utterance itself, as the list has them
num_enrollments=1           # recordings of the speaker that are joined into one enrolment
targets=                    # all or first speakers are targets; empty: as is usual for the list
downloads=downloads         # where published lists are kept
download=true               # fetch a published list that is not there

. ./path.sh
. utils/parse_options.sh
. utils/recipe_functions.sh

[[ $# -eq 0 ]] || die "unexpected argument '$1' (--help lists the options)"
required libri2mix

options=()
for name in librispeech metadata wham; do
    if [[ -n ${!name} ]]; then
        options+=("--${name}" "${!name}")
    fi
done

"${python}" -m espnet_tse_gen.bin.prepare_libri2mix --libri2mix "${libri2mix}" "${options[@]}" --sets "${sets}" \
    --sample_rate "${sample_rate:-${fs}}" --min_or_max "${min_or_max}" --mix_type "${mix_type}" \
    --allow_missing "${allow_missing}" --replace "${replace}" --data_dir "${datadir}" --seed "${seed}" --nj "${nj}" \
    --enroll_list "${enroll_list}" --enroll_list_raw "${enroll_list_raw}" --num_enrollments "${num_enrollments}" \
    --targets "${targets}" --enroll_dir "${downloads}" --download "${download}"
