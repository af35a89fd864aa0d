"""One Slurm job array for ``slurm_jobs.py``: its script, its submission, and what becomes of each of its jobs.

A job leaves its exit status in the folder of the run; what squeue says serves for jobs that leave none (cancelled, out of
time, of a node that failed). Accounting (sacct) is not needed, and Slurm may be out of reach for a while.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from run_jobs import Call

PROGRAM = "slurm_jobs.py"
SLOWEST_POLL = 10.0
"""Seconds between two questions to Slurm once jobs run for long; the folder is looked at every half second."""
GRACE = 3.0
"""Seconds that a job must stay ended in Slurm's eyes before it counts as failed: it may be about to be queued again."""
VANISHED = 30.0
"""Seconds to wait for the exit status of a job that Slurm has forgotten: a shared disk may show it late."""
CANCEL_SECONDS = 10.0
"""Seconds to wait for cancelled jobs to end, before leaving that to the next start."""
PATIENCE = 20.0
"""Seconds after which jobs that wait in the queue are spoken of."""
TRANSIENT = re.compile("timed out|unable to contact|temporarily|connection refused|zero bytes", re.IGNORECASE)
ENDED = {
    "BOOT_FAIL": "its node did not start",
    "CANCELLED": "cancelled",
    "COMPLETED": "",
    "DEADLINE": "its deadline passed",
    "FAILED": "killed, or Slurm could not start it",
    "NODE_FAIL": "its node failed",
    "OUT_OF_MEMORY": "out of memory; 'mem' of conf/slurm.yaml asks for more",
    "PREEMPTED": "preempted",
    "TIMEOUT": "out of time; 'time' of conf/slurm.yaml asks for more",
    "": "ended without an exit status",
}
"""Slurm's states of jobs that have ended, and how they are reported; all others are states of jobs that may yet end well."""
SCRIPT = """\
#!/usr/bin/env bash
# Written by slurm_jobs.py.
job=${{SLURM_ARRAY_TASK_ID:-1}}
command=({command})
# A job that Slurm ends leaves no exit status: it may be started again.
ended=
trap 'ended=1' TERM
export OMP_NUM_THREADS=${{OMP_NUM_THREADS:-{threads}}}
# For srun: as many processors as the job has, and an end to all processes when one fails.
export SRUN_CPUS_PER_TASK={cpus} SLURM_KILL_BAD_EXIT=1
printf '#'; printf ' %q' "${{command[@]}}"
printf '\\n# Started at %s on %s, Slurm job %s\\n#\\n' "$(date)" "$(hostname)" "${{SLURM_JOB_ID}}"
"${{command[@]}}" < /dev/null
status=$?
printf '# Accounting: time=%s s\\n# Ended (code %s) at %s\\n' "${{SECONDS}}" "${{status}}" "$(date)"
if [[ -z ${{ended}} ]]; then
    echo "${{status}}" > {folder}/"${{job}}.new" && mv {folder}/"${{job}}.new" {folder}/"${{job}}"
fi
exit "${{status}}"
"""


class LaunchError(Exception):
    """The jobs cannot be run; the message is one line."""


class Stopped(Exception):
    """The launcher was asked to end, by the signal ``args[0]``."""


def ask(*command: str, text: str = "") -> subprocess.CompletedProcess[str]:
    """Call a command of Slurm, out of reach of Ctrl-C, and without the variables of a job that the launcher runs in."""
    kept = ("SLURM_CONF", "SLURM_CLUSTERS", "SLURM_JWT")
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("SLURM_") or name.startswith(kept)
    }
    return subprocess.run(
        command, input=text, capture_output=True, text=True, check=False, env=environment, start_new_session=True
    )


def queued(name: str, what: str = "%i") -> list[str]:
    """Return a line of squeue, in format ``what``, for each job of a name that waits, runs or is about to end.

    Raises:
        LaunchError: If Slurm does not answer.
    """
    result = ask("squeue", "--noheader", f"--name={name}", f"--format={what}")
    if result.returncode:
        raise LaunchError(f"squeue does not answer: {one_line(result.stderr)}")
    return result.stdout.split()


def one_line(text: str) -> str:
    """Return the message of one of Slurm's commands without line ends and the command's name."""
    return " ".join(re.sub(r"^\w+: (error: )?", "", text, flags=re.MULTILINE).split())


def script_of(call: Call, folder: Path, cpus: int, gpu: int) -> str:
    """Return the script that all jobs of a call share; where ``call.name`` stands, each has the number Slurm gives it."""

    def quoted(word: str) -> str:
        parts = word.split(call.name) if call.name else [word]
        return '"${job}"'.join(shlex.quote(part) if part or len(parts) == 1 else "" for part in parts)

    command = " ".join(quoted(word) for word in call.command)
    # A job with several GPUs runs a process for each.
    threads = max(1, cpus // max(1, gpu))
    return SCRIPT.format(command=command, threads=threads, cpus=cpus, folder=shlex.quote(str(folder)))


def is_launcher(process: int) -> bool:
    """Return whether the process with this id on this machine is a launcher of Slurm jobs (or may be one)."""
    try:
        return b"slurm" in Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return Path("/proc/self").exists() is False


class SlurmArray:
    """The jobs of one call.

    Args:
        call: Log and command.
        options: Options of sbatch.
        cpus: Processors per job.
        gpu: GPUs per job.
        max_jobs_run: Jobs at once; 0 is no limit.
    """

    def __init__(self, call: Call, options: Sequence[str], cpus: int, gpu: int, max_jobs_run: int) -> None:
        self.call, self.options, self.cpus, self.gpu, self.max_jobs_run = call, options, cpus, gpu, max_jobs_run
        log = Path(call.log)
        # Beside the logs or, where each job has a folder of its own, above these.
        parent = next(folder for folder in log.parents if not call.name or call.name not in str(folder))
        self.folder = parent / f".slurm.{'.'.join(log.relative_to(parent).parts)}"
        stem = log.name.removesuffix(".log").replace(call.name or "/", "")
        self.name = f"{re.sub('[^A-Za-z0-9_-]+', '.', stem).strip('.') or 'job'}-{secrets.token_hex(4)}"
        self.id = ""
        self.cluster: list[str] = []
        self._claimed = False
        self._signum = 0
        # Of each job that has ended: nothing if well, else what is known of the reason; None if it was never started.
        self._outcomes: dict[int, str | None] = {}
        self._states: dict[int, str] = {}
        self._ended_since: dict[int, float] = {}
        self._said = ""

    def stop(self, signum: int, _frame: FrameType | None) -> None:
        """Take note of a signal: the method at work raises :class:`Stopped` between two of its steps."""
        self._signum = self._signum or signum

    def claim(self) -> None:
        """Make the folder of this run, after cancelling what a launcher that was killed has left there.

        Raises:
            LaunchError: If another launcher is at work with the same log, or the log cannot be written.
        """
        mine = self.folder.with_name(f"{self.folder.name}.{self.name}")
        owner = {"name": self.name, "host": socket.gethostname(), "process": os.getpid()}
        try:
            with self._writing():
                mine.mkdir(parents=True)
                (mine / "owner.json").write_text(json.dumps(owner), encoding="utf-8")
            if self.folder.exists():
                self._end_left_over()
            self._take(mine)
        finally:
            shutil.rmtree(mine, ignore_errors=True)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise LaunchError(f"{self.call.log}: cannot be written ({error.strerror})") from None

    def _take(self, folder: Path) -> None:
        try:
            os.rename(folder, self.folder)
        except OSError:
            raise LaunchError(
                f"{self.call.log}: another launcher has just started with this log; wait for it"
            ) from None
        self._claimed = True

    def _end_left_over(self) -> None:
        try:
            owner = json.loads((self.folder / "owner.json").read_text(encoding="utf-8"))
            name, host, process = str(owner["name"]), str(owner["host"]), int(owner["process"])
        except (OSError, ValueError, KeyError, TypeError):
            name, host, process = "", "", 0
        here = host == socket.gethostname()
        if here and is_launcher(process):
            raise LaunchError(f"{self.call.log}: process {process} runs jobs with this log; wait for it, or end it")
        if name and queued(name):
            if not here:
                raise LaunchError(
                    f"{self.call.log}: jobs with this log were started on {host} and are in the queue; wait for them, or "
                    f"'scancel --name={name}' and run this again"
                )
            print(f"{PROGRAM}: cancelling jobs that a killed launcher has left: {name}", file=sys.stderr)
            ask("scancel", f"--name={name}")
            while queued(name):
                self._pause(0.5)
        shutil.rmtree(self.folder, ignore_errors=True)

    def submit(self) -> None:
        """Hand the jobs to Slurm.

        Raises:
            LaunchError: If Slurm refuses them, or a log cannot be written.
        """
        with self._writing():
            for number in self.call.numbers:
                log = self.call.log_of(number)
                log.parent.mkdir(parents=True, exist_ok=True)
                log.unlink(missing_ok=True)
        log_pattern, options = self.call.log.replace("%", "%%"), list(self.options)
        if self.call.name:
            log_pattern = log_pattern.replace(self.call.name, "%a")
            limit = f"%{self.max_jobs_run}" if self.max_jobs_run else ""
            options.append(f"--array={self.call.numbers[0]}-{self.call.numbers[-1]}{limit}")
        command = ["sbatch", "--parsable", f"--job-name={self.name}", "--export=ALL", "--open-mode=append"]
        command += [f"--output={log_pattern}", *options]
        script = script_of(self.call, self.folder, self.cpus, self.gpu)
        answer = ""
        for seconds in (2.0, 5.0, 10.0, 0.0):
            result = ask(*command, text=script)
            answer = "" if result.returncode else result.stdout.strip()
            if answer or not seconds or not TRANSIENT.search(result.stderr):
                break
            self._pause(seconds)
            # It may be the answer that was lost, and not the jobs.
            with contextlib.suppress(LaunchError):
                answer = "".join(queued(self.name, "%F")[:1])
            if answer:
                break
        if not answer:
            raise LaunchError(f"sbatch {shlex.join(options)}: {one_line(result.stderr)}")
        self.id, _, cluster = answer.partition(";")
        self.cluster = [f"--clusters={cluster}"] if cluster else []

    def wait(self) -> dict[int, str]:
        """Return the numbers of the jobs that failed, with what is known of the reason; after a failure none starts.

        Raises:
            Stopped: After a signal.
        """
        begun = time.monotonic()
        interval, question, cancelled = 0.5, begun, False
        while True:
            self._read_statuses()
            if time.monotonic() >= question:
                self._ask_states(cancelled)
                interval = 1.0 if self._ended_since else min(interval * 1.2, SLOWEST_POLL)
                question = time.monotonic() + interval
                if time.monotonic() > begun + PATIENCE:
                    self._speak()
            failed = {number: reason for number, reason in sorted(self._outcomes.items()) if reason}
            if len(self._outcomes) == len(self.call.numbers):
                return failed
            if failed and not cancelled:
                ask("scancel", *self.cluster, "--state=PENDING", self.id)
                cancelled, question = True, time.monotonic()
            self._pause(0.1 if time.monotonic() < begun + 10 else 0.5)

    def _read_statuses(self) -> None:
        for entry in os.listdir(self.folder):
            if entry.isdigit() and int(entry) not in self._outcomes:
                with contextlib.suppress(OSError, ValueError):
                    status = int((self.folder / entry).read_text(encoding="utf-8"))
                    self._outcomes[int(entry)] = _meaning(status)

    def _ask_states(self, cancelled: bool) -> None:
        result = ask(
            "squeue", *self.cluster, "--noheader", "--array", "--states=all", f"--jobs={self.id}", "--format=%K|%T|%r"
        )
        if result.returncode and "Invalid job id" not in result.stderr:
            self._say(f"Slurm does not answer ({one_line(result.stderr)}); asking again")
            return
        states, reasons = {}, {}
        for line in result.stdout.splitlines():
            if line.count("|") >= 2:
                number, state, reason = line.split("|", 2)
                key = int(number) if number.isdigit() else 1
                states[key], reasons[key] = state, reason
        now = time.monotonic()
        for number in self.call.numbers:
            state = states.get(number, "")
            if number in self._outcomes:
                self._ended_since.pop(number, None)
            elif state and state not in ENDED:
                self._ended_since.pop(number, None)
                self._states[number] = f"{state}: {reasons[number]}"
            elif state == "COMPLETED":
                self._outcomes[number] = ""
            elif cancelled and state in ("CANCELLED", "") and not self.call.log_of(number).exists():
                self._outcomes[number] = None
            elif now >= self._ended_since.setdefault(number, now) + (GRACE if state else VANISHED):
                self._outcomes[number] = ENDED[state]

    def _speak(self) -> None:
        states = {self._states.get(number, "") for number in self.call.numbers if number not in self._outcomes}
        if states and all(state.startswith("PENDING") for state in states):
            self._say(f"job {self.id} waits in the queue ({min(states).removeprefix('PENDING: ')})")

    def _say(self, text: str) -> None:
        if text != self._said:
            print(f"{PROGRAM}: {text}", file=sys.stderr)
        self._said = text

    def cancel(self) -> bool:
        """Cancel all jobs, and return whether they have ended for certain."""
        try:
            if not queued(self.name):
                return True
            ask("scancel", f"--name={self.name}")
            end = time.monotonic() + CANCEL_SECONDS
            while time.monotonic() < end:
                if not queued(self.name):
                    return True
                time.sleep(0.2)
        except LaunchError:
            pass
        return False

    def release(self) -> None:
        """Remove the folder of this run, if it was made; to be called once no job of it is left."""
        if self._claimed:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self._signum and time.monotonic() < end:
            time.sleep(min(0.1, seconds))
        if self._signum:
            raise Stopped(self._signum)


def _meaning(status: int) -> str:
    if status == 137:
        return "killed, often for want of memory; 'mem' of conf/slurm.yaml asks for more"
    return f"code {status}" if status else ""
