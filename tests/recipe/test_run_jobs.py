"""The job launcher: Kaldi's calling convention, and a failure that cannot be overlooked."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from programs import ROOT, refused_in, running, start

UTILS = ROOT / "egs2" / "TEMPLATE" / "tse_gen1" / "utils"


def launch(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return start(sys.executable, UTILS / "run_jobs.py", *arguments, folder=folder, **environment)


def test_every_job_gets_its_number_and_its_log(tmp_path: Path) -> None:
    result = launch(tmp_path, "JOB=3:5", "log/a.JOB.log", sys.executable, "-c", "print('number', 'JOB')")
    assert result.returncode == 0, result.stderr
    for number in (3, 4, 5):
        log = (tmp_path / f"log/a.{number}.log").read_text()
        assert f"number {number}\n" in log
        assert "# Ended (code 0)" in log
    assert not (tmp_path / "log/a.1.log").exists()


def test_arguments_arrive_as_they_are(tmp_path: Path) -> None:
    odd = ["two words", "*", "$HOME", 'a"b', "a'b", ""]
    result = launch(tmp_path, "log", sys.executable, "-c", "import sys; print(sys.argv[1:])", *odd)
    assert result.returncode == 0
    assert repr(odd) in (tmp_path / "log").read_text()


def test_a_failed_job_shows_its_log_and_stops_the_rest(tmp_path: Path) -> None:
    code = "import sys; print('the reason'); sys.exit('JOB' == '2')"
    result = launch(tmp_path, "--max-jobs-run", "1", "JOB=1:4", "x.JOB.log", sys.executable, "-c", code)
    assert result.returncode == 1
    assert "1 of 4 job(s) failed (2). Log: x.2.log" in result.stderr
    assert "the reason" in result.stderr
    assert (tmp_path / "x.1.log").exists() and not (tmp_path / "x.3.log").exists()


def test_only_the_last_lines_are_shown(tmp_path: Path) -> None:
    code = "import sys; print(*range(100), sep='\\n'); sys.exit(3)"
    result = launch(tmp_path, "--tail", "5", "x.log", sys.executable, "-c", code)
    assert result.stderr.count("\n") == 6
    assert "(code 3)" in result.stderr and "\n  | 10\n" not in result.stderr


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "expected [JOB=1:N] LOG COMMAND"),
        (["x.log"], "expected [JOB=1:N] LOG COMMAND"),
        (["JOB=1:2", "x.log", "true"], "log 'x.log' must contain JOB"),
        (["JOB=2:1", "x.JOB.log", "true"], "empty range"),
        (["--gpu", "1", "x.log", "true"], "offers 0 GPU(s)"),
        (["--max-jobs-run", "-1", "x.log", "true"], "--max-jobs-run and --num-threads take 0 or more, not -1"),
    ],
)
def test_wrong_use_is_one_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    refused_in(launch(tmp_path, *arguments, CUDA_VISIBLE_DEVICES=""), message)


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    result = launch(tmp_path, "x.log", "no-such-program")
    assert result.returncode == 1
    assert "no-such-program: cannot be started" in result.stderr


def test_gpus_are_dealt_out(tmp_path: Path) -> None:
    code = "import os, time; print('gpu', os.environ['CUDA_VISIBLE_DEVICES']); time.sleep(0.5)"
    command = ["--max-jobs-run", "2", "--gpu", "1", "JOB=1:2", "x.JOB.log", sys.executable, "-c", code]
    result = launch(tmp_path, *command, CUDA_VISIBLE_DEVICES="4,7")
    assert result.returncode == 0, result.stderr
    assert {f"gpu {n}" in (tmp_path / f"x.{job}.log").read_text() for n, job in ((4, 1), (7, 2))} == {True}


def test_jobs_share_the_processors_as_threads(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    command = [sys.executable, UTILS / "run_jobs.py", "x.log", sys.executable, "-c"]
    command += ["import os; print('threads', os.environ['OMP_NUM_THREADS'])"]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    assert f"threads {len(os.sched_getaffinity(0))}\n" in (tmp_path / "x.log").read_text()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ending_the_launcher_ends_its_jobs_and_what_they_started(tmp_path: Path, signum: int) -> None:
    # As a training does that starts a process for each GPU.
    code = "sh -c 'echo $$ > below; exec sleep 100' & echo $$ > own; wait"
    command = [sys.executable, UTILS / "run_jobs.py", "x.log", "sh", "-c", code]
    # Under nohup, which the launcher heeds, the tests themselves would ignore SIGHUP, and it with them.
    heard = partial(signal.signal, signal.SIGHUP, signal.SIG_DFL)
    process = subprocess.Popen(command, cwd=tmp_path, preexec_fn=heard)  # noqa: PLW1509 (one thread)
    files = [tmp_path / "own", tmp_path / "below"]
    deadline = time.monotonic() + 20
    while not all(file.exists() and file.read_text() for file in files) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signum)
    assert process.wait(timeout=20) == 128 + signum
    while any(running(int(file.read_text())) for file in files):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_terminal_that_is_closed_ends_no_job_under_nohup(tmp_path: Path) -> None:
    code = "open('started', 'w').close(); import time; time.sleep(0.5); open('ended', 'w').close()"
    command = ["nohup", sys.executable, UTILS / "run_jobs.py", "x.log", sys.executable, "-c", code]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 20
    while not (tmp_path / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=20) == 0
    assert (tmp_path / "ended").exists()


def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "x.log").mkdir()
    result = launch(tmp_path, "x.log", "true")
    assert result.returncode == 2
    assert result.stderr == "run_jobs.py: error: x.log: cannot be written (Is a directory)\n"
