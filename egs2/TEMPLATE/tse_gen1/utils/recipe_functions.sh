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

# keep_log FILE: give an existing log a number, so that a new one does not replace it.
keep_log() {
    local n=1
    [[ -e $1 ]] || return 0
    while [[ -e ${1%.log}.${n}.log ]]; do
        n=$((n + 1))
    done
    mv "$1" "${1%.log}.${n}.log"
}

# tag_of FILE [ARGUMENTS]: a file's name and the arguments used with it, as part of a directory's name.
tag_of() {
    local tag
    tag=$(basename "${1%.yaml}")
    printf '%s' "${tag}$(sed -e 's/--/_/g' -e 's/[^A-Za-z0-9_.-]//g' <<< "${2:-}")"
}

lines() {
    wc -l < "$1"
}

# at_most A B: the smaller number.
at_most() {
    echo $(($1 < $2 ? $1 : $2))
}

# state_of WORD_OR_FILE...: a digest of the words, of the contents of files among them (of a checkpoint, its size and
# time), and, of every table (*scp), of sizes and times of the files that it lists.
state_of() {
    local item
    for item in "$@"; do
        echo "${item}"
        [[ -f ${item} ]] || continue
        if [[ ${item} == *.pth ]]; then
            stat -L -c '%s %Y' "${item}"
        else
            cat "${item}"
        fi
        [[ ${item} == *scp ]] || continue
        awk '$2 !~ /^[*]/ { sub(/:[0-9]+$/, "", $2); print $2 }' "${item}" | sort -u | tr '\n' '\0' |
            xargs -0 -r stat -c '%n %s %Y' 2> /dev/null || true
    done | sha256sum | cut -d ' ' -f 1
}

# todo STAMP OUTPUT STATE...: true unless OUTPUT is there and STAMP says that it was made from the same STATE (as for
# state_of). `made` records it once it is made. Neither nests.
todo() {
    _stamp=$1
    local output=$2
    shift 2
    _state=$(state_of "$@")
    if [[ -e ${output} && -f ${_stamp} && $(< "${_stamp}") == "${_state}" ]]; then
        log "  ${output}: up to date"
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

# tables DIR: the tables of a data directory, for the record of what was made from them.
tables() {
    local n
    echo "$1/wav.scp" "$1/spk2gender" "$1/spk2enroll.json"
    for n in "${speakers[@]}"; do
        echo "$1/spk${n}.scp" "$1/enroll_spk${n}.scp" "$1/target_spk${n}"
    done
}

# data_of train|valid SET: set the array `options` to the data options of training, and `inputs` to their tables.
data_of() {
    local kind=$1 raw=${dumpdir}/raw/$2 codes=${codes_dir}/$2 n entry
    options=()
    inputs=("${raw}/wav.scp")
    local entries=("${raw}/wav.scp,speech_mix,sound")
    for n in "${speakers[@]}"; do
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
    need "${codec_dir}/codec.yaml" 4
    data_of train "${train_set}"
    train_data=("${options[@]}")
    train_state=("${tse_args}" "${inputs[@]}")
    data_of valid "${valid_set}"
    train_data+=("${options[@]}" --config "${tse_config}" --codec_dir "${codec_dir}")
    train_data+=(--sample_rate "${fs_hz}" --ref_num "${ref_num}")
    train_state+=("${inputs[@]}" "${tse_config}" "${codec_dir}/codec.yaml")
    local enrolments=${dumpdir}/raw/${train_set}/spk2enroll.json
    if [[ -f ${enrolments} ]]; then
        train_data+=(--train_spk2enroll "${enrolments}")
        train_state+=("${enrolments}")
    fi
}
