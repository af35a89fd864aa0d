"""Lists of single-speaker speech: the wanted speakers and no others; every mistake ends in one line."""

import json
from pathlib import Path
from typing import Any

import pytest
from librispeech import make_corpus
from refused import refused

from espnet_tse_gen.audio.files import read_audio
from espnet_tse_gen.bin import prepare_speech_lists
from espnet_tse_gen.data.corpus import SPEECH, list_utterances, read_speaker_sexes
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


def prepare(corpus: Path, output: Path, *more: str, splits: Any = SPLITS) -> dict[str, str]:
    (output / "splits.json").write_text(splits if isinstance(splits, str) else json.dumps(splits))
    common = ["--librispeech", str(corpus), "--output_dir", str(output / "data")]
    given = more or ["--speakers_json", str(output / "splits.json"), "--split", "train"]
    prepare_speech_lists.main([*common, *given])
    return read_scp(output / "data" / "utt2spk")


def test_lists_hold_the_wanted_speakers_only(corpus: Path, tmp_path: Path) -> None:
    speakers = prepare(corpus, tmp_path)
    assert speakers == {"11-7-0000": "11", "11-7-0001": "11", "12-7-0000": "12", "21-7-0000": "21"}
    assert read_scp(tmp_path / "data" / "spk2gender") == {"11": "m", "12": "f", "21": "m"}
    assert set(read_scp(tmp_path / "data" / "utt2collection").values()) == {"train-clean-100", "dev-clean"}
    wavs = read_scp(tmp_path / "data" / "wav.scp")
    assert wavs.keys() == speakers.keys() and all(Path(path).is_file() for path in wavs.values())
    given = ["--speakers_json", str(tmp_path / "splits.json"), "--split"]
    assert prepare(corpus, tmp_path, *given, "test") == {"13-7-0000": "13"}
    assert set(prepare(corpus, tmp_path, *given, "train", "--subsets", "train-clean-100").values()) == {"11", "12"}
    found = prepare(corpus, tmp_path, "--subsets", "train-clean-100 dev-clean")
    assert set(found.values()) == {"11", "12", "13", "21", "22"}, "without a file of speakers, all of the subsets"


@pytest.mark.parametrize(
    ("splits", "more", "message"),
    [
        (SPLITS, ["--split", "tran"], "did you mean 'train'"),
        (SPLITS, ["--split", "train", "--subsets", "train-clean-10"], "did you mean 'train-clean-100'"),
        ({"train": {"train-clean-100": ["11", "99"]}}, [], "has no speaker '99'"),
        ({"train": {"no-such": ["11"]}}, [], "no such folder"),
        ({"train": {"dev-clean": ["21"]}, "test": {"dev-clean": ["21"]}}, [], "is in 'train' and in 'test'"),
        ({"train": {"dev-clean": "21"}}, [], "no list of speaker names under 'train', 'dev-clean'"),
        ({"train": ["21"]}, [], "found list under 'train'"),
        ("[]", [], "found no split"),
        ("{", [], "cannot be read as JSON"),
        (SPLITS, ["--subsets", "train-clean-100"], "--split is missing; name one of .*: test, train"),
        ("", ["--librispeech", "none"], "--subsets: name at least one"),
    ],
)
def test_mistakes_end_in_one_line(corpus: Path, tmp_path: Path, splits: Any, more: list[str], message: str) -> None:
    given = ["--speakers_json", str(tmp_path / "splits.json")] if splits else []
    refused(message, prepare, corpus, tmp_path, *given, *(more or ["--split", "train"]), splits=splits)
    assert not (tmp_path / "data").exists()


def test_the_speech_that_ships_is_whole() -> None:
    utterances = list_utterances(SPEECH, {"train-clean-5": None, "dev-clean": None, "test-other": None})
    assert len(utterances) == 120 and {one.path.suffix for one in utterances} == {".opus"}
    speakers = {(one.subset, one.speaker) for one in utterances if one.subset != "train-clean-5"}
    # Nothing that ships was trained on these.
    expected = {"dev-clean": ("84", "251", "1988", "2902"), "test-other": ("367", "2033", "2414", "3331")}
    assert speakers == {(subset, each) for subset, own in expected.items() for each in own}
    assert read_speaker_sexes(SPEECH).keys() == {one.speaker for one in utterances}
    assert all(2.2 < len(read_audio(one.path, 16000)[0]) / 16000 < 8.2 for one in utterances)
    assert sum(one.path.stat().st_size for one in utterances) < 2_500_000
    transcripts = [line for path in SPEECH.rglob("*.trans.txt") for line in path.read_text().splitlines()]
    assert {line.split()[0] for line in transcripts} == {one.name for one in utterances if one.subset == "dev-clean"}
