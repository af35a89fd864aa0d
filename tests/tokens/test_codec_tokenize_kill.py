"""Token extraction is killed for good, with its whole process group, and started again: nothing is lost, little is repeated."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import kaldiio
import numpy as np
import pytest
import soundfile
from codec_families import make_mel

from espnet_tse_gen.bin import codec_tokenize
from espnet_tse_gen.codec.registry import save_codec
from espnet_tse_gen.utils.files import read_scp

ROOT = Path(__file__).resolve().parents[2]
COUNTING = Path(__file__).with_name("counting_tokenize.py")
RECORDINGS, BATCH, JOBS = 40, 3, 2


STARTED: list[subprocess.Popen[bytes]] = []


@pytest.fixture(autouse=True)
def _nothing_is_left_running() -> Iterator[None]:
    yield
    for process in STARTED:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a codec, two tables of recordings (the second shares some of the first's) and one that is whole."""
    root = tmp_path_factory.mktemp("kill")
    save_codec(make_mel(num_mels=40, num_levels=4, codebook_size=16), root / "codec_small")
    generator = np.random.default_rng(0)
    paths = []
    for number in range(2 * RECORDINGS):
        paths.append(root / f"{number}.wav")
        size = int(generator.integers(1, 8000))
        soundfile.write(paths[-1], 0.05 * generator.standard_normal(size), 16000, subtype="PCM_16")
    for name, chosen in (("spk1", paths[:RECORDINGS]), ("spk2", paths[RECORDINGS // 2 :])):
        (root / f"{name}.scp").write_text("".join(f"{name}_{path.stem} {path}\n" for path in chosen))
    here = Path.cwd()
    try:
        (root / "whole").mkdir()
        os.chdir(root / "whole")
        for job in range(1, JOBS + 1):
            codec_tokenize.main([*options(root), "--job", str(job), "--num_jobs", str(JOBS)])
    finally:
        os.chdir(here)
    return root


def options(root: Path) -> list[str]:
    command = [
        "--codec_dir",
        f"{root}/codec_small",
        "--output_dir",
        "out",
        "--batch_size",
        str(BATCH),
        "--latents",
        "true",
    ]
    for n in (1, 2):
        command += ["--wav_scp", f"{root}/spk{n}.scp", "--name", f"codes_spk{n}"]
    return command


def start(root: Path, folder: Path) -> subprocess.Popen[bytes]:
    """Start two jobs, as a launcher would, in one process group of their own."""
    jobs = []
    for job in range(1, JOBS + 1):
        command = [sys.executable, str(COUNTING), f"{job}.count", *options(root), "--job", str(job)]
        jobs.append(shlex.join([*command, "--num_jobs", str(JOBS)]) + f" > {job}.log 2>&1 & job{job}=$!")
    script = "\n".join([*jobs, *(f"wait $job{job} || exit" for job in range(1, JOBS + 1))])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    STARTED.append(subprocess.Popen(["sh", "-c", script], cwd=folder, env=environment, start_new_session=True))
    return STARTED[-1]


def logs(folder: Path) -> str:
    return "".join(path.read_text() for path in sorted(folder.glob("*.log")))


def kill_when(process: subprocess.Popen[bytes], folder: Path, moment: Callable[[], bool]) -> None:
    """Kill the whole process group with SIGKILL once ``moment`` has come."""
    deadline = time.monotonic() + 600
    while not moment():
        assert process.poll() is None, logs(folder)
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def journalled(folder: Path, job: int) -> int:
    """Return how many recordings of a job are safe."""
    safe = 0
    for path in (folder / "out").glob(f"codes_spk?.{job}.journal*"):
        lines = path.read_bytes().splitlines(keepends=True)[1:]
        safe += sum(len(json.loads(line)) for line in lines if line.endswith(b"\n"))
    return safe


def counted(folder: Path, job: int) -> int:
    path = folder / f"{job}.count"
    return path.stat().st_size if path.exists() else 0


@pytest.mark.slow
def test_killed_twice_and_started_again(place: Path) -> None:
    folder = place / "killed"
    folder.mkdir()
    total = [place / "whole/out" / f"codes_spk{n}.{job}.scp" for job in (1, 2) for n in (1, 2)]
    per_job = [sum(len(path.read_text().splitlines()) for path in total[2 * k : 2 * k + 2]) for k in range(JOBS)]
    assert sum(per_job) == 2 * RECORDINGS  # those that both tables name count once
    moments: list[Callable[[], bool]] = [
        lambda: any(journalled(folder, job) for job in (1, 2)),  # the first batch of the first job to have one
        lambda: sum(journalled(folder, job) for job in (1, 2)) > RECORDINGS,  # halfway, one table done and one begun
    ]
    for moment in moments:
        kill_when(start(place, folder), folder, moment)
        assert not (folder / "out/codes_spk1.scp").exists()
        for job in (1, 2):
            # What is computed and not safe is at most a batch for each time that the job was killed.
            assert counted(folder, job) - journalled(folder, job) <= BATCH * (1 + moments.index(moment))
    safe = {job: journalled(folder, job) for job in (1, 2)}
    before = {job: counted(folder, job) for job in (1, 2)}
    process = start(place, folder)
    assert process.wait(timeout=600) == 0, logs(folder)
    for job in (1, 2):
        assert counted(folder, job) - before[job] == per_job[job - 1] - safe[job]
        assert counted(folder, job) <= per_job[job - 1] + BATCH * len(moments)
        log = (folder / f"{job}.log").read_text()
        assert "were there already" in log or "kept" in log

    whole = {path.name: path.read_bytes() for path in (place / "whole/out").iterdir()}
    found = {path.name: path.read_bytes() for path in (folder / "out").iterdir()}
    assert sorted(found) == sorted(whole)
    assert [name for name in whole if found[name] != whole[name]] == []
    for n in (1, 2):
        table = read_scp(folder / f"out/codes_spk{n}.scp")
        assert len(table) == RECORDINGS * (1 if n == 1 else 3) // (1 if n == 1 else 2)
        key = next(iter(table))
        assert kaldiio.load_mat(str(folder / table[key])).shape[1] == 4
