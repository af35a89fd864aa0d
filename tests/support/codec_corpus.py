"""Five short mixtures with a target each, of lengths that do and do not fill a codec's frames."""

from pathlib import Path

import numpy as np
import soundfile

RATE = 16000
SIZES = {"a": 5000, "b": 321, "c": 1, "d": 8000, "e": 3333}


def write_corpus(root: Path, rate: int = RATE) -> Path:
    """Write spk1.scp and wav.scp."""
    generator = np.random.default_rng(0)
    tables: dict[str, list[str]] = {"spk1": [], "wav": []}
    (root / "wavs").mkdir(parents=True)
    for key, size in SIZES.items():
        target = 0.05 * generator.standard_normal(size)
        mixture = target + 0.05 * generator.standard_normal(size)
        for table, samples in (("spk1", target), ("wav", mixture)):
            path = root / "wavs" / f"{key}_{table}.wav"
            soundfile.write(path, samples, rate, subtype="PCM_16")
            tables[table].append(f"{key} {path}\n")
    for table, lines in tables.items():
        (root / f"{table}.scp").write_text("".join(lines))
    return root
