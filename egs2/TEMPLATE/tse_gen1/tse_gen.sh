#!/usr/bin/env bash
# Target speaker extraction, from a corpus to scores: masked generative, or discriminative (TD-SpeakerBeam, SpEx+, MC-SpEx, dual-path),
# as --tse_config says. A discriminative extractor needs no codec: stages 4 and 5 are left out.
# Stages: 1 data preparation, 2 format wav, 3 remove short and check, 4 codec preparation, 5 token extraction,
#         6 statistics, 7 training, 8 decoding, 9 scoring, 10 report, 11 packing.
# Every stage can be run again alone, and does nothing where nothing has changed. A corpus starts this through its run.sh.
set -euo pipefail

# General
stage=1                     # first stage to run
stop_stage=11               # last stage to run
skip_data_prep=false        # leave out stages 1-5
skip_train=false            # leave out stages 4-7, and the data of training in stages 2-3
skip_eval=false             # leave out stages 8-10
skip_packing=false          # leave out stage 11
ngpu=0                      # GPUs per node for training; 0 trains on the CPU
train_processes=1           # processes for training on the CPU, of one thread each; two train 1.7 times as fast on two cores
num_nodes=1                 # nodes for training
nj=2                        # parallel jobs in data preparation, token extraction and scoring
inference_nj=2              # parallel jobs in decoding
gpu_inference=false         # extract tokens and decode on GPUs, one per job
cmd_backend=local           # how jobs start: local, slurm (conf/slurm.yaml says what they ask for), or Kaldi's run.pl,
#   queue.pl, slurm.pl; see cmd.sh
datadir=data                # where stage 1 puts data directories
dumpdir=dump                # where formatted audio and tokens go
expdir=exp                  # where codecs, models and results go
python=python3              # Python interpreter
# Data
train_set=train             # data directory of training
valid_set=dev               # data directory of validation
test_sets="test"            # data directories to decode and score
local_data_opts=            # options for local/data.sh
fs=16k                      # sampling rate, such as 8k or 16k
ref_num=2                   # speakers in a mixture
min_wav_duration=1.0        # shortest training and validation mixture in seconds
# Codec
codec_config=conf/codec/mel_16k.yaml    # a file of conf/codec, or 'auto': dac_16k where its weights are at hand, else
#   mini_16k, and mel_8k for recordings at 8 kHz
codec_tag=                  # name of the codec directory; default: that of the file
codec_dir=                  # a codec directory that is there, such as codec/ of the model that training starts from; empty: stage 4
#   makes <expdir>/codec_<codec_tag>
codec_args=                 # further options of bin.codec_prepare, such as '--download true'
use_codes=true              # train on tokens extracted in stage 5, not on the fly
token_args=                 # further options of bin.codec_tokenize, such as '--max_errors 3'
# Model
tse_config=conf/train/masked_small.yaml # a file of conf/train, which also says what kind of extractor it is
dynamic_mixing=             # draw training mixtures on the fly, true or false; empty: as the file says
speech_dir=                 # wav.scp and utt2spk of clean utterances for that, in the place of a training set; empty: what
#   the training set draws enrolments from
tse_tag=                    # name of the model; empty: from files and --tse_args
tse_args=                   # further options of training, such as '--max_epoch 5'
tse_exp=                    # directory of the model; default: <expdir>/<tse_tag>
tse_stats_dir=              # directory of stage 6; empty: from files and sets
pretrained_exp=             # directories of trained models to decode with as well, of any kind; with --skip_train true and a new
#   --tse_tag NAME, only with these: their scores and report go to <expdir>/NAME
# Decoding and scoring
inference_config=conf/decode/greedy_16.yaml # files of conf/decode, one or more; each model decodes with those of its kind
inference_args=             # further options of decoding
inference_tag=              # name of the outputs; default: decode_<file>
inference_model=            # checkpoint to decode with, such as valid.loss.ave.pth; empty: the best that is there
scoring_preset=signal       # signal, generative (adds DNSMOS) or full (adds CI-SDR, and DNSMOS by ESPnet)
scoring_protocol=           # measures to show, such as 'STOI SDR SI_SNR'; empty: all
score_with_asr=false        # compute WER and dWER
asr_exp=                    # exp directory of the ESPnet ASR model for that, or an unpacked one
published=                  # published figures to check the mixture row against, such as 'test=libri2mix_test_16k_min_clean';
#   see conf/published.yaml
scoring_args=               # further options of bin.score, such as '--networks wavlm'

_command_line=$(printf '%q ' "$0" "$@")
# shellcheck source=utils/parse_options.sh
. utils/parse_options.sh
. utils/recipe_functions.sh
. ./path.sh
. ./cmd.sh

# What was asked for, checked before anything is done.
[[ $# -eq 0 ]] || die "takes options only, found '$1' (--help lists all)"
whole_number 0 stage stop_stage ngpu
whole_number 1 num_nodes nj inference_nj ref_num train_processes
[[ ${fs} =~ ^([1-9][0-9]*)(k?)$ ]] || die "--fs takes a rate such as 16k or 16000, not '${fs}'"
fs_hz=${BASH_REMATCH[1]}${BASH_REMATCH[2]:+000}
[[ ${fs_hz} != *000 ]] || fs=${fs_hz%000}k
read -r -a decode_configs <<< "${inference_config}"
"${python}" -c 'import espnet_tse_gen' 2> /dev/null ||
    die "'${python}' cannot import espnet_tse_gen: run 'make' in the repository's root, or pip install -e '.[all]' there, or give --python"
declare -A renamed=([r1_base]=masked [b0_base]=masked_tokens [r1_dynamic]=masked_dynamic [mini]=masked_small
    [r1_front_end_dynamic]=masked_front_end [mini_long]=masked_small_long)
now=${renamed[$(basename "${tse_config}" .yaml)]:-}
[[ -f ${tse_config} ]] ||
    die "${tse_config}: no such file; ${now:+it is called ${now}.yaml now; }see conf/train for those there are"
task=$("${python}" -m espnet_tse_gen.bin.task_of "${tse_config}" --sample_rate "${fs_hz}") ||
    die "--tse_config ${tse_config}: cannot be used, see the line above"
if [[ ${task} == tse ]]; then
    # From waveform to waveform: no tokens, and no codec, of which the default stays in the options only.
    use_codes=false
    codec_config=conf/codec/mel_16k.yaml
elif [[ ${codec_config} == auto ]]; then
    codec_config=$("${python}" -m espnet_tse_gen.bin.codec_choose --conf_dir conf/codec --fs "${fs_hz}" \
        --expdir "${expdir}" "--codec_args=${codec_args}") || die "--codec_config auto: no codec chosen, see the line above"
fi
for file in "${codec_config}" "${tse_config}" "${decode_configs[@]}"; do
    [[ -f ${file} ]] || die "${file}: no such file; see $(dirname "${file}") for those there are"
done
[[ -z ${inference_tag} || ${#decode_configs[@]} -eq 1 ]] ||
    die "--inference_tag names one output, but --inference_config names ${#decode_configs[@]} files"
[[ -z ${codec_dir} || -f ${codec_dir}/codec.yaml ]] ||
    die "--codec_dir: ${codec_dir}/codec.yaml: no such file; give a directory that stage 4 made, or codec/ of a trained model"
read -r -a pretrained_exps <<< "${pretrained_exp}"
pretrained_tasks=()
for exp in "${pretrained_exps[@]}"; do
    [[ -f ${exp}/config.yaml ]] ||
        die "--pretrained_exp: ${exp}/config.yaml: no such file; give directories that training or packing made (models that ship: espnet_tse_gen/pretrained/NAME in the repository)"
    pretrained_tasks+=("$("${python}" -m espnet_tse_gen.bin.task_of "${exp}/config.yaml")") ||
        die "--pretrained_exp ${exp}: cannot be used, see the line above"
done
if ${score_with_asr}; then
    [[ -n ${asr_exp} ]] || die "--score_with_asr needs --asr_exp, the exp directory of an ESPnet ASR model"
    [[ -e ${asr_exp}/config.yaml || -e ${asr_exp}/meta.yaml ]] ||
        die "--asr_exp: ${asr_exp}/config.yaml: no such file; give a directory that an ASR training of ESPnet made"
fi

[[ ${dynamic_mixing} =~ ^(true|false|)$ ]] || die "--dynamic_mixing takes true or false, not '${dynamic_mixing}'"
stated=$(grep -q '^dynamic_mixing: *true' "${tse_config}" && echo true || echo false)
dynamic_mixing=${dynamic_mixing:-${stated}}
[[ ${dynamic_mixing} == "${stated}" ]] || tse_args="${tse_args:+${tse_args} }--dynamic_mixing ${dynamic_mixing}"
embeddings=false
if grep -Eq '^ +speaker_embedding: *[1-9]' "${tse_config}" || [[ ${tse_args} =~ speaker_embedding=[1-9] ]]; then
    embeddings=true
fi
speech_dir=${speech_dir//\{datadir\}/${datadir}}
[[ -z ${speech_dir} || ${dynamic_mixing} == true ]] || die "--speech_dir is for dynamic mixing; add --dynamic_mixing true"

# Options that hold several words.
mapfile -d '' -t data_opts < <(xargs -r printf '%s\0' <<< "${local_data_opts}")
read -r -a codec_opts <<< "${codec_args}"
read -r -a token_opts <<< "${token_args}"
read -r -a train_opts <<< "${tse_args}"
read -r -a score_opts <<< "${scoring_args}"
read -r -a tests <<< "${test_sets}"
mapfile -t speakers < <(seq "${ref_num}")

# Names of what is made.
codec_tag=${codec_tag:-$(tag_of "${codec_config}")}
given_codec=${codec_dir}
codec_dir=${codec_dir:-${expdir}/codec_${codec_tag}}
codes_dir=${dumpdir}/codec/${codec_tag}
codec_suffix=
if [[ ${task} == tse_gen ]]; then
    codec_suffix=_${codec_tag}
fi
given_tag=${tse_tag}
tse_tag=${tse_tag:-$(tag_of "${tse_config}" "${tse_args}")${codec_suffix}}
tse_exp=${tse_exp:-${expdir}/${tse_tag}}
tse_stats_dir=${tse_stats_dir:-${expdir}/tse_stats_$(tag_of "${tse_config}")${codec_suffix}_${train_set}_${fs}}
sources_dir=${dumpdir}/sources/${train_set}
train_sets=("${train_set}" "${valid_set}")
token_sets=("${train_set}" "${valid_set}")
if ${dynamic_mixing}; then
    tse_stats_dir+=_dynamic
    # Its tokens depend on what is drawn, so that none can be extracted beforehand.
    token_sets=("${valid_set}")
    if [[ -n ${speech_dir} ]]; then
        train_sets=("${valid_set}")
    fi
fi
if ${skip_train}; then
    train_sets=()
    token_sets=()
fi
mapfile -t all_sets < <(printf '%s\n' "${train_sets[@]}" "${tests[@]}" | awk 'NF && !seen[$0]++')
mapfile -t token_sets < <(printf '%s\n' "${token_sets[@]}" "${tests[@]}" | awk 'NF && !seen[$0]++')

if ! ${skip_data_prep}; then
    if running 1 "data preparation"; then
        [[ -x local/data.sh ]] || die "local/data.sh: no such program; it prepares the data directories of this corpus"
        local/data.sh --datadir "${datadir}" --fs "${fs}" --nj "${nj}" --python "${python}" "${data_opts[@]}"
    fi

    if running 2 "format wav: ${datadir} -> ${dumpdir}/raw/org"; then
        for dset in "${all_sets[@]}"; do
            need "${datadir}/${dset}/wav.scp" 1
            org=${dumpdir}/raw/org/${dset}
            if todo "${org}/.done" "${org}/wav.scp" "${fs_hz}" "${datadir}/${dset}"/*; then
                ${train_cmd} --num-threads "${nj}" "${org}/log/format_wav.log" "${python}" -m espnet_tse_gen.bin.format_wav \
                    --fs "${fs_hz}" --nj "${nj}" "${datadir}/${dset}" "${org}"
                made
            fi
        done
    fi

    if running 3 "remove short and check: ${dumpdir}/raw/org -> ${dumpdir}/raw"; then
        for dset in "${all_sets[@]}"; do
            org=${dumpdir}/raw/org/${dset}
            raw=${dumpdir}/raw/${dset}
            need "${org}/wav.scp" 2
            shortest=0 heard=()
            if [[ ${dset} != "${train_set}" ]] && ! ${skip_train}; then
                heard=(--train_dir "${speech_dir:-${dumpdir}/raw/${train_set}}")
            fi
            if [[ " ${train_sets[*]} " == *" ${dset} "* ]]; then
                shortest=${min_wav_duration}
            fi
            if todo "${raw}/.done" "${raw}/wav.scp" "${shortest}" "${ref_num}" "${fs_hz}" "${org}"/*; then
                mkdir -p "${raw}"
                # Tables of before that the set no longer has must not stay.
                find "${raw}" -maxdepth 1 -type f ! -name '.*' -delete
                find "${org}" -maxdepth 1 -type f ! -name '.*' -exec cp {} "${raw}" \;
                ${train_cmd} "${raw}/log/remove_short.log" "${python}" -m espnet_tse_gen.bin.remove_short \
                    --min_seconds "${shortest}" "${raw}"
                ${train_cmd} "${raw}/log/check_data.log" "${python}" -m espnet_tse_gen.bin.check_data \
                    --ref_num "${ref_num}" --fs "${fs_hz}" "${heard[@]}" "${raw}"
                grep ' warning: ' "${raw}/log/check_data.log" >&2 || true
                made
            fi
        done
        if ${dynamic_mixing} && ! ${skip_train}; then
            list_sources
        fi
    fi
fi

if ! ${skip_data_prep} && ! ${skip_train} && [[ ${task} == tse_gen ]]; then
    if running 4 "codec preparation: ${codec_dir}" && [[ -z ${given_codec} ]]; then
        fit=()
        if [[ -n ${speech_dir} ]]; then
            need "${sources_dir}/wav.scp" 3
            fit=(--wav_scp "${sources_dir}/wav.scp")
        fi
        for n in $([[ -n ${speech_dir} ]] || echo "${speakers[@]}"); do
            need "${dumpdir}/raw/${train_set}/spk${n}.scp" 3
            fit+=(--wav_scp "${dumpdir}/raw/${train_set}/spk${n}.scp" --level_scp "${dumpdir}/raw/${train_set}/wav.scp")
        done
        if todo "${codec_dir}/.done" "${codec_dir}/codec.yaml" "${codec_config}" "${codec_args}" "${fit[@]}"; then
            ${train_cmd} "${codec_dir}/log/prepare.log" "${python}" -m espnet_tse_gen.bin.codec_prepare \
                --codec_config "${codec_config}" --output_dir "${codec_dir}" "${fit[@]}" "${codec_opts[@]}"
            made
        fi
    fi

    if ${use_codes} && running 5 "token extraction: ${codes_dir}"; then
        need "${codec_dir}/codec.yaml" 4
        gpu=()
        if ${gpu_inference}; then
            gpu=(--gpu 1)
            # What the user gave comes later and wins.
            token_opts=(--device cuda --batched true "${token_opts[@]}")
        fi
        for dset in "${token_sets[@]}"; do
            raw=${dumpdir}/raw/${dset}
            codes=${codes_dir}/${dset}
            lists=()
            output=${codes}/codes_spk1.scp
            for n in "${speakers[@]}"; do
                need "${raw}/spk${n}.scp" 3
                lists+=(--wav_scp "${raw}/spk${n}.scp" --level_scp "${raw}/wav.scp" --name "codes_spk${n}")
                if [[ ! -f ${codes}/codes_spk${n}.scp ]]; then
                    output=${codes}/codes_spk${n}.scp
                fi
            done
            jobs=$(at_most "${nj}" "${raw}/wav.scp")
            if todo "${codes}/.codes.done" "${output}" "${codec_dir}/codec.yaml" "${token_args}" "${lists[@]}"; then
                ${train_cmd} "${gpu[@]}" "JOB=1:${jobs}" "${codes}/log/tokenize.JOB.log" \
                    "${python}" -m espnet_tse_gen.bin.codec_tokenize --codec_dir "${codec_dir}" --output_dir "${codes}" \
                    "${lists[@]}" --job JOB --num_jobs "${jobs}" "${token_opts[@]}"
                need "${codes}/codes_spk${ref_num}.scp" 5
                made
            fi
        done
    fi
fi

if ! ${skip_train}; then
    if running 6 "statistics: ${tse_stats_dir}"; then
        if ${embeddings}; then
            embed_enrolments
        fi
        training_inputs
        if todo "${tse_stats_dir}/.done" "${tse_stats_dir}/train/speech_mix_shape" "${train_state[@]}"; then
            ${train_cmd} "${tse_stats_dir}/log/stats.log" "${python}" -m "espnet_tse_gen.bin.${task}_train" \
                --collect_stats true --output_dir "${tse_stats_dir}" "${train_data[@]}" "${train_opts[@]}" --ngpu 0
            made
        fi
    fi

    if running 7 "training: ${tse_exp} (log: ${tse_exp}/train.log)"; then
        training_inputs
        for kind in train valid; do
            need "${tse_stats_dir}/${kind}/speech_mix_shape" 6
            train_data+=("--${kind}_shape_file" "${tse_stats_dir}/${kind}/speech_mix_shape")
        done
        if todo "${tse_exp}/.done" "${tse_exp}/config.yaml" "${train_state[@]}"; then
            start_training "${tse_exp}" "${python}" -m "espnet_tse_gen.bin.${task}_train" --output_dir "${tse_exp}" \
                --resume true "${train_data[@]}" "${train_opts[@]}"
            made
        fi
    fi
fi

# shellcheck source=utils/evaluation_stages.sh
. utils/evaluation_stages.sh

if ! ${skip_packing} && ! ${skip_train} && running 11 "packing: ${tse_exp}/${tse_tag}.zip"; then
    need "${tse_exp}/config.yaml" 7
    read -r -a own_configs <<< "$(configs_of "${task}")"
    chosen=(--decode_config "${own_configs[0]}")
    if [[ -n ${inference_model} ]]; then
        need "${tse_exp}/${inference_model}" 7
        chosen+=(--model_file "${inference_model}")
    fi
    if todo "${tse_exp}/.pack.done" "${tse_exp}/${tse_tag}.zip" "${chosen[@]}" "${tse_exp}/config.yaml" \
        "${tse_exp}/RESULTS.md" "${tse_exp}"/*.pth; then
        ${train_cmd} "${tse_exp}/log/pack.log" "${python}" -m espnet_tse_gen.bin.pack --exp_dir "${tse_exp}" \
            "${chosen[@]}" --output "${tse_exp}/${tse_tag}.zip" --overwrite true
        made
    fi
fi
log "Done."
