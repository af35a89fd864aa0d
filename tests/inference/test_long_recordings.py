"""Memory that hardly depends on the length of a recording."""

import sys
from pathlib import Path

import numpy as np
import programs
import pytest
import soundfile
from tiny_discriminative import discriminative_exp_dir
from tiny_model import RATE, mixture, voice

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
    given = ["extract", tmp_path / "m.flac", "--enroll", tmp_path / "e.wav", "-o", tmp_path / "o.wav", "--residual",
             tmp_path / "l.wav", "--model", discriminative_exp_dir("dual_path"), "--overwrite"]  # fmt: skip
    minute, peaks = np.tile(np.stack([mixture(6.0, seed, 48000) for seed in (0, 1)], axis=1), (10, 1)), []
    for minutes in (4, 12):
        with soundfile.SoundFile(tmp_path / "m.flac", "w", 48000, 2) as file:
            for _ in range(minutes):
                file.write(minute)
        done = programs.start(sys.executable, "-c", PEAK, *given, PYTHONPATH=str(programs.ROOT))
        peaks.append(int(programs.output_of(done).split()[-1]) * 1024)
        assert soundfile.info(str(tmp_path / "o.wav")).frames == minutes * len(minute)
    assert (peaks[1] - peaks[0]) / (8 * len(minute)) < 1.0  # bytes per sample; one copy has 4
