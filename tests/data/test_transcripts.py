from __future__ import annotations

from pathlib import Path

import pytest
from librispeech import make_corpus, tone

from espnet_tse_gen.audio.files import write_audio
from espnet_tse_gen.data.transcripts import describe_transcripts, write_transcripts
from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.files import read_scp, write_scp

KEY = "11-7-0001_12-7-0000"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Two speakers of two utterances each; 11-7-0001 lasts 1.61 s and 12-7-0000 1.52 s."""
    make_corpus(tmp_path / "LibriSpeech", "dev-clean", {"11": 2, "12": 2})
    for speaker in ("11", "12"):
        lines = [f"{speaker}-7-{number:04d} WORDS OF {speaker} {number}\n" for number in range(2)]
        (tmp_path / f"LibriSpeech/dev-clean/{speaker}/7/{speaker}-7.trans.txt").write_text("".join(lines))
    return tmp_path / "LibriSpeech"


def directory(tmp_path: Path, seconds: float, rate: int, key: str = KEY) -> Path:
    folder = tmp_path / "data"
    for number in (1, 2):
        path = tmp_path / f"s{number}/{key}.wav"
        write_audio(path, tone(seconds * 16000 / rate, 100.0)[: round(seconds * rate)], rate)
        write_scp(folder / f"spk{number}.scp", {key: str(path)})
    write_scp(folder / "wav.scp", {key: str(path)})
    return folder


@pytest.mark.parametrize("rate", [8000, 16000])
def test_whole_sources_get_their_transcripts_and_cut_ones_none(corpus: Path, tmp_path: Path, rate: int) -> None:
    folder = directory(tmp_path, 1.52, rate)
    counts = write_transcripts(folder, corpus)
    assert read_scp(folder / "text_spk2") == {KEY: "WORDS OF 12 0"}
    assert not (folder / "text_spk1").exists()
    assert (counts.written, counts.cut, counts.unknown) == (1, 1, 0)
    assert describe_transcripts(counts) == "transcripts of 1 sources; 1 sources that 'min' cut short have none"


def test_padded_sources_have_both(corpus: Path, tmp_path: Path) -> None:
    folder = directory(tmp_path, 1.61, 16000)
    assert write_transcripts(folder, corpus).written == 2
    assert read_scp(folder / "text_spk1") == {KEY: "WORDS OF 11 1"}


def test_what_the_corpus_does_not_have_is_counted(corpus: Path, tmp_path: Path) -> None:
    folder = directory(tmp_path, 1.61, 16000, "11-7-000101_99-7-0000")
    (folder / "text_spk1").write_text("old line\n")
    counts = write_transcripts(folder, corpus)
    assert (counts.written, counts.unknown) == (0, 2)
    assert not (folder / "text_spk1").exists()
    assert describe_transcripts(counts) == ""
    assert write_transcripts(folder, tmp_path / "nowhere").unknown == 2


def test_a_recording_that_is_gone_is_named(corpus: Path, tmp_path: Path) -> None:
    folder = directory(tmp_path, 1.61, 16000)
    Path(read_scp(folder / "spk1.scp")[KEY]).unlink()
    with pytest.raises(UserError, match="no such file"):
        write_transcripts(folder, corpus)
