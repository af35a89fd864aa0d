# shellcheck shell=bash disable=SC2034
# How jobs are started. Each command is called as `COMMAND [--gpu N] [JOB=1:N] LOG PROGRAM ARGUMENT...`:
#   train_cmd   data preparation, tokens, statistics, scoring
#   cuda_cmd    training
#   decode_cmd  decoding
# Choose one, here or by --cmd_backend:
#   local       this machine; needs nothing else
#   slurm       job arrays of Slurm, which ask for what conf/slurm.yaml says; a command takes options too, such as
#               decode_cmd="utils/slurm_jobs.py --partition cpu --time 2:00:00 --max-jobs-run 50"
#   run.pl, queue.pl, slurm.pl   Kaldi's, where ESPNET_ROOT names a checkout of ESPnet (or KALDI_ROOT one of Kaldi)
cmd_backend=${cmd_backend:-local}

if [[ ${cmd_backend} =~ ^(local|run.pl)$ && ${num_nodes:-1} =~ ^[0-9]+$ && ${num_nodes:-1} -gt 1 ]]; then
    echo "cmd.sh: error: --num_nodes ${num_nodes} needs a cluster, but cmd_backend '${cmd_backend}' starts jobs on this machine" >&2
    exit 2
fi

case ${cmd_backend} in
    local)
        train_cmd="utils/run_jobs.py"
        cuda_cmd="utils/run_jobs.py"
        decode_cmd="utils/run_jobs.py"
        ;;
    slurm)
        train_cmd="utils/slurm_jobs.py"
        # By another name the same program, for espnet2.bin.launch.
        cuda_cmd="utils/slurm.pl"
        decode_cmd="utils/slurm_jobs.py"
        ;;
    run.pl | queue.pl | slurm.pl)
        _launcher=
        for _folder in "${ESPNET_ROOT:-/nowhere}"/{utils,egs2/TEMPLATE/asr1/utils,tools/kaldi/egs/wsj/s5/utils} \
            "${KALDI_ROOT:-/nowhere}/egs/wsj/s5/utils"; do
            if [[ -z ${_launcher} && -x ${_folder}/${cmd_backend} ]]; then
                _launcher=${_folder}/${cmd_backend}
            fi
        done
        if [[ -z ${_launcher} ]]; then
            echo "cmd.sh: error: ${cmd_backend} is not below ESPNET_ROOT or KALDI_ROOT; set one of them, or cmd_backend=local" >&2
            exit 2
        fi
        train_cmd="${_launcher}"
        cuda_cmd="${_launcher}"
        decode_cmd="${_launcher}"
        if [[ ${cmd_backend} != run.pl ]]; then
            train_cmd+=" --mem 4G"
            cuda_cmd+=" --mem 16G"
            decode_cmd+=" --mem 4G"
        fi
        ;;
    *)
        echo "cmd.sh: error: cmd_backend '${cmd_backend}' is not one of local, slurm, run.pl, queue.pl, slurm.pl" >&2
        exit 2
        ;;
esac
