"""A small scored world: four two-speaker mixtures of two seconds each, as a data directory with one system's outputs."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from espnet_tse_gen.audio.writing import write_audio
from espnet_tse_gen.scoring.items import gender_pair
from espnet_tse_gen.scoring.table import Row, replace_rows
from espnet_tse_gen.utils.files import write_scp

RATE = 8000
SPEAKERS = {"anna": "f", "berta": "f", "carl": "m", "dirk": "m"}
MIXTURES = [("anna", "carl"), ("anna", "berta"), ("carl", "dirk"), ("berta", "dirk")]


def voice(name: str, seconds: float = 2.0, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """A voiced-speech-like signal: a gliding harmonic source in syllables, whose pitch and formants belong to ``name``."""
    index = list(SPEAKERS).index(name)
    rng = np.random.default_rng([index, seed])
    time = np.arange(round(seconds * rate)) / rate
    pitch = (210.0, 240.0, 110.0, 90.0)[index] * (1.0 + 0.1 * np.sin(2 * np.pi * (0.7 + rng.random()) * time))
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    signal = np.zeros_like(time)
    for harmonic in range(1, 12):
        signal += np.sin(harmonic * phase + rng.random()) * np.exp(
            -(((harmonic * pitch - 600 - 90 * index) / 700) ** 2)
        )
    syllables = np.clip(np.sin(2 * np.pi * (2.5 + rng.random()) * time + rng.random()), 0.0, None)
    return (0.1 * signal * syllables + 1e-4 * rng.standard_normal(len(time))).astype(np.float32)


def _make_world(folder: Path) -> Path:
    """Fill a directory with ``data/test`` and ``exp/m/greedy/test``, outputs being the target with a little leakage."""
    tables: dict[str, dict[str, str]] = {}
    for first, second in MIXTURES:
        key = f"{first}_{second}"
        voices = [voice(first), voice(second, seed=1)]
        files = {"wav.scp": sum(voices), "spk1.scp": voices[0], "spk2.scp": voices[1]}
        for number, name in enumerate((first, second), 1):
            files[f"enroll_spk{number}.scp"] = voice(name, seed=7)
            files[f"out{number}"] = voices[number - 1] + 0.2 * voices[2 - number]
            tables.setdefault(f"target_spk{number}", {})[key] = name
        for table, samples in files.items():
            path = folder / "wavs" / f"{key}_{table}.wav"
            write_audio(path, np.asarray(samples), RATE)
            tables.setdefault(table, {})[key] = str(path)
    for table, content in tables.items():
        target = folder / "data/test" / table
        if table.startswith("out"):
            target = folder / "exp/m/greedy/test" / f"spk{table[-1]}.scp"
        write_scp(target, content)
    write_scp(folder / "data/test/spk2gender", SPEAKERS)
    return folder


def write_scores(world: Path, *systems: str) -> None:
    """Put rows of systems into the world's ``exp/m/scores.csv``, all with the same figures."""
    figures = {"SI_SDR": 1.5, "SI_SDR_aligned": 1.5, "ESTOI": 50.0, "similarity": 0.75}
    rows: list[Row] = []
    for system in systems:
        for pair in MIXTURES:
            kind = gender_pair([SPEAKERS[name] for name in pair])
            for number, name in enumerate(pair, 1):
                rows.append(Row(system, "test", "_".join(pair), number, name, kind, 1.0, figures))
    replace_rows(world / "exp/m/scores.csv", rows)


@pytest.fixture(scope="session")
def make_world() -> Callable[[Path], Path]:
    """Return the function that fills a directory with the world, for fixtures that several tests share."""
    return _make_world


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """Return a directory that holds the world, for one test to change."""
    return _make_world(tmp_path)
