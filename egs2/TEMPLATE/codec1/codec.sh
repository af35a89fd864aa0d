#!/usr/bin/env bash
# Training of a codec, from a corpus of clean speech to a table of figures.
# Stages: 1 data preparation, 2 training, 3 codec directory, 4 table.
# Every stage can be run again alone, and does nothing where nothing has changed. A corpus starts this through its run.sh.
set -euo pipefail

# General
stage=1                     # first stage to run
stop_stage=4                # last stage to run
ngpu=0                      # GPUs per node for training; 0 trains on the CPU
train_processes=1           # processes for training on the CPU, of one thread each; two train 1.7 times as fast on two cores
num_nodes=1                 # nodes for training
nj=2                        # parallel jobs in computing the table
datadir=data                # where stage 1 puts data directories
expdir=exp                  # where trainings, codecs and the table go
python=python3              # Python interpreter
# Data
train_set=train             # data directory of training
valid_set=dev               # data directory of validation
test_set="test"             # data directory of the table
local_data_opts=            # options for local/data.sh
# Training
train_config=conf/train_codec/mini_16k.yaml # a file of conf/train_codec
train_tag=                  # name of the training; empty: from the file and --train_args
train_args=                 # further options of bin.codec_train, such as '--max_epoch 5'
# Codec directory
model_file=                 # checkpoint to take, such as latest.pth; empty: the best by the training's first criterion
codec_config=               # a file of conf/codec; default: that named like --train_config, else conf/codec/espnet.yaml
codec_tag=                  # name of the codec directory; default: that of the training
codec_args=                 # further options of bin.codec_prepare
# Table
compare=                    # further codec directories to put into it
probe=true                  # also measure how well a small network predicts the tokens
table_args=                 # further options of benchmarks/codec_table.py

# shellcheck source=utils/parse_options.sh
. utils/parse_options.sh
. utils/recipe_functions.sh
. ./path.sh
. ./cmd.sh

# What was asked for, checked before anything is done.
[[ $# -eq 0 ]] || die "takes options only, found '$1' (--help lists all)"
whole_number 0 stage stop_stage ngpu
whole_number 1 num_nodes nj train_processes
if [[ -z ${codec_config} ]]; then
    codec_config=conf/codec/$(basename "${train_config}")
    [[ -f ${codec_config} ]] || codec_config=conf/codec/espnet.yaml
fi
for file in "${train_config}" "${codec_config}"; do
    [[ -f ${file} ]] || die "${file}: no such file; see $(dirname "${file}") for those there are"
done
"${python}" -c 'import espnet_tse_gen' 2> /dev/null ||
    die "'${python}' cannot import espnet_tse_gen: run 'make' in the repository's root, or pip install -e '.[all]' there, or give --python"

# Options that hold several words.
mapfile -d '' -t data_opts < <(xargs -r printf '%s\0' <<< "${local_data_opts}")
read -r -a train_opts <<< "${train_args}"
read -r -a codec_opts <<< "${codec_args}"
read -r -a table_opts <<< "${table_args}"
read -r -a others <<< "${compare}"
for directory in "${others[@]}"; do
    [[ -f ${directory}/codec.yaml ]] || die "--compare: ${directory}/codec.yaml: no such file; give codec directories"
done

# Names of what is made.
train_tag=${train_tag:-$(tag_of "${train_config}" "${train_args}")}
train_exp=${expdir}/codec_train_${train_tag}
codec_tag=${codec_tag:-${train_tag}}
codec_dir=${expdir}/codec_${codec_tag}
table_dir=${expdir}/codec_table_${codec_tag}

if running 1 "data preparation"; then
    [[ -x local/data.sh ]] || die "local/data.sh: no such program; it prepares the data directories of this corpus"
    local/data.sh --datadir "${datadir}" --train_set "${train_set}" --valid_set "${valid_set}" --test_set "${test_set}" \
        --python "${python}" "${data_opts[@]}"
fi

if running 2 "training: ${train_exp} (log: ${train_exp}/train.log)"; then
    tables=("${datadir}/${train_set}/wav.scp" "${datadir}/${valid_set}/wav.scp")
    for table in "${tables[@]}"; do
        need "${table}" 1
    done
    if todo "${train_exp}/.done" "${train_exp}/config.yaml" "${train_config}" "${train_args}" "${tables[@]}"; then
        start_training "${train_exp}" "${python}" -m espnet_tse_gen.bin.codec_train --output_dir "${train_exp}" --resume true \
            --config "${train_config}" --train_data_path_and_name_and_type "${tables[0]},audio,sound" \
            --valid_data_path_and_name_and_type "${tables[1]},audio,sound" "${train_opts[@]}"
        made
    fi
fi

if running 3 "codec directory: ${codec_dir}"; then
    need "${train_exp}/config.yaml" 2
    need "${datadir}/${valid_set}/wav.scp" 1
    weights=${train_exp}${model_file:+/${model_file}}
    need "${weights}" 2
    if todo "${codec_dir}/.done" "${codec_dir}/codec.yaml" "${codec_config}" "${codec_args}" "${weights}" \
        "${train_exp}/config.yaml" "${train_exp}"/*.pth; then
        # Or a codec of the same settings, but of a training since gone on, would be kept.
        rm -f "${codec_dir}/codec.yaml"
        ${train_cmd} "${codec_dir}/log/prepare.log" "${python}" -m espnet_tse_gen.bin.codec_prepare \
            --codec_config "${codec_config}" --weights "${weights}" --output_dir "${codec_dir}" \
            --wav_scp "${datadir}/${valid_set}/wav.scp" "${codec_opts[@]}"
        made
    fi
fi

if running 4 "table: ${table_dir}/codec_table.md"; then
    need "${codec_dir}/codec.yaml" 3
    need "${datadir}/${test_set}/wav.scp" 1
    options=(--wav_scp "${datadir}/${test_set}/wav.scp" --nj "${nj}")
    state=("${datadir}/${test_set}/wav.scp" "${probe}" "${table_args}")
    for directory in "${codec_dir}" "${others[@]}"; do
        options+=(--codec_dir "${directory}")
        state+=("${directory}/codec.yaml")
    done
    if ${probe}; then
        need "${datadir}/${train_set}/wav.scp" 1
        options+=(--probe_train_scp "${datadir}/${train_set}/wav.scp")
        state+=("${datadir}/${train_set}/wav.scp")
    fi
    if todo "${table_dir}/.done" "${table_dir}/codec_table.md" "${state[@]}"; then
        repository=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../../..
        ${train_cmd} "${table_dir}/log/table.log" "${python}" "${repository}/benchmarks/codec_table.py" \
            --output_dir "${table_dir}" "${options[@]}" "${table_opts[@]}"
        made
    fi
fi
log "Done."
