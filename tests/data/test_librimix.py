"""The generation rule, against a computation of it that shares no code with the package."""

import functools
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.signal
import soundfile
from hypothesis import example, given, settings
from hypothesis import strategies as st
from librimix_rule import TYPES, assert_same, official_files, overlap_add, read_rows, sources_of
from librispeech import write_mixtures
from refused import refused

from espnet_tse_gen.data.librimix.generation import disk_use, extend_noise, plan_generation, run_plan
from espnet_tse_gen.data.librimix.layout import MixtureTree, find_metadata, read_info_sexes, set_name
from espnet_tse_gen.data.librimix.preparing import list_mixtures


def generate(*what: Any, types: Sequence[str] = ("mix_clean",), **options: Any) -> tuple[int, int]:
    """Return how many mixtures there are and are left out, of tree, metadata and speech."""
    return [run_plan(plan_generation(*what, kind, **options)) for kind in types][-1]


def check(tree: MixtureTree, subset: str, rows: list[dict[str, str]], speech: Path, noise_root: Path) -> None:
    for row in rows:
        for kind, wanted in official_files(row, speech, noise_root, tree.rate, tree.mode).items():
            assert_same(tree.audio(subset, kind, row["mixture_ID"]), wanted, tree.rate)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three recordings, two noises (one short and stereo) and metadata of three rows, one of them without recordings."""
    root = tmp_path_factory.mktemp("small")
    generator = np.random.default_rng(3)
    for speaker, length in (("11", 30000), ("22", 51234), ("33", 70001)):
        path = root / "speech" / "dev-clean" / speaker / "1" / f"{speaker}-1-0000.flac"
        path.parent.mkdir(parents=True)
        soundfile.write(path, 0.2 * generator.standard_normal(length), 16000)
    (root / "wham" / "cv").mkdir(parents=True)
    soundfile.write(root / "wham" / "cv" / "short.wav", 0.2 * generator.standard_normal((20000, 2)), 16000)
    soundfile.write(root / "wham" / "cv" / "long.wav", 0.9 * generator.standard_normal(90000), 16000)
    pairs, noises = ("11 22", "33 11", "11 99"), ["cv/short.wav", "cv/long.wav", "cv/long.wav"]
    three = ("11 22 33", "33 11 22")
    for path, mixtures in (("metadata/libri2mix_dev-clean.csv", pairs), ("three/libri3mix_dev-clean.csv", three)):
        spoken = [[f"{speaker}-1-0000" for speaker in mixture.split()] for mixture in mixtures]
        write_mixtures(root / path, spoken, noises[: len(spoken)])
    return root


@settings(max_examples=30, deadline=None)
@given(recorded=st.integers(8002, 50000), length=st.integers(1, 200000))
@example(8002, 60001)
def test_noise_extension(recorded: int, length: int) -> None:
    noise = np.random.default_rng(0).standard_normal(recorded).astype(np.float32)
    extended = extend_noise(noise, length)
    assert len(extended) == length
    # Where at most two copies overlap.
    if recorded > 16001 or length <= recorded:
        expected = overlap_add(noise, length) if length > recorded else noise[:length]
        np.testing.assert_allclose(extended, expected, atol=1e-12)
    # The copies fade into each other with weights that sum to one: a constant stays constant.
    np.testing.assert_allclose(extend_noise(np.ones_like(noise), length), 1.0, atol=1e-12)


@pytest.mark.parametrize("rate", ["8k", "16k"])
@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("number", [2, 3])
def test_files_are_those_of_the_rule(small: Path, tmp_path: Path, rate: str, mode: str, number: int) -> None:
    tree = MixtureTree(tmp_path, rate, mode)
    metadata = small / ("metadata" if number == 2 else "three") / f"libri{number}mix_dev-clean.csv"
    made = generate(tree, metadata, small / "speech", noise_root=small / "wham", types=TYPES, allow_missing=True)
    assert made == (2, 3 - number)
    rows = read_rows(metadata)[:2]
    check(tree, "dev", rows, small / "speech", small / "wham")
    assert [len(one.talkers) for one in list_mixtures(tree, "dev", "mix_clean")[0]] == [number, number]
    sources = [f"source_{k}_path" for k in range(1, number + 1)]
    for kind, columns in zip(TYPES, (sources, [*sources, "noise_path"], [sources[0], "noise_path"]), strict=True):
        table = read_rows(tmp_path / f"wav{rate}" / mode / "metadata" / f"mixture_dev_{kind}.csv")
        assert [line["mixture_ID"] for line in table] == [row["mixture_ID"] for row in rows]
        assert list(table[0]) == ["mixture_ID", "mixture_path", *columns, "length"]
        assert all(int(line["length"]) == soundfile.info(line["mixture_path"]).frames for line in table)


def test_disk_use_is_told_exactly_and_counts_only_what_is_missing(small: Path, tmp_path: Path) -> None:
    for rate, mode in (("8k", "min"), ("16k", "max")):
        tree = MixtureTree(tmp_path, rate, mode)
        what = (tree, small / "metadata" / "libri2mix_dev-clean.csv", small / "speech")
        plan = plan_generation(*what, "mix_both", noise_root=small / "wham", allow_missing=True)
        told = disk_use(plan)
        assert not tree.folder.exists()
        run_plan(plan)
        for folder, use in told.items():
            found = list(folder.iterdir())
            assert (len(found), sum(path.stat().st_blocks * 512 for path in found)) == use
        assert [files for files, _ in disk_use(plan).values()] == [0, 0, 0, 0]
        tree.audio("dev", "noise", "11-1-0000_22-1-0000").unlink()
        left = {folder.name: files for folder, (files, _) in disk_use(plan).items()}
        assert left == {"s1": 0, "s2": 0, "mix_both": 0, "noise": 1}


def test_other_metadata_never_pass_for_these(small: Path, tmp_path: Path) -> None:
    metadata = small / "metadata" / "libri2mix_dev-clean.csv"
    other = tmp_path / "libri2mix_dev-clean.csv"
    other.write_text(metadata.read_text().replace("0.71234567", "0.5"))
    tree = MixtureTree(tmp_path / "tree")
    generate(tree, metadata, small / "speech", allow_missing=True)
    refused("was not made from", generate, tree, other, small / "speech", allow_missing=True)
    generate(tree, other, small / "speech", allow_missing=True, replace=True)
    samples, _ = soundfile.read(tree.audio("dev", "s1", "11-1-0000_22-1-0000"))
    source, _ = soundfile.read(small / "speech" / "dev-clean" / "11" / "1" / "11-1-0000.flac")
    np.testing.assert_allclose(samples, 0.5 * source, atol=1e-4)
    assert tree.csv("dev", "mix_clean").exists()
    # A tree without our record is somebody else's.
    (tree.folder / "metadata" / ".dev.json").unlink()
    refused("was not made from", generate, tree, other, small / "speech", allow_missing=True, replace=True)


def test_options_and_metadata_are_checked(small: Path, tmp_path: Path) -> None:
    metadata, tree, speech = small / "metadata" / "libri2mix_dev-clean.csv", MixtureTree(tmp_path), small / "speech"
    refused("unknown --sample_rate '16000': did you mean '16k'", MixtureTree, tmp_path, "16000")
    refused("unknown --min_or_max 'mix'", MixtureTree, tmp_path, "16k", "mix")
    wrong = "unknown --mix_type 'mix_clan': did you mean 'mix_clean'"
    refused(wrong, generate, tree, metadata, speech, types=["mix_clan"])
    missing = r"1 of 3 mixtures .* '11-1-0000_99-1-0000': .*99-1-0000\.flac.*--allow_missing"
    refused(missing, generate, tree, metadata, speech)
    refused("3 of 3 mixtures", generate, tree, metadata, tmp_path / "nowhere", allow_missing=True)
    refused("shorter than the cross-fade", extend_noise, np.ones(8001, np.float32), 9000)
    refused("give --wham", generate, tree, metadata, speech, types=["mix_both"], allow_missing=True)
    broken, text = tmp_path / "libri2mix_dev-clean.csv", metadata.read_text()
    for content, message in (
        (text.replace("source_2_gain", "gain"), "no column 'source_2_gain'"),
        (text.replace("0.71234567", "loud"), "'11-1-0000_22-1-0000' lacks"),
        (text + text.splitlines()[1] + "\n", "'11-1-0000_22-1-0000' appears twice"),
        (text.replace("11-1-0000_22", "11-1-0001_22"), "not named after its sources; expected '11-1-0000_"),
        (text[:-40], "'11-1-0000_99-1-0000' lacks"),
    ):
        broken.write_text(content)
        refused(message, generate, tree, broken, speech)
    refused(r"set .*'dve': did you mean 'dev'", find_metadata, small / "metadata", "dve")
    (tmp_path / "libri3mix_dev-clean.csv").write_text("")
    refused(r"holds libri2mix_dev-clean\.csv and libri3mix_dev-clean\.csv", find_metadata, tmp_path, "dev")
    broken.write_text(text.replace("cv/long.wav", ""))
    no_noise = "'33-1-0000_11-1-0000' has no noise_path; only mix_clean"
    refused(no_noise, generate, tree, broken, speech, noise_root=tmp_path, types=["mix_both"])
    sexes = "mixture_ID,speaker_1_ID,speaker_1_sex,speaker_2_ID,speaker_2_sex\na_b,11.0,F,22.0,M\n"
    (tmp_path / "libri2mix_dev-clean_info.csv").write_text(sexes)
    assert read_info_sexes(broken) == {"11": "f", "22": "m"} and read_info_sexes(metadata) == {}
    names = {"train-clean-100": "train-100", "dev-clean": "dev", "train-mini": "train-mini"}
    assert {name: set_name(f"libri2mix_{name}.csv") for name in names} == names


def official_corpora(real_data: Path, root: Path, most: int) -> list[dict[str, str]]:
    """Make the recordings of official dev rows as FLAC, and a stand-in for WHAM's noise, every other one a short one."""
    clips = sorted((real_data / "noise").rglob("*.ogg"))

    @functools.cache
    def clip(number: int) -> np.ndarray:
        samples, rate = soundfile.read(clips[number % len(clips)], dtype="float32", always_2d=True)
        return scipy.signal.resample_poly(samples[:, 0], 16000, rate)

    rows = []
    for row in read_rows(real_data / "libri2mix_metadata" / "libri2mix_dev-clean.csv"):
        sources = {path: (real_data / "LibriSpeech" / path).with_suffix(".mp3") for path in sources_of(row)}
        if len(rows) == most or not all(path.exists() for path in sources.values()):
            continue
        for path, mp3 in sources.items():
            (root / "speech" / path).parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(root / "speech" / path, *soundfile.read(mp3, dtype="int16"))
        noise = np.concatenate([clip(len(rows) + k) for k in range(1 if len(rows) % 2 else 8)])
        (root / "wham" / row["noise_path"]).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(root / "wham" / row["noise_path"], np.stack([noise, noise[::-1]], axis=1), 16000)
        rows.append(row)
    return rows


@pytest.mark.realdata
@pytest.mark.parametrize("most", [6, pytest.param(3000, marks=pytest.mark.slow)])
def test_official_rows_of_real_recordings(
    request: pytest.FixtureRequest, real_data: Path, tmp_path: Path, most: int
) -> None:
    """Of all rows, file by file, only when it is asked for, as it takes minutes: pytest -m "slow and realdata"."""
    if most > 6 and "slow" not in request.config.getoption("-m"):
        pytest.skip('takes minutes; run it with -m "slow and realdata"')
    rows = official_corpora(real_data, tmp_path, most)
    metadata = real_data / "libri2mix_metadata" / "libri2mix_dev-clean.csv"
    for rate, mode in itertools.product(("8k", "16k"), ("min", "max")):
        tree = MixtureTree(tmp_path, rate, mode)
        speech, wham = tmp_path / "speech", tmp_path / "wham"
        made = generate(tree, metadata, speech, noise_root=wham, types=TYPES, allow_missing=True)
        assert made == (len(rows), 3000 - len(rows)) and rows
        check(tree, "dev", rows, speech, wham)
