#!/usr/bin/env bash
# Trained extractors on fixed evaluation sets of unheard speakers: one table per set, with intervals, by sexes and by ratio of the
# talkers, in EXPDIR/measured/RESULTS.md, and a report page beside it. Sets, outputs and scores that are there are kept.
#   local/measure.sh --librispeech /corpora/LibriSpeech --speakers_json splits_more.json --models "exp/dual_path_16k exp/mc_spex_16k"
# All options but these go to run.sh (--nj, --inference_nj, --scoring_preset, ...):
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

models=                     # exp directories, or what bin/pack.py made (the models that ship: espnet_tse_gen/pretrained)
test_sets="test_a test_b_speechocean test_b_commonvoice" # which of the sets to decode and score; with --metadata also dev_c
tse_tag=measured            # the folder of the results
inference_config="conf/decode/segments.yaml conf/decode/augmented.yaml" # files of conf/decode, one or more
python=python3              # Python interpreter
# What local/test_sets.sh takes, and says
librispeech=                # the corpus
speakers_json=              # who is of which split
datadir=data                # where the data directories go
metadata=                   # official mixtures
sets=                       # which sets to make
num_mixtures=               # how many in each
allow_missing=              # leave out official mixtures whose recordings are not there
declare -a given=()

. ./path.sh
. utils/parse_options.sh
. utils/recipe_functions.sh

required models
[[ -z ${metadata} || " ${test_sets} " == *" dev_c "* ]] || test_sets+=" dev_c"
made=()
for option in datadir librispeech speakers_json metadata sets num_mixtures allow_missing; do
    [[ -z ${!option} ]] || made+=("--${option}" "${!option}")
done

local/test_sets.sh --python "${python}" "${made[@]}"
./run.sh "${given[@]}" "$@" --python "${python}" --datadir "${datadir}" --stage 2 --stop_stage 10 --skip_train true --tse_tag "${tse_tag}" --test_sets "${test_sets}" \
    --tse_config conf/train/dual_path_16k.yaml --pretrained_exp "${models}" \
    --inference_config "${inference_config}"
