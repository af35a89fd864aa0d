#!/usr/bin/env python3
"""Run numbered jobs on this machine, by the calling convention of Kaldi's ``run.pl``. Needs nothing but Python.

``run_jobs.py JOB=1:4 exp/log/decode.JOB.log python decode.py --keys split/keys.JOB.scp`` runs four jobs, each with JOB
replaced by its number everywhere, and each with its own log. No more run at once than the machine has processors, or
than it has GPUs where ``--gpu`` asks for some, and each gets its share of the processors as OMP_NUM_THREADS unless
that is set. When a job fails no further one starts, the last lines of its log are printed with the log's path, and the
exit status is 1. Ctrl-C, SIGTERM and SIGHUP end the jobs and all that they started. ``slurm_jobs.py`` is called alike.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO


@dataclass(frozen=True)
class Call:
    """What a command line asks for: a log and a command, in both of which ``name`` stands for each number in turn."""

    name: str
    numbers: range
    log: str
    command: list[str]

    def numbered(self, word: str, number: int) -> str:
        """Return ``word`` as job ``number`` has it."""
        return word.replace(self.name, str(number)) if self.name else word

    def log_of(self, number: int) -> Path:
        """Return the log of job ``number``."""
        return Path(self.numbered(self.log, number))


@dataclass
class Job:
    """One numbered command, its log, and what is known of its run."""

    number: int
    command: list[str]
    log: Path
    started: float = 0.0
    process: subprocess.Popen[bytes] | None = None
    stream: IO[str] = field(init=False)
    devices: list[str] = field(default_factory=list)

    def start(self, threads: int) -> None:
        """Begin the command, its output going to the log under a header that can be pasted into a shell."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        environment = dict(os.environ)
        environment.setdefault("OMP_NUM_THREADS", str(threads))
        if self.devices:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(self.devices)
        self.started = time.time()
        self.stream = open(self.log, "w", encoding="utf-8", errors="surrogateescape")  # noqa: SIM115 (closed by finish)
        print(f"# {shlex.join(self.command)}\n# Started at {time.ctime(self.started)}\n#", file=self.stream, flush=True)
        try:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=self.stream, stderr=subprocess.STDOUT, env=environment
            )
        except OSError as error:
            print(f"{self.command[0]}: cannot be started ({error.strerror})", file=self.stream)

    def status(self) -> int | None:
        """Return the exit status, or None while the command runs."""
        return 127 if self.process is None else self.process.poll()

    def finish(self, status: int) -> None:
        """Close the log under a line with the time taken and the exit status."""
        now = time.time()
        with self.stream as stream:
            print(
                f"# Accounting: time={now - self.started:.0f} s\n# Ended (code {status}) at {time.ctime(now)}",
                file=stream,
            )


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of the options that come before ``JOB=1:N``."""
    parser = argparse.ArgumentParser(
        prog="run_jobs.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="run_jobs.py [options] [JOB=1:N] LOG COMMAND [ARGUMENT ...]",
    )
    parser.add_argument("--gpu", type=int, default=0, help="GPUs that each job gets for itself")
    parser.add_argument("--max-jobs-run", "--max_jobs_run", type=int, default=0, help="jobs at once; 0: by the machine")
    parser.add_argument("--num-threads", "--num_threads", type=int, default=0, help="threads per job; 0: its share")
    parser.add_argument("--tail", type=int, default=20, help="lines of a failed job's log to print")
    for name in ("--mem", "--time", "--num-nodes", "--num_nodes"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    parser.add_argument("rest", nargs=argparse.REMAINDER, help="[JOB=1:N] LOG COMMAND [ARGUMENT ...]")
    return parser


def parse_call(words: Sequence[str]) -> Call:
    """Read ``[NAME=first:last] LOG COMMAND...``.

    Raises:
        ValueError: If the range, the log or the command is missing or cannot be used.
    """
    words = list(words)
    name, numbers = "", range(1, 2)
    if words and (match := re.fullmatch(r"([A-Za-z_]\w*)=(\d+)(?::(\d+))?", words[0])):
        name, first, last = match[1], int(match[2]), int(match[3] or match[2])
        if last < first:
            raise ValueError(f"'{words[0]}' is an empty range; expected {name}=1:N")
        numbers = range(first, last + 1)
        words = words[1:]
    if len(words) < 2:
        raise ValueError("expected [JOB=1:N] LOG COMMAND [ARGUMENT ...]")
    if len(numbers) > 1 and name not in words[0]:
        raise ValueError(f"log '{words[0]}' must contain {name}, so that each job has its own")
    return Call(name, numbers, words[0], words[1:])


def descendants(process: int) -> list[int]:
    """Return the ids of all processes below one, as far as the system shows them in /proc."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            # The name, in parentheses, may hold anything; the parent's id is the second field after it.
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(path.parent.name))
    found = list(children.get(process, []))
    for number in found:
        found += children.get(number, [])
    return found


def visible_gpus() -> list[str]:
    """Return the ids of the GPUs that may be used: CUDA_VISIBLE_DEVICES, or all that nvidia-smi lists."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [device.strip() for device in chosen.split(",") if device.strip() not in ("", "-1")]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    return [str(number) for number, line in enumerate(listed.splitlines()) if line.startswith("GPU ")]


def handle_signals(handler: Callable[[int, FrameType | None], None]) -> None:
    """Call ``handler`` for Ctrl-C, SIGTERM and, unless it is ignored as under ``nohup``, a terminal that is closed."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signum != signal.SIGHUP or signal.getsignal(signum) is not signal.SIG_IGN:
            signal.signal(signum, handler)


def end(jobs: Sequence[Job]) -> None:
    """End jobs that run, and all that they have started, such as one process per GPU."""
    for job in jobs:
        if job.process is not None and job.process.poll() is None:
            for process in (job.process.pid, *descendants(job.process.pid)):
                with contextlib.suppress(OSError):
                    os.kill(process, signal.SIGTERM)


def run(jobs: Sequence[Job], at_once: int, threads: int, gpu: int, devices: Sequence[str]) -> list[Job]:
    """Run ``jobs``, ``at_once`` at a time, and return those that failed; after a failure none is started.

    Raises:
        OSError: If a log cannot be written.
        SystemExit: After a signal. In both cases no job is left.
    """
    waiting, running, failed = list(jobs), list[Job](), list[Job]()
    free = list(devices)
    signals: list[int] = []
    # Only noted here: it may come while a job is being started.
    handle_signals(lambda signum, _frame: signals.append(signum))
    try:
        while running or (waiting and not failed):
            while waiting and not failed and len(running) < at_once:
                job = waiting.pop(0)
                if gpu:
                    job.devices, free = free[:gpu], free[gpu:]
                running.append(job)
                job.start(threads)
            for job in list(running):
                status = job.status()
                if status is None:
                    continue
                job.finish(status)
                running.remove(job)
                free += job.devices
                if status != 0:
                    failed.append(job)
            time.sleep(0.02)
            if signals:
                sys.exit(128 + signals[0])
    finally:
        end(running)
    return failed


def last_lines(path: Path, count: int) -> str:
    """Return the last ``count`` lines of a log, each behind a bar."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        lines = ["(no log was written)"]
    return "\n".join(f"  | {line}" for line in lines[-count:])


def main(arguments: Sequence[str]) -> int:
    """Run what the command line asks for; return 0, 1 when a job failed, 2 for wrong use."""
    options = get_parser().parse_args(arguments)
    try:
        call = parse_call(options.rest)
        jobs = [Job(n, [call.numbered(word, n) for word in call.command], call.log_of(n)) for n in call.numbers]
        if (least := min(options.gpu, options.max_jobs_run, options.num_threads)) < 0:
            raise ValueError(f"--gpu, --max-jobs-run and --num-threads take 0 or more, not {least}")
        at_once = options.max_jobs_run or len(os.sched_getaffinity(0))
        devices: list[str] = []
        if options.gpu > 0:
            devices = visible_gpus()
            if len(devices) < options.gpu:
                raise ValueError(
                    f"--gpu {options.gpu}: this machine offers {len(devices)} GPU(s); "
                    "ask for fewer (--ngpu 0 trains on the CPU, --gpu_inference false decodes there)"
                )
            at_once = min(at_once, len(devices) // options.gpu)
    except ValueError as error:
        print(f"run_jobs.py: error: {error}", file=sys.stderr)
        return 2
    at_once = min(at_once, len(jobs))
    # A job with several GPUs runs a process for each.
    share = max(1, len(os.sched_getaffinity(0)) // (at_once * max(1, options.gpu)))
    threads = min(options.num_threads or share, share)
    try:
        failed = run(jobs, at_once, threads, options.gpu, devices)
    except OSError as error:
        print(f"run_jobs.py: error: {error.filename}: cannot be written ({error.strerror})", file=sys.stderr)
        return 2
    if not failed:
        return 0
    which = f" ({', '.join(str(job.number) for job in failed)})" if len(jobs) > 1 else ""
    print(f"run_jobs.py: {len(failed)} of {len(jobs)} job(s) failed{which}. Log: {failed[0].log}", file=sys.stderr)
    print(last_lines(failed[0].log, options.tail), file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
