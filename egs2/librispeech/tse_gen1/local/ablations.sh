#!/usr/bin/env bash
# What the parts of the dual-path extractor bring, at an equal, short budget: as it is, without the enrolment's frames, without the
# embedding of the voice, without attention over bands, and on fewer hours of speech. Validation in EXPDIR/ablations/comparison.md.
#   local/ablations.sh --local_data_opts "--librispeech /corpora/LibriSpeech" --epochs 2
# Options are those of run.sh, and three more:
#   --epochs N        of 150 steps each; the learning rate falls to almost zero over them (2)
#   --mixing OPTIONS  further --tse_args, for all: shares of collections, noise, ...
#   --fewer OPTIONS   the --tse_args of the training on fewer hours; without it, there is none
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

epochs=2
mixing=
fewer=
expdir=exp
python=python3
given=()
while [[ $# -gt 0 ]]; do
    [[ $1 != --help ]] || { sed -n '2,/^set/{/^set/!s/^# \{0,1\}//p}' "local/ablations.sh" && exit 0; }
    [[ $# -ge 2 ]] || { echo "ablations.sh: error: $1 needs a value" >&2 && exit 2; }
    case $1 in
        --epochs | --mixing | --fewer) printf -v "${1#--}" '%s' "$2" ;;
        --expdir | --python) printf -v "${1#--}" '%s' "$2" && given+=("$1" "$2") ;;
        *) given+=("$1" "$2") ;;
    esac
    shift 2
done
[[ ${epochs} =~ ^[1-9][0-9]*$ ]] || { echo "ablations.sh: error: --epochs takes a number, not '${epochs}'" >&2 && exit 2; }

trainings=()
# train NAME [ARGUMENTS]
train() {
    ./run.sh "${given[@]}" --skip_eval true --stage 6 --stop_stage 7 --tse_config conf/train/dual_path_16k.yaml --tse_tag "ablations/$1" \
        --tse_args "--max_epoch ${epochs} --scheduler_conf first_cycle_steps=$((150 * epochs)) ${mixing} ${2:-}"
    trainings+=("${expdir}/ablations/$1")
}

train dual_path
train no_enroll_frames "--extractor_conf enroll_frames=false"
train no_speaker_embedding "--extractor_conf speaker_embedding=false"
train no_band_attention "--extractor_conf band_attention=false"
[[ -z ${fewer} ]] || train fewer_hours "${fewer}"
"${python}" -m espnet_tse_gen.bin.compare_trainings --exp_dirs "${trainings[@]}" --measure si_sdr_loss \
    --output_dir "${expdir}/ablations" --command "local/ablations.sh --epochs ${epochs}"
