#!/usr/bin/env bash
# Trained extractors on fixed evaluation sets of unheard speakers: one table per set, with intervals, by sexes and by ratio of the
# talkers, in EXPDIR/measured/RESULTS.md, and a report page beside it. Sets, outputs and scores that are there are kept.
#   local/measure.sh --librispeech /corpora/LibriSpeech --speakers_json splits_more.json --models "exp/dual_path_16k exp/mc_spex_16k"
# Options of its own; all others go to run.sh (--nj, --inference_nj, --scoring_preset, ...):
#   --librispeech, --speakers_json, --metadata, --sets, --num_mixtures   as local/test_sets.sh has them
#   --models DIRS     exp directories, or what bin/pack.py made (the models that ship are in espnet_tse_gen/pretrained)
#   --test_sets NAMES which of the sets to decode and score
#   --tse_tag NAME    the folder of the results (measured)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

test_sets="test_a test_b_speechocean test_b_commonvoice dev_c"
tse_tag=measured
python=python3
models=
made=()
given=()
while [[ $# -gt 0 ]]; do
    [[ $1 != --help ]] || { sed -n '2,/^set/{/^set/!s/^# \{0,1\}//p}' "local/measure.sh" && exit 0; }
    [[ $# -ge 2 ]] || { echo "measure.sh: error: $1 needs a value" >&2 && exit 2; }
    case $1 in
        --librispeech | --speakers_json | --metadata | --sets | --num_mixtures | --allow_missing) made+=("$1" "$2") ;;
        --models | --test_sets | --tse_tag) printf -v "${1#--}" '%s' "$2" ;;
        --python) python=$2 && given+=("$1" "$2") ;;
        *) given+=("$1" "$2") ;;
    esac
    shift 2
done
[[ -n ${models} ]] || { echo "measure.sh: error: --models is missing; name exp directories" >&2 && exit 2; }

local/test_sets.sh --python "${python}" "${made[@]}"
./run.sh "${given[@]}" --stage 2 --stop_stage 10 --skip_train true --tse_tag "${tse_tag}" --test_sets "${test_sets}" \
    --tse_config conf/train/dual_path_16k.yaml --pretrained_exp "${models}" --inference_config conf/decode/mirrored.yaml
