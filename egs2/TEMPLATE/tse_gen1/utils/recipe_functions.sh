# shellcheck shell=bash disable=SC2034,SC2154
# What the stages of a recipe share: messages, checks, and the record of what is already made.

die() {
    echo "$(basename "$0"): error: $*" >&2
    exit 2
}

log() {
    echo "$(date '+%H:%M:%S') $*"
}

# need FILE STAGE: require what an earlier stage makes.
need() {
    [[ -e $1 ]] || die "$1 is missing: stage $2 makes it; run with --stage $2"
}

# whole_number MINIMUM OPTION...: require whole numbers of at least MINIMUM.
whole_number() {
    local minimum=$1 option
    shift
    for option in "$@"; do
        [[ ${!option} =~ ^[0-9]{1,9}$ && ${!option} -ge ${minimum} ]] ||
            die "--${option} takes a whole number of at least ${minimum}, not '${!option}'"
    done
}

# required OPTION...: require a value of each.
required() {
    local option where=
    [[ $0 != *data.sh ]] || where=' (in run.sh through --local_data_opts)'
    for option in "$@"; do
        [[ -n ${!option} ]] || die "--${option} is missing; give it to $(basename "$0")${where}, --help says what it is"
    done
}

# speakers_of SPLIT SUBSETS: set the array `options` to what says which speakers of which subsets of ${librispeech}, for programs.
speakers_of() {
    options=(--librispeech "${librispeech}")
    if [[ -n ${speakers_json} ]]; then
        options+=(--speakers_json "${speakers_json}" --split "$1")
    fi
    if [[ -n $2 ]]; then
        options+=(--subsets "${2//,/ }")
    fi
}

# keep_log FILE: give an existing log a number, so that a new one does not replace it.
keep_log() {
    local n=1
    [[ -e $1 ]] || return 0
    while [[ -e ${1%.log}.${n}.log ]]; do
        n=$((n + 1))
    done
    mv "$1" "${1%.log}.${n}.log"
}

# start_training DIR PYTHON -m MODULE ARGUMENT...: train with --ngpu GPUs on each of --num_nodes nodes, or with --train_processes
# processes on the CPU; the log is DIR/train.log.
start_training() {
    local train_log=$1/train.log rendezvous=$1/.dist_init_ gpus=()
    shift
    if [[ ${ngpu} -gt 1 || ${num_nodes} -gt 1 ]]; then
        rm -f "${rendezvous}"*
        # ESPnet's launcher repeats the whole log in a traceback; of that, what it says itself: the job has been reported.
        "${python}" -m espnet2.bin.launch --cmd "${cuda_cmd}" --log "${train_log}" --ngpu "${ngpu}" \
            --num_nodes "${num_nodes}" --init_file_prefix "${rendezvous}" --multiprocessing_distributed true -- "$@" \
            2> >(sed -u -e '/ (launch:[0-9]*) INFO: /d' -e '/^Command .* returned non-zero/d' \
                -e '/^#* The last .* lines of /,$d' \
                -e '/^Traceback (most recent call last):$/,${/^[A-Za-z_.]*Error: ./!d}' >&2)
        rm -f "${rendezvous}"*
    else
        keep_log "${train_log}"
        if [[ ${ngpu} -gt 0 ]]; then
            gpus=(--gpu "${ngpu}")
        elif [[ ${train_processes} -gt 1 ]]; then
            set -- "$1" -m torch.distributed.run --standalone --nproc-per-node "${train_processes}" "${@:2}" --dist_backend gloo \
                --dist_world_size "${train_processes}" --multiprocessing_distributed false
        fi
        ${cuda_cmd} "${gpus[@]}" "${train_log}" "$@" --ngpu "${ngpu}"
    fi
}

# tag_of FILE [ARGUMENTS]: a file's name and the arguments used with it, as part of a directory's name.
tag_of() {
    local tag
    tag=$(basename "${1%.yaml}")
    printf '%s' "${tag}$(sed -e 's/--/_/g' -e 's/[^A-Za-z0-9_.-]//g' <<< "${2:-}")"
}

# at_most NUMBER TABLE: the number, or that of the table's lines where it is smaller.
at_most() {
    local lines
    lines=$(wc -l < "$2") || return
    echo $(($1 < lines ? $1 : lines))
}

# todo STAMP OUTPUT WORD_OR_FILE...: true unless OUTPUT is current, as bin.current says from STAMP and from what it is made
# from. `made` records that once it is made. Neither nests.
todo() {
    local status=0
    _stamp=$1
    _state=$("${python}" -m espnet_tse_gen.bin.current "$@") || status=$?
    [[ -n ${_state} ]] || exit "${status}"
    if [[ ${status} -eq 0 ]]; then
        log "  $2: up to date"
        return 1
    fi
    rm -f "${_stamp}"
}

made() {
    mkdir -p "$(dirname "${_stamp}")"
    echo "${_state}" > "${_stamp}"
}

# running N NAME: true if stage N is to run, which is then announced.
running() {
    if [[ ${stage} -gt $1 || ${stop_stage} -lt $1 ]]; then
        return 1
    fi
    log "Stage $1: $2"
}

# protocol_of DIR KEY: what the protocol of a data directory says; empty where it says nothing.
protocol_of() {
    if [[ -f $1/protocol ]]; then
        awk -v key="$2" '$1 == key { print $2 }' "$1/protocol"
    fi
}

# targets_of DIR: numbers of the speakers that are targets in evaluation.
targets_of() {
    if [[ $(protocol_of "$1" targets) == first ]]; then
        echo 1
    else
        seq "${ref_num}"
    fi
}

# list_sources: list the clean utterances that dynamic mixing draws from.
list_sources() {
    local given=(--spk2enroll "${dumpdir}/raw/${train_set}/spk2enroll.json") state
    state=("${given[1]}")
    if [[ -n ${speech_dir} ]]; then
        given=(--speech_dir "${speech_dir}")
        state=("${speech_dir}/wav.scp" "${speech_dir}/utt2spk")
        [[ -f ${speech_dir}/utt2collection ]] && state+=("${speech_dir}/utt2collection")
    fi
    for file in "${state[@]}"; do
        [[ -f ${file} ]] || die "${file}: no such file; dynamic mixing draws from what it lists (or give --speech_dir)"
    done
    if todo "${sources_dir}/.done" "${sources_dir}/wav.scp" "${fs_hz}" "${state[@]}"; then
        ${train_cmd} --num-threads "${nj}" "${sources_dir}/log/prepare_sources.log" \
            "${python}" -m espnet_tse_gen.bin.prepare_sources "${given[@]}" --output_dir "${sources_dir}" --fs "${fs_hz}" --nj "${nj}"
        made
    fi
}

# embed_enrolments: the speaker embeddings of what training and validation enrol with, for models that take them.
embed_enrolments() {
    local output=${dumpdir}/embeddings/${train_set}.npz given=(--spk2enroll "${dumpdir}/raw/${train_set}/spk2enroll.json") n
    if ${dynamic_mixing}; then
        given=(--scp "${sources_dir}/wav.scp")
    fi
    for n in "${speakers[@]}"; do
        given+=(--scp "${dumpdir}/raw/${valid_set}/enroll_spk${n}.scp")
    done
    if todo "${output%.npz}.done" "${output}" "${given[@]}"; then
        ${train_cmd} "${dumpdir}/embeddings/log/${train_set}.log" "${python}" -m espnet_tse_gen.bin.embed_speakers \
            "${given[@]}" --output "${output}" --nj "${nj}"
        made
    fi
}

# data_of train|valid SET: set the array `options` to the data options of training, and `inputs` to their tables.
data_of() {
    local kind=$1 raw=${dumpdir}/raw/$2 codes=${codes_dir}/$2 n entry
    options=()
    inputs=("${raw}/wav.scp")
    local entries=("${raw}/wav.scp,speech_mix,sound") numbers=("${speakers[@]}")
    if ${dynamic_mixing} && [[ ${kind} == train ]]; then
        inputs=("${sources_dir}/wav.scp" "${sources_dir}/utt2spk")
        entries=("${inputs[0]},speech,sound" "${inputs[1]},speaker,text")
        numbers=()
    fi
    for n in "${numbers[@]}"; do
        entries+=("${raw}/spk${n}.scp,speech_ref${n},sound" "${raw}/enroll_spk${n}.scp,enroll_ref${n},text")
        inputs+=("${raw}/spk${n}.scp" "${raw}/enroll_spk${n}.scp")
        if ${use_codes}; then
            need "${codes}/codes_spk${n}.scp" 5
            entries+=("${codes}/codes_spk${n}.scp,codes_ref${n},kaldi_ark")
            inputs+=("${codes}/codes_spk${n}.scp")
        fi
    done
    for entry in "${inputs[@]}"; do
        need "${entry}" 3
    done
    for entry in "${entries[@]}"; do
        options+=("--${kind}_data_path_and_name_and_type" "${entry}")
    done
}

# training_inputs: set `train_data` to the options that statistics and training have in common, and `train_state` to
# the files and words that determine both.
training_inputs() {
    if [[ ${task} == tse_gen ]]; then
        need "${codec_dir}/codec.yaml" 4
    fi
    data_of train "${train_set}"
    train_data=("${options[@]}")
    train_state=("${tse_args}" "${inputs[@]}")
    data_of valid "${valid_set}"
    train_data+=("${options[@]}" --config "${tse_config}" --sample_rate "${fs_hz}")
    train_state+=("${inputs[@]}" "${tse_config}")
    if [[ ${task} == tse ]]; then
        train_data+=(--num_spk "${ref_num}")
    else
        train_data+=(--codec_dir "${codec_dir}" --ref_num "${ref_num}")
        train_state+=("${codec_dir}/codec.yaml")
    fi
    if ${embeddings}; then
        train_data+=(--speaker_embeddings "${dumpdir}/embeddings/${train_set}.npz")
        train_state+=("${dumpdir}/embeddings/${train_set}.done")
    fi
    local enrolments=${dumpdir}/raw/${train_set}/spk2enroll.json
    if [[ -f ${enrolments} ]]; then
        train_data+=(--train_spk2enroll "${enrolments}")
        train_state+=("${enrolments}")
    fi
}
