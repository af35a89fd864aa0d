#!/usr/bin/env python3
"""Run numbered jobs as a Slurm job array. Called as ``run_jobs.py`` is; needs nothing but Python and Slurm's commands.

``slurm_jobs.py JOB=1:4 exp/log/decode.JOB.log python decode.py --keys split/keys.JOB.scp`` submits an array of four jobs, each
with JOB replaced by its number everywhere, and each with its own log, and waits for all of them. What they ask of the
cluster is in conf/slurm.yaml; options given here win. When a job fails no further one starts, the last lines of its log are
printed with the log's path, and the exit status is 1. Ctrl-C, SIGTERM and SIGHUP cancel the jobs; those of a launcher that
was killed are cancelled when it is started again.

``slurm.pl`` is a link to this program: by that name ``espnet2.bin.launch`` knows that jobs of several nodes start by srun.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence

from run_jobs import handle_signals, last_lines, parse_call
from slurm_array import PROGRAM, LaunchError, SlurmArray, Stopped
from slurm_options import ALSO_HERE, CONFIG, resolve, sbatch_options


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of the options that come before ``JOB=1:N``."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage=f"{PROGRAM} [options] [JOB=1:N] LOG COMMAND [ARGUMENT ...]",
        allow_abbrev=False,
    )
    parser.add_argument("--gpu", type=int, default=0, help="GPUs per job (per node with --num-nodes)")
    parser.add_argument("--num-nodes", "--num_nodes", type=int, default=1, help="nodes per job, for what srun starts")
    parser.add_argument("--num-threads", "--num_threads", type=int, default=0, help="processors per job at least")
    parser.add_argument("--max-jobs-run", "--max_jobs_run", type=int, help="jobs at once at most; 0: no limit")
    for name in ALSO_HERE:
        parser.add_argument(f"--{name}", help="as for sbatch")
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="any long option of sbatch")
    parser.add_argument("--config", help=f"file of options; default: {CONFIG} where it is there")
    parser.add_argument("--tail", type=int, default=20, help="lines of a failed job's log to print")
    parser.add_argument("rest", nargs=argparse.REMAINDER, help="[JOB=1:N] LOG COMMAND [ARGUMENT ...]")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Run what the command line asks for; return 0, 1 when a job failed, 2 for wrong use or a cluster that refuses."""
    options = get_parser().parse_args(arguments)
    try:
        call = parse_call(options.rest)
        chosen = resolve(options)
        if shutil.which("sbatch") is None:
            raise ValueError("there is no sbatch on this machine; start this where jobs of Slurm are submitted")
    except ValueError as error:
        print(f"{PROGRAM}: error: {error}", file=sys.stderr)
        return 2
    cpus, at_once = int(chosen["cpus_per_task"]), int(chosen.get("max_jobs_run") or 0)
    jobs = SlurmArray(call, sbatch_options(chosen, options.num_nodes), cpus, options.gpu, at_once)
    handle_signals(jobs.stop)
    try:
        jobs.claim()
        jobs.submit()
        failed = jobs.wait()
    except Stopped as stopped:
        if jobs.cancel():
            jobs.release()
            print(f"{PROGRAM}: interrupted; its jobs are cancelled", file=sys.stderr)
        else:
            print(f"{PROGRAM}: interrupted; its jobs may still end: squeue --name={jobs.name}", file=sys.stderr)
        return 128 + int(stopped.args[0])
    except LaunchError as error:
        jobs.release()
        print(f"{PROGRAM}: error: {error}", file=sys.stderr)
        return 2
    jobs.release()
    if not failed:
        return 0
    number, reason = next(iter(failed.items()))
    which = ", ".join(f"{n}: {why}" if call.name else why for n, why in failed.items())
    if len(failed) > 3:
        which = f"{', '.join(str(n) for n in failed)}; the first: {reason}"
    log = call.log_of(number)
    print(f"{PROGRAM}: {len(failed)} of {len(call.numbers)} job(s) failed ({which}). Log: {log}", file=sys.stderr)
    print(last_lines(log, options.tail), file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
