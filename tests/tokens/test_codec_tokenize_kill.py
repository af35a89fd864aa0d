"""Token extraction is killed for good and started again: nothing is lost, little is repeated."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from codec_families import make
from programs import ROOT

from espnet_tse_gen.bin import codec_tokenize
from espnet_tse_gen.codec.registry import save_codec
from espnet_tse_gen.utils.files import read_scp

RECORDINGS, BATCH, JOBS = 40, 3, (1, 2)
COUNTING = """
import os, sys, time
from espnet_tse_gen.bin import codec_tokenize
from espnet_tse_gen.codec.mel import MelCodec
count = os.open(sys.argv.pop(1), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
encode_row = MelCodec._encode_row
def counted(codec, wav):
    time.sleep(0.01)  # the codec is too quick to be killed in the middle of anything
    os.write(count, b".")
    return encode_row(codec, wav)
MelCodec._encode_row = counted
codec_tokenize.main()
"""
"""The command, which writes a byte to a file for every recording that it encodes."""


def options(root: Path, job: int) -> list[str]:
    command = ["--codec_dir", f"{root}/codec_small", "--output_dir", "out", f"--batch_size={BATCH}", "--latents=true"]
    for n in (1, 2):
        command += ["--wav_scp", f"{root}/spk{n}.scp", "--name", f"codes_spk{n}"]
    return [*command, "--job", str(job), "--num_jobs", str(len(JOBS))]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a codec, two tables of recordings (the second shares some of the first's) and ``whole``, a whole run."""
    save_codec(make("mel"), tmp_path / "codec_small")
    generator = np.random.default_rng(0)
    paths = [tmp_path / f"{number}.wav" for number in range(2 * RECORDINGS)]
    for path in paths:
        soundfile.write(path, 0.05 * generator.standard_normal(int(generator.integers(1, 8000))), 16000)
    for name, chosen in (("spk1", paths[:RECORDINGS]), ("spk2", paths[RECORDINGS // 2 :])):
        (tmp_path / f"{name}.scp").write_text("".join(f"{name}_{path.stem} {path}\n" for path in chosen))
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    monkeypatch.chdir(tmp_path / "whole")
    for job in JOBS:
        codec_tokenize.main(options(tmp_path, job))
    return tmp_path


def start(root: Path, folder: Path) -> list[subprocess.Popen[bytes]]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    commands = [[sys.executable, "-c", COUNTING, f"{job}.count", *options(root, job)] for job in JOBS]
    return [subprocess.Popen(command, cwd=folder, env=environment) for command in commands]


def kill_when(processes: list[subprocess.Popen[bytes]], moment: Callable[[], bool]) -> None:
    """Kill the jobs with SIGKILL once ``moment`` has come."""
    deadline = time.monotonic() + 600
    try:
        while not moment():
            assert None in [process.poll() for process in processes] and time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        for process in processes:
            process.kill()
            process.wait()


def journalled(folder: Path, job: int) -> int:
    """Return how many recordings of a job are safe."""
    lines = [line for path in (folder / "out").glob(f"codes_spk?.{job}.journal")
             for line in path.read_bytes().splitlines(keepends=True)[1:]]  # fmt: skip
    return sum(len(json.loads(line)) for line in lines if line.endswith(b"\n"))


def counted(folder: Path, job: int) -> int:
    path = folder / f"{job}.count"
    return path.stat().st_size if path.exists() else 0


@pytest.mark.slow
def test_killed_twice_and_started_again(place: Path) -> None:
    folder = place / "killed"
    assert [journalled(place / "whole", job) for job in JOBS] == [RECORDINGS] * 2, "what both tables name counts once"
    moments: list[Callable[[], bool]] = [
        lambda: any(journalled(folder, job) for job in JOBS),  # the first batch of the first job to have one
        lambda: sum(journalled(folder, job) for job in JOBS) > RECORDINGS,  # halfway, one table done and one begun
    ]
    for number, moment in enumerate(moments, 1):
        kill_when(start(place, folder), moment)
        assert not (folder / "out/codes_spk1.scp").exists()
        for job in JOBS:
            # What is computed and not safe is at most a batch for each time that the job was killed.
            assert counted(folder, job) - journalled(folder, job) <= BATCH * number
    safe, before = ({job: count(folder, job) for job in JOBS} for count in (journalled, counted))
    assert [process.wait(timeout=600) for process in start(place, folder)] == [0, 0]
    for job in JOBS:
        assert counted(folder, job) - before[job] == RECORDINGS - safe[job]
    whole, found = ({path.name: path.read_bytes() for path in (place / name / "out").iterdir()}
                    for name in ("whole", "killed"))  # fmt: skip
    assert found == whole
    assert [len(read_scp(folder / f"out/codes_spk{n}.scp")) for n in (1, 2)] == [RECORDINGS, RECORDINGS * 3 // 2]
