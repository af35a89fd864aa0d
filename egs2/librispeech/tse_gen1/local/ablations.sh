#!/usr/bin/env bash
# What the parts of the dual-path extractor bring, at an equal, short budget: as it is, without the enrolment's frames, without the
# embedding of the voice, without attention over bands, and on fewer hours of speech. Validation in EXPDIR/ablations/comparison.md.
#   local/ablations.sh --local_data_opts "--librispeech /corpora/LibriSpeech" --epochs 2
# Options are those of run.sh, and these:
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

epochs=2                    # of 150 steps each; the learning rate falls to almost zero over them
mixing=                     # further --tse_args, for all: shares of collections, noise, ...
fewer=                      # the --tse_args of the training on fewer hours; without it, there is none
expdir=exp                  # where models and results go
python=python3              # Python interpreter
declare -a given=()

. ./path.sh
. utils/parse_options.sh
. utils/recipe_functions.sh

given+=("$@" --expdir "${expdir}" --python "${python}")
whole_number 1 epochs

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
