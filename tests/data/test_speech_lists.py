"""Lists of single-speaker speech: the wanted speakers and no others; every mistake ends in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from librispeech import make_corpus

from espnet_tse_gen.bin import prepare_speech_lists
from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.files import read_scp

SPLITS: dict[str, Any] = {
    "train": {"train-clean-100": ["11", "12"], "dev-clean": ["21"]},
    "test": {"train-clean-100": ["13"]},
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("speech")
    make_corpus(root, "train-clean-100", {"11": 2, "12": 1, "13": 1}, seconds=0.1)
    make_corpus(root, "dev-clean", {"21": 1, "22": 1}, seconds=0.1)
    return root


def prepare(corpus: Path, output: Path, splits: Any = SPLITS, *more: str, split: str = "train") -> Path:
    path = output / "splits.json"
    path.write_text(splits if isinstance(splits, str) else json.dumps(splits))
    prepare_speech_lists.main(
        ["--librispeech", str(corpus), "--speakers_json", str(path), "--split", split, "--output_dir",
         str(output / "data"), *more]
    )  # fmt: skip
    return output / "data"


def test_lists_hold_the_wanted_speakers_only(corpus: Path, tmp_path: Path) -> None:
    data = prepare(corpus, tmp_path)
    speakers = read_scp(data / "utt2spk")
    assert speakers == {"11-7-0000": "11", "11-7-0001": "11", "12-7-0000": "12", "21-7-0000": "21"}
    assert read_scp(data / "spk2gender") == {"11": "m", "12": "f", "21": "m"}
    wavs = read_scp(data / "wav.scp")
    assert wavs.keys() == speakers.keys() and all(Path(path).is_file() for path in wavs.values())
    assert read_scp(prepare(corpus, tmp_path, split="test") / "utt2spk") == {"13-7-0000": "13"}


def test_subsets_can_be_left_out(corpus: Path, tmp_path: Path) -> None:
    data = prepare(corpus, tmp_path, SPLITS, "--subsets", "train-clean-100")
    assert set(read_scp(data / "utt2spk").values()) == {"11", "12"}


@pytest.mark.parametrize(
    ("splits", "more", "split", "message"),
    [
        (SPLITS, (), "tran", "did you mean 'train'"),
        (SPLITS, ("--subsets", "train-clean-10"), "train", "did you mean 'train-clean-100'"),
        ({"train": {"train-clean-100": ["11", "99"]}}, (), "train", "has no speaker '99'"),
        ({"train": {"no-such": ["11"]}}, (), "train", "no such folder"),
        ({"train": {"dev-clean": ["21"]}, "test": {"dev-clean": ["21"]}}, (), "train", "is in 'train' and in 'test'"),
        ({"train": {"dev-clean": "21"}}, (), "train", "no list of speaker names under 'train', 'dev-clean'"),
        ({"train": ["21"]}, (), "train", "found list under 'train'"),
        ("[]", (), "train", "found no split"),
        ("{", (), "train", "cannot be read as JSON"),
    ],
)
def test_mistakes_end_in_one_line(
    corpus: Path, tmp_path: Path, splits: Any, more: tuple[str, ...], split: str, message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        prepare(corpus, tmp_path, splits, *more, split=split)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "data").exists()


def test_without_a_file_of_speakers_all_of_the_subsets_are_taken(corpus: Path, tmp_path: Path) -> None:
    command = ["--librispeech", str(corpus), "--output_dir", str(tmp_path / "data")]
    prepare_speech_lists.main([*command, "--subsets", "train-clean-100 dev-clean"])
    assert set(read_scp(tmp_path / "data/utt2spk").values()) == {"11", "12", "13", "21", "22"}
    with pytest.raises(UserError, match="--subsets: name at least one"):
        prepare_speech_lists.main(command)
