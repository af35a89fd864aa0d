# shellcheck shell=bash disable=SC2154
# Stages 8 to 10 of the recipe: decoding, scoring, report. Sourced by tse_gen.sh, whose names it uses.

# The systems to decode with. names[i] is decoded into dirs[i] with exps[i], a model of the task tasks[i]: tse_gen is masked
# generative, tse discriminative.
names=("${tse_tag}")
exps=("${tse_exp}")
dirs=("${tse_exp}")
models=("${inference_model}")
tasks=("${task}")
result_dir=
if [[ ${#pretrained_exps[@]} -gt 0 ]] && ${skip_train} && [[ ! -f ${tse_exp}/config.yaml ]]; then
    names=() exps=() dirs=() models=() tasks=()
    # A name that was given is that of the comparison.
    result_dir=${given_tag:+${tse_exp}}
fi
for i in "${!pretrained_exps[@]}"; do
    name=$(basename "${pretrained_exps[i]}")
    [[ " ${names[*]} " != *" ${name} "* ]] ||
        die "--pretrained_exp: two models are called '${name}', and rows of the table are named by that; rename one"
    names+=("${name}")
    exps+=("${pretrained_exps[i]}")
    dirs+=("${expdir}/pretrained_${name}")
    models+=("")
    tasks+=("${pretrained_tasks[i]}")
done

# Options of discriminative models that masked generative ones do not have.
segment_options='segment_seconds|overlap_seconds|scale|augmentations'

# configs_of TASK: the files of --inference_config for models of TASK, or the default where none of them is.
configs_of() {
    local config found=()
    for config in "${decode_configs[@]}"; do
        if [[ $(grep -Eqs "^(${segment_options}) *:" "${config}" && echo tse || echo tse_gen) == "$1" ]]; then
            found+=("${config}")
        fi
    done
    if [[ ${#found[@]} -eq 0 ]]; then
        found=("$([[ $1 == tse ]] && echo conf/decode/segments.yaml || echo conf/decode/greedy_16.yaml)")
    fi
    echo "${found[*]}"
}

# arguments_of TASK: what of --inference_args is for models of TASK, where models of both tasks decode; else all of it, and
# what is not for them is an error.
arguments_of() {
    local word keep=true wanted=()
    if [[ " ${tasks[*]} " != *" tse "* || " ${tasks[*]} " != *" tse_gen "* ]]; then
        echo "${inference_args}"
        return
    fi
    for word in ${inference_args}; do
        # A word that is no option is the value of the option before it.
        if [[ ${word} == --* ]]; then
            keep=false
            if [[ ${word%%=*} =~ ^--(batch_size|device|dtype|num_threads|overwrite)$ ]]; then
                keep=true
            elif [[ ${word%%=*} =~ ^--(${segment_options})$ ]]; then
                [[ $1 != tse ]] || keep=true
            elif [[ $1 == tse_gen ]]; then
                keep=true
            fi
        fi
        if ${keep}; then
            wanted+=("${word}")
        fi
    done
    echo "${wanted[*]}"
}

# codec_of CODEC_DIR: its fingerprint; empty if there is no such directory.
codec_of() {
    if [[ -f $1/codec.yaml ]]; then
        sed -n 's/^fingerprint: *//p' "$1/codec.yaml"
    fi
}

# transcripts_of SET SPEAKER: the table of transcripts, where data preparation made one.
transcripts_of() {
    local table=${dumpdir}/raw/$1/text_spk$2
    if [[ ! -f ${table} ]]; then
        table=${datadir}/$1/text_spk$2
    fi
    echo "${table}"
}

# Else, scores of all go where the first one's outputs are.
result_dir=${result_dir:-${dirs[0]}}

# decode_tag CONFIG ARGUMENTS: the name of what they make.
decode_tag() {
    echo "${inference_tag:-decode_$(tag_of "$1" "$2")}"
}

if ! ${skip_eval}; then
    device=cpu
    gpu=()
    if ${gpu_inference}; then
        device=cuda
        gpu=(--gpu 1)
    fi
    if running 8 "decoding"; then
        for i in "${!names[@]}"; do
            need "${exps[i]}/config.yaml" 7
            model=()
            if [[ -n ${models[i]} ]]; then
                need "${exps[i]}/${models[i]}" 7
                model=(--model_file "${models[i]}")
            fi
            arguments=$(arguments_of "${tasks[i]}")
            read -r -a decode_opts <<< "${arguments}"
            if ${gpu_inference}; then
                # Recordings together pay on a GPU; what the user gave comes later and wins.
                decode_opts=(--batch_size 16 "${decode_opts[@]}")
            fi
            for config in $(configs_of "${tasks[i]}"); do
                for dset in "${tests[@]}"; do
                    raw=${dumpdir}/raw/${dset}
                    out=${dirs[i]}/$(decode_tag "${config}" "${arguments}")/${dset}
                    need "${raw}/wav.scp" 3
                    jobs=$(at_most "${inference_nj}" "${raw}/wav.scp")
                    for n in $(targets_of "${raw}"); do
                        target=(--target_scp "${raw}/spk${n}.scp")
                        if [[ $(protocol_of "${raw}" enroll_list_raw) == true ]]; then
                            # The list is wanted with the enrolments that are the target itself.
                            target=()
                        fi
                        tokens=()
                        codes=${codes_dir}/${dset}/codes_spk${n}.scp
                        if [[ ${tasks[i]} == tse_gen && -f ${codes} && $(codec_of "${exps[i]}/codec") == "$(codec_of "${codec_dir}")" ]]; then
                            tokens=(--codes_scp "${codes}")
                        fi
                        if todo "${out}/.spk${n}.done" "${out}/spk${n}.scp" "${config}" "${arguments}" \
                            "${model[@]}" "${exps[i]}"/*.{pth,safetensors} "${raw}/wav.scp" "${raw}/enroll_spk${n}.scp" "${tokens[@]}"; then
                            ${decode_cmd} "${gpu[@]}" "JOB=1:${jobs}" "${out}/log/decode_spk${n}.JOB.log" \
                                "${python}" -m espnet_tse_gen.bin.tse_gen_inference --model_dir "${exps[i]}" \
                                "${model[@]}" --mixture_scp "${raw}/wav.scp" "${target[@]}" \
                                --enroll_scp "${raw}/enroll_spk${n}.scp" --output_dir "${out}" --name "spk${n}" \
                                --decode_config "${config}" --device "${device}" --job JOB --num_jobs "${jobs}" \
                                "${tokens[@]}" "${decode_opts[@]}"
                            need "${out}/spk${n}.scp" 8
                            made
                        fi
                    done
                done
            done
        done
    fi

    # The rows of the table: systems[i] has its outputs in outputs[i].
    # through[i] has clean speech through the codec of systems[i], on which that codec's delay is measured; a discriminative
    # model has no codec, and no row for one.
    systems=(mixture)
    outputs=("")
    through=("")
    ceilings=()
    ceiling_dirs=()
    for i in "${!names[@]}"; do
        ceiling_dirs+=("")
        [[ ${stage} -le 10 && ${stop_stage} -ge 9 ]] || continue
        need "${exps[i]}/config.yaml" 7
        [[ ${tasks[i]} == tse_gen ]] || continue
        for ((j = 0; j < i; j++)); do
            if [[ -n ${ceiling_dirs[j]} && $(codec_of "${exps[i]}/codec") == "$(codec_of "${exps[j]}/codec")" ]]; then
                ceiling_dirs[i]=${ceiling_dirs[j]}
                break
            fi
        done
        if [[ -z ${ceiling_dirs[i]} ]]; then
            ceiling_dirs[i]=${dirs[i]}/codec_ceiling
            systems+=("codec of ${names[i]}")
            outputs+=("${ceiling_dirs[i]}")
            through+=("${ceiling_dirs[i]}")
            ceilings+=("${exps[i]}/codec")
        fi
    done
    for i in "${!names[@]}"; do
        arguments=$(arguments_of "${tasks[i]}")
        for config in $(configs_of "${tasks[i]}"); do
            systems+=("${names[i]} $(basename "${config%.yaml}")${arguments:+ ${arguments}}")
            outputs+=("${dirs[i]}/$(decode_tag "${config}" "${arguments}")")
            through+=("${ceiling_dirs[i]}")
        done
    done

    # The sets, as tables and page name them, and what says how each was made.
    folders=() protocols=()
    for dset in "${tests[@]}"; do
        folders+=("${dset}=${dumpdir}/raw/${dset}")
        protocols+=("${dumpdir}/raw/${dset}/protocol" "${dumpdir}/raw/${dset}/spk2gender")
    done

    if running 9 "scoring: ${result_dir}/scores.csv"; then
        versions=$("${python}" -c 'from espnet_tse_gen.scoring.metrics.base import versions; print(versions())')
        for dset in "${tests[@]}"; do
            raw=${dumpdir}/raw/${dset}
            need "${raw}/wav.scp" 3
            for i in "${!ceilings[@]}"; do
                out=${outputs[i + 1]}/${dset}
                for n in $(targets_of "${raw}"); do
                    jobs=$(at_most "${nj}" "${raw}/wav.scp")
                    if todo "${out}/.spk${n}.done" "${out}/spk${n}.scp" "${ceilings[i]}/codec.yaml" \
                        "${raw}/spk${n}.scp" "${raw}/wav.scp"; then
                        ${train_cmd} "JOB=1:${jobs}" "${out}/log/resynth_spk${n}.JOB.log" \
                            "${python}" -m espnet_tse_gen.bin.codec_resynth --codec_dir "${ceilings[i]}" \
                            --wav_scp "${raw}/spk${n}.scp" --level_scp "${raw}/wav.scp" --mixture auto \
                            --output_dir "${out}" --name "spk${n}" --job JOB --num_jobs "${jobs}"
                        need "${out}/spk${n}.scp" 9
                        made
                    fi
                done
            done
            for i in "${!systems[@]}"; do
                out=${outputs[i]:-${result_dir}/mixture}/${dset}
                inf=()
                words=()
                state=("${systems[i]}" "${scoring_preset}" "${scoring_args}" "${versions}" "${raw}/spk2gender" "${out}"/*rtf.json)
                if ${score_with_asr}; then
                    words=(--score_with_asr true --asr_exp "${asr_exp}" --clean_dir "${result_dir}/clean/${dset}")
                    state+=("${words[@]}" "${asr_exp}"/*.yaml "${asr_exp}"/*.pth)
                fi
                for n in $(targets_of "${raw}"); do
                    scp=${out}/spk${n}.scp
                    if [[ -z ${outputs[i]} ]]; then
                        scp=${raw}/wav.scp
                    fi
                    need "${scp}" 8
                    inf+=(--inf_scp "${scp}")
                    state+=("${scp}" "${raw}/spk${n}.scp" "${raw}/target_spk${n}")
                    if [[ -n ${through[i]} ]]; then
                        inf+=(--ceiling_scp "${through[i]}/${dset}/spk${n}.scp")
                    fi
                    if ${score_with_asr}; then
                        words+=(--text "$(transcripts_of "${dset}" "${n}")")
                        state+=("$(transcripts_of "${dset}" "${n}")")
                    fi
                done
                if [[ -n ${through[i]} ]]; then
                    inf+=(--delay auto)
                fi
                # Another folder of scores has rows of its own, and one whose table was removed has none.
                stamp=${out}/scoring/.${result_dir//\//_}.done
                cut -d , -f 1,2 "${result_dir}/scores.csv" 2> /dev/null | grep -Fx "${systems[i]},${dset}" > /dev/null || rm -f "${stamp}"
                if todo "${stamp}" "${result_dir}/scores.csv" "${state[@]}" "${raw}/wav.scp"; then
                    ${train_cmd} --num-threads "${nj}" "${out}/scoring/score.log" "${python}" -m espnet_tse_gen.bin.score \
                        --data_dir "${raw}" --set "${dset}" --system "${systems[i]}" "${inf[@]}" --nj "${nj}" \
                        --preset "${scoring_preset}" --output_dir "${out}/scoring" \
                        --scores "${result_dir}/scores.csv" "${words[@]}" "${score_opts[@]}"
                    made
                fi
            done
        done
        measures=()
        if [[ -n ${scoring_protocol} ]]; then
            read -r -a measures <<< "--measures ${scoring_protocol}"
        fi
        measures+=(--data_dirs "${folders[@]}")
        if [[ -n ${published} ]]; then
            read -r -a checks <<< "${published}"
            measures+=(--published conf/published.yaml --check "${checks[@]}")
        fi
        if todo "${result_dir}/.results.done" "${result_dir}/RESULTS.md" "${systems[@]}" "${tests[@]}" \
            "${measures[@]}" "${protocols[@]}" "${result_dir}/scores.csv"; then
            ${train_cmd} "${result_dir}/log/results.log" "${python}" -m espnet_tse_gen.bin.make_results \
                --exp_dir "${result_dir}" --systems "${systems[@]}" --sets "${tests[@]}" "${measures[@]}" \
                --command "${_command_line}"
            made
        fi
        log "  ${result_dir}/RESULTS.md"
    fi

    if running 10 "report: ${result_dir}/report"; then
        need "${result_dir}/scores.csv" 9
        rows=()
        tables=()
        for i in "${!systems[@]}"; do
            rows+=("${systems[i]}${outputs[i]:+=${outputs[i]}}")
            for dset in "${tests[@]}"; do
                tables+=("${outputs[i]}/${dset}/spk1.scp")
            done
        done
        if todo "${result_dir}/.report.done" "${result_dir}/report/index.html" "${folders[@]}" "${rows[@]}" \
            "${tables[@]}" "${protocols[@]}" "${result_dir}/scores.csv"; then
            ${train_cmd} "${result_dir}/log/report.log" "${python}" -m espnet_tse_gen.bin.report \
                --exp_dir "${result_dir}" --sets "${folders[@]}" --systems "${rows[@]}" --command "${_command_line}"
            made
        fi
        log "  ${result_dir}/report/index.html"
    fi
fi
