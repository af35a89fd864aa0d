"""All official dev rows that the real recordings allow, file by file against the rule; minutes, so only when asked for:

    pytest -s -m "slow and realdata" tests/data/test_librimix_all_rows.py

It prints how many files it compared. WHAM's noise does not ship: clips of other noise stand in for it, written as WHAM's
are (16 kHz, two channels), for half of the rows shorter than the sources and for the others longer.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import soundfile
from librimix_rule import TYPES, assert_same, official_files, read_rows, sources_of

from espnet_tse_gen.data.librimix.generation import plan_generation, report_disk_use, run_plan
from espnet_tse_gen.data.librimix.layout import MixtureTree

pytestmark = [pytest.mark.slow, pytest.mark.realdata]


@pytest.fixture(scope="module")
def rows(request: pytest.FixtureRequest, real_data: Path) -> list[dict[str, str]]:
    if "slow" not in request.config.getoption("-m"):
        pytest.skip('takes minutes; run it with -m "slow and realdata"')
    found = read_rows(real_data / "libri2mix_metadata" / "libri2mix_dev-clean.csv")
    speech = real_data / "LibriSpeech"
    return [row for row in found if all((speech / one).with_suffix(".mp3").exists() for one in sources_of(row))]


@pytest.fixture(scope="module")
def corpora(
    rows: list[dict[str, str]], real_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, Path]]:
    """LibriSpeech's part as FLAC, and the stand-in for WHAM."""
    root = tmp_path_factory.mktemp("corpora")
    for source in {path for row in rows for path in sources_of(row)}:
        samples, rate = soundfile.read((real_data / "LibriSpeech" / source).with_suffix(".mp3"), dtype="int16")
        (root / "speech" / source).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(root / "speech" / source, samples, rate)
    clips = sorted((real_data / "noise").rglob("*.ogg"))

    @lru_cache(None)
    def clip(number: int) -> np.ndarray:
        samples, rate = soundfile.read(clips[number % len(clips)], dtype="float32", always_2d=True)
        return scipy.signal.resample_poly(samples[:, 0], 16000, rate)

    for number, row in enumerate(rows):
        noise = np.concatenate([clip(number + k) for k in range(1 if number % 2 else 8)])
        path = root / "wham" / row["noise_path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.stack([noise, noise[::-1]], axis=1), 16000)
    yield root / "speech", root / "wham"
    shutil.rmtree(root)


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("rate", ["8k", "16k"])
def test_every_file_of_every_row(
    rows: list[dict[str, str]], corpora: tuple[Path, Path], real_data: Path, tmp_path: Path, rate: str, mode: str
) -> None:
    speech, wham = corpora
    tree = MixtureTree(tmp_path, rate, mode)
    start = time.monotonic()
    metadata = real_data / "libri2mix_metadata" / "libri2mix_dev-clean.csv"
    plan = plan_generation(tree, metadata, speech, noise_root=wham, types=TYPES, allow_missing=True)
    print(f"\n{report_disk_use([plan])}")
    assert run_plan(plan) == (len(rows), 3000 - len(rows))
    generated = time.monotonic()
    files = extended = 0
    for row in rows:
        wanted = official_files(row, speech, wham, tree.rate, mode)
        for kind, content in wanted.items():
            assert_same(tree.audio("dev", kind, row["mixture_ID"]), content, tree.rate)
            files += 1
        longest = max(soundfile.info(str(speech / path)).frames for path in sources_of(row))
        extended += soundfile.info(str(wham / row["noise_path"])).frames < longest
    written = sum(path.suffix == ".wav" for path in (tree.folder / "dev").rglob("*"))
    print(
        f"{rate} {mode}: {files} of {written} files of {len(rows)} rows are byte for byte those of the rule; noise extended in "
        f"{extended} rows; generated in {generated - start:.0f} s, compared in {time.monotonic() - generated:.0f} s"
    )
    assert files == written == len(rows) * 6
    assert 0 < extended < len(rows)
    shutil.rmtree(tree.folder)
