"""Metadata drawn from a corpus, and long recordings cut into pieces."""

import json
from pathlib import Path

import numpy as np
import pytest
from librispeech import make_corpus, tone
from refused import refused

from espnet_tse_gen.audio.files import read_audio
from espnet_tse_gen.audio.writing import write_audio
from espnet_tse_gen.bin.prepare_libri2mix import main
from espnet_tse_gen.data.corpus import cut_points, list_utterances, read_speaker_sexes, segment_corpus
from espnet_tse_gen.data.librimix.drawing import active_level, make_metadata
from espnet_tse_gen.data.librimix.layout import read_metadata


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("corpus")
    make_corpus(root, "train-a", dict.fromkeys(["11", "12", "13", "14", "15", "16"], 3))
    make_corpus(root, "train-b", {"21": 2, "22": 2})
    return root


def test_rows_follow_the_seed_and_mix_different_speakers(corpus: Path) -> None:
    subsets = {"train-a": None, "train-b": ["21"]}
    rows = make_metadata(corpus, subsets, 120, seed=1)
    assert rows == make_metadata(corpus, subsets, 120, seed=1)
    assert rows != make_metadata(corpus, subsets, 120, seed=2)
    assert len({row["mixture_ID"] for row in rows}) == 120
    sexes = read_speaker_sexes(corpus)
    speakers = [[part.split("-")[0] for part in row["mixture_ID"].split("_")] for row in rows]
    assert all(one != two for one, two in speakers)
    assert {speaker for pair in speakers for speaker in pair} == {"11", "12", "13", "14", "15", "16", "21"}
    assert 0.35 < np.mean([sexes[one] == sexes[two] for one, two in speakers]) < 0.65
    refused(r"1 speaker\(s\)", make_metadata, corpus, {"train-a": ["11"]}, 1)
    refused("fewer than 200 different pairs", make_metadata, corpus, {"train-b": None}, 200)


def test_levels_are_symmetric_around_zero(corpus: Path) -> None:
    levels = {one.path: active_level(read_audio(one.path)[0]) for one in list_utterances(corpus, "train-a")}
    ratios = []
    for row in make_metadata(corpus, {"train-a": None}, 200, seed=1):
        gains = [20 * np.log10(float(row[f"source_{k}_gain"])) for k in (1, 2)]
        both = [levels[corpus / row[f"source_{k}_path"]] + gain for k, gain in enumerate(gains, 1)]
        assert all(-33.01 <= level <= -24.99 for level in both)
        ratios.append(both[0] - both[1])
    assert abs(np.mean(ratios)) < 0.8
    assert np.max(np.abs(ratios)) < 8.01


def test_a_loud_pair_is_turned_down_together(tmp_path: Path) -> None:
    make_corpus(tmp_path, "train-a", {"11": 2, "12": 2})
    for one in list_utterances(tmp_path, "train-a"):
        clicks = 0.01 * tone(3.0, 200)
        clicks[::8000] = 0.99
        write_audio(one.path, clicks, 16000)
    for row in make_metadata(tmp_path, {"train-a": None}, 2):
        peaks = [np.abs(read_audio(tmp_path / row[f"source_{k}_path"])[0]).max() for k in (1, 2)]
        assert np.dot(peaks, [float(row[f"source_{k}_gain"]) for k in (1, 2)]) <= 0.9 + 1e-6


def test_cuts_fall_into_pauses() -> None:
    samples = tone(10.0, 300)
    for pause in (3.2, 6.9):
        samples[int(pause * 16000) : int((pause + 0.1) * 16000)] = 0
    borders = cut_points(samples, 16000, 3.3)
    assert (borders[0], borders[-1]) == (0, len(samples))
    assert [border / 16000 for border in borders[1:-1]] == pytest.approx([3.25, 6.95], abs=0.06)
    assert cut_points(samples[: 16000 * 3], 16000, 3.3) == [0, 16000 * 3]
    assert len(cut_points(samples[: 16000 * 4], 16000, 3.3)) == 3


def test_pieces_make_up_the_recording(corpus: Path, tmp_path: Path) -> None:
    count = segment_corpus(corpus, {"train-a": ["11"]}, tmp_path, 1.0)
    pieces = list_utterances(tmp_path, "train-a")
    assert len(pieces) == count > 3
    assert {len(piece.name) for piece in pieces} == {len("11-7-000000")}
    for whole in list_utterances(corpus, {"train-a": ["11"]}):
        parts = [read_audio(piece.path)[0] for piece in pieces if piece.name.startswith(whole.name)]
        np.testing.assert_array_equal(np.concatenate(parts), read_audio(whole.path)[0])
    assert (tmp_path / "SPEAKERS.TXT").exists()
    refused("holds pieces of another length", segment_corpus, corpus, {"train-a": ["11"]}, tmp_path, 2.0)
    refused("--segment_seconds is 0.2", segment_corpus, corpus, {"train-a": None}, tmp_path, 0.2)


def test_the_command_makes_a_training_set_of_listed_speakers(corpus: Path, tmp_path: Path) -> None:
    """From a list of speakers with one recording each to a data directory, through cutting."""
    make_corpus(tmp_path / "speech", "train-x", {str(speaker): 1 for speaker in range(31, 36)}, seconds=4.0)
    (tmp_path / "splits.json").write_text(json.dumps({"train": {"train-x": ["31", "32", "33"]}, "dev": {}}))
    common = ["--metadata", str(tmp_path / "metadata"), "--nj", "1"]
    make = [
        "--make_metadata",
        "--speakers_json",
        str(tmp_path / "splits.json"),
        "--num_mixtures",
        "9",
        "--min_seconds",
        "1",
    ]
    cut = ["--segment_seconds", "2", "--segment_dir", str(tmp_path / "cut")]
    main([*common, *make, *cut, "--librispeech", str(tmp_path / "speech")])
    rows = read_metadata(tmp_path / "metadata" / "libri2mix_train-own.csv")
    assert len(rows) == 9
    assert {path.split("/")[1] for row in rows for path in row.sources} == {"31", "32", "33"}
    main([*common, "--librispeech", str(tmp_path / "cut"), "--libri2mix", str(tmp_path / "mix"), "--sets", "train-own",
          "--data_dir", str(tmp_path / "data")])  # fmt: skip
    pool = json.loads((tmp_path / "data" / "train" / "spk2enroll.json").read_text())
    assert pool.keys() == {"31", "32", "33"}
