#!/usr/bin/env bash
# Data directories of Libri2Mix, from an existing tree, or generated first from LibriSpeech and the official metadata.
set -euo pipefail

# Defaults. Each of these is an option; see help_message.
datadir=data
fs=16k
nj=2
python=python3
libri2mix=
librispeech=
metadata=
wham=
sets="train-100,dev,test"
min_or_max=min
mix_type=mix_clean
allow_missing=false
replace=false
sample_rate=
seed=0
enroll_list=but
enroll_list_raw=false
num_enrollments=1
targets=
downloads=downloads
download=true

help_message="Usage: local/data.sh --libri2mix DIR [--option value ...]

Makes DATADIR/{train,dev,test}. With --metadata, the mixtures of the sets are generated into --libri2mix first: what is
not there yet, after its disk use has been printed.

Options, with their defaults:
  --datadir        where the data directories go (${datadir})
  --fs             sampling rate, 8k or 16k (${fs})
  --sample_rate    the same (value of --fs)
  --nj             number of processes (${nj})
  --python         Python interpreter (${python})
  --libri2mix      the tree that holds wav8k, wav16k: read, or generated into
  --librispeech    the folder that holds train-clean-100 etc. and SPEAKERS.TXT; gives full clean recordings for
                   enrolment and the speakers' sexes; needed with --metadata
  --metadata       folder of the official libri2mix_*.csv (or libri3mix_*.csv); the mixtures are generated
  --wham           the folder wham_noise, for mix_both and mix_single
  --sets           sets, divided by commas; train-100,train-360 are joined to 'train' (${sets})
  --min_or_max     cut to the shorter source, or pad to the longer (${min_or_max})
  --mix_type       mix_clean, mix_both or mix_single (${mix_type}); mix_single has one speaker: run.sh --ref_num 1
  --allow_missing  leave out mixtures whose recordings are not there, and draw another enrolment where the list's is
                   not, instead of stopping (${allow_missing})
  --replace        make a generated set anew whose metadata changed, instead of stopping (${replace})
  --seed           for the choice of enrolments (${seed})

  Enrolment in evaluation (for training, enrolments are drawn on the fly):
  --enroll_list      (${enroll_list}) one of
                       but     the list of BUT Speech@FIT (SpeakerBeam): sources of other mixtures
                       full    its utterances, whole, from --librispeech
                       random  drawn: other recordings of the speaker in --librispeech, else in the tree
                       tselm   drawn, and speaker 1 is the only target (3,000 targets), as TSELM and LauraTSE evaluate
                       FILE    a list of your own; {set} in its name stands for dev and test; docs/recipe.md says how
                               its lines look
  --enroll_list_raw  keep enrolments that are the target utterance itself, as the list has them (${enroll_list_raw})
  --num_enrollments  recordings of the speaker that are joined into one enrolment (${num_enrollments})
  --targets          all or first speakers are targets; empty: as is usual for the list (${targets})
  --downloads        where published lists are kept (${downloads})
  --download         fetch a published list that is not there (${download})"

. ./path.sh
. utils/parse_options.sh

if [[ $# -ne 0 ]]; then
    echo "data.sh: error: unexpected argument '$1' (--help lists the options)" >&2
    exit 2
fi
if [[ -z ${libri2mix} ]]; then
    echo "data.sh: error: --libri2mix is missing; name the Libri2Mix tree (in run.sh: --local_data_opts \"--libri2mix DIR\")" >&2
    exit 2
fi

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
