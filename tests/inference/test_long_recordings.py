"""Recordings that are longer than a segment: progress, and memory that hardly depends on the length."""

import sys
import tracemalloc
from pathlib import Path

import numpy as np
import programs
import pytest
import soundfile
from tiny_discriminative import discriminative_exp_dir
from tiny_model import RATE, mixture, tiny_exp_dir, voice

from espnet_tse_gen import TargetSpeakerExtractor
from espnet_tse_gen.cli import main


@pytest.mark.parametrize("kind", ["masked", "dual_path"])
def test_progress_is_told_segment_by_segment(kind: str) -> None:
    where = tiny_exp_dir() if kind == "masked" else discriminative_exp_dir(kind)
    extractor = TargetSpeakerExtractor.from_pretrained(where)
    length, overlap = (
        ("chunk_seconds", "chunk_overlap_seconds") if kind == "masked" else ("segment_seconds", "overlap_seconds")
    )
    extractor.options = {length: 1.0, overlap: 0.2}
    told: list[float] = []
    requests = [extractor.request(mixture(seconds), voice(1.0, 110.0), RATE) for seconds in (0.5, 4.0)]
    extractor.extract(requests, progress=told.append)
    assert told == sorted(told) and told[-1] == 1.0 and len(set(told)) >= 5 and told[0] < 0.3


@pytest.mark.slow
def test_a_long_recording_is_not_held(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "e.wav", voice(1.0, 110.0, seed=5), RATE)
    model = ["--enroll", str(tmp_path / "e.wav"), "--overwrite", "--model", str(discriminative_exp_dir("dual_path"))]
    for more in ([], ["--residual", str(tmp_path / "l.wav")]):
        peaks = []
        for seconds in (18, 60):
            soundfile.write(tmp_path / "m.wav", np.tile(mixture(6.0, 0, 44100), seconds // 6), 44100)
            tracemalloc.start()
            main(["extract", str(tmp_path / "m.wav"), "-o", str(tmp_path / "o.wav"), *model, *more])
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        assert (peaks[1] - peaks[0]) / (42 * 44100) < 2.0  # bytes per sample; one copy has 4


PEAK = """
import re, sys
from pathlib import Path
from espnet_tse_gen.cli import main
from espnet_tse_gen.utils.memory import keep_freed_memory
keep_freed_memory()
main(sys.argv[1:])
print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""
"""The most memory that the process held; ``ru_maxrss`` of a child begins with its parent's."""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
def test_memory_hardly_depends_on_length(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "e.wav", voice(1.0, 110.0, seed=5), RATE)
    given = [
        "extract",
        tmp_path / "m.flac",
        "--enroll",
        tmp_path / "e.wav",
        "-o",
        tmp_path / "o.wav",
        "--residual",
        tmp_path / "l.wav",
    ]
    given += ["--overwrite", "--model", discriminative_exp_dir("dual_path")]
    minute, peaks = np.tile(np.stack([mixture(6.0, seed, 48000) for seed in (0, 1)], axis=1), (10, 1)), []
    for minutes in (4, 12):
        with soundfile.SoundFile(tmp_path / "m.flac", "w", 48000, 2) as file:
            for _ in range(minutes):
                file.write(minute)
        done = programs.start(sys.executable, "-c", PEAK, *given, PYTHONPATH=str(programs.ROOT))
        peaks.append(int(programs.output_of(done).split()[-1]) * 1024)
        assert soundfile.info(str(tmp_path / "o.wav")).frames == minutes * len(minute)
    assert (peaks[1] - peaks[0]) / (8 * len(minute)) < 1.0  # bytes per sample; one copy has 4
