"""Transcripts of the sources of mixtures: of whole ones only, and of those who say something."""

from collections import Counter
from pathlib import Path

import pytest
from librispeech import make_corpus, tone

from espnet_tse_gen.audio.writing import write_audio
from espnet_tse_gen.data.transcripts import CUT, SILENT, UNKNOWN, WRITTEN, describe_transcripts, find_transcripts
from espnet_tse_gen.utils.errors import UserError


@pytest.fixture
def chapter(tmp_path: Path) -> Path:
    """Four utterances: 11-7-0000 lasts 1.51 s; the last says nothing. The table begins with a byte order mark."""
    make_corpus(tmp_path / "LibriSpeech", "dev-clean", {"11": 4})
    folder = tmp_path / "LibriSpeech/dev-clean/11/7"
    lines = [f"11-7-{number:04d} WORDS OF {number}\n" for number in range(2)]
    (folder / "11-7.trans.txt").write_text("".join([*lines, "11-7-0003\n"]), encoding="utf-8-sig")
    return folder


@pytest.mark.parametrize("rate", [8000, 16000])
def test_whole_sources_get_their_transcripts_and_others_none(chapter: Path, tmp_path: Path, rate: int) -> None:
    sources, recordings = {}, {}
    for number, (seconds, name) in enumerate(
        [(1.51, "0000"), (1.0, "0001"), (1.61, "0002"), (1.81, "0003"), (1.0, "0004")]
    ):
        key = f"mixture{number}"
        sources[key] = str(tmp_path / f"{key}.wav")
        write_audio(sources[key], tone(seconds * 16000 / rate, 100.0)[: round(seconds * rate)], rate)
        recordings[key] = str(chapter / f"11-7-{name}.flac")
    del recordings["mixture4"]
    counts: Counter[str] = Counter()
    assert find_transcripts(sources, recordings, counts) == {"mixture0": "WORDS OF 0"}
    assert counts == {WRITTEN: 1, CUT: 1, SILENT: 1, UNKNOWN: 2}
    told = "1 sources that 'min' cut short have none; 1 have no words; 2 have none in the corpus"
    assert describe_transcripts(counts) == f"transcripts of 1 sources; {told}"
    assert not describe_transcripts({UNKNOWN: 3})
    Path(sources["mixture0"]).unlink()
    with pytest.raises(UserError, match="no such file"):
        find_transcripts(sources, recordings, counts)
