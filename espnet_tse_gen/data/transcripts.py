"""Transcripts of the sources of mixtures, from LibriSpeech's ``.trans.txt``, for word error rates.

    count = write_transcripts("data/test", "/corpora/LibriSpeech")

A mixture in mode ``min`` is as long as its shorter source, and the words that were cut off the other one are in its
transcript all the same. Such a source gets no line, since every system would be charged with deletions that it did not
make; word error rates are then over the sources that are whole (with ``max``, over all).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from espnet_tse_gen.data.datadir import numbered_tables, read_header
from espnet_tse_gen.utils.files import read_scp, write_scp

# Resampling may round a length up or down.
TOLERANCE_SECONDS = 0.01


@dataclass
class TranscriptCounts:
    """How many sources have a transcript, how many are cut short in the mixtures, and for how many none was found."""

    written: int = 0
    cut: int = 0
    unknown: int = 0


class _Chapters:
    """Looks utterances up in a tree of LibriSpeech; every chapter's transcripts are read once."""

    def __init__(self, root: str | Path) -> None:
        self._parts = sorted(path for path in Path(root).iterdir() if path.is_dir()) if Path(root).is_dir() else []
        self._read: dict[tuple[str, str], tuple[Path | None, dict[str, str]]] = {}

    def find(self, utterance: str) -> tuple[Path, str] | None:
        """Return recording and transcript of an utterance ``SPEAKER-CHAPTER-NUMBER``, or ``None``."""
        speaker, _, rest = utterance.partition("-")
        chapter = rest.partition("-")[0]
        if (speaker, chapter) not in self._read:
            self._read[speaker, chapter] = self._chapter(speaker, chapter)
        folder, texts = self._read[speaker, chapter]
        if folder is None or utterance not in texts:
            return None
        path = next((found for end in ("flac", "wav") if (found := folder / f"{utterance}.{end}").exists()), None)
        return (path, texts[utterance]) if path is not None else None

    def _chapter(self, speaker: str, chapter: str) -> tuple[Path | None, dict[str, str]]:
        for part in self._parts:
            table = part / speaker / chapter / f"{speaker}-{chapter}.trans.txt"
            if table.is_file():
                return table.parent, read_scp(table)
        return None, {}


def write_transcripts(folder: str | Path, librispeech: str | Path) -> TranscriptCounts:
    """Write ``text_spk{n}`` (mixture -> transcript) beside every ``spk{n}.scp`` of a data directory.

    Args:
        folder: Data directory of mixtures named ``UTTERANCE1_UTTERANCE2``.
        librispeech: The folder that holds ``dev-clean`` and the like.

    Returns:
        Counts over all speakers. A table without any line is not written.

    Raises:
        UserError: If a recording cannot be read, or a table of transcripts is damaged.
    """
    folder = Path(folder)
    chapters = _Chapters(librispeech)
    counts = TranscriptCounts()
    for number, table in enumerate(numbered_tables(folder, "spk"), 1):
        texts = {}
        for key, source in read_scp(table).items():
            names = key.split("_")
            found = chapters.find(names[number - 1]) if number <= len(names) else None
            if found is None:
                counts.unknown += 1
                continue
            path, text = found
            if _seconds(source, key) < _seconds(str(path), key) - TOLERANCE_SECONDS:
                counts.cut += 1
            else:
                texts[key] = text
        output = folder / f"text_spk{number}"
        if texts:
            write_scp(output, texts)
            counts.written += len(texts)
        else:
            output.unlink(missing_ok=True)
    return counts


def _seconds(path: str, key: str) -> float:
    samples, rate, _ = read_header(path, key)
    return samples / rate


def describe_transcripts(counts: TranscriptCounts) -> str:
    """Say in one line what was written; empty where the corpus has no transcripts of these mixtures."""
    if not counts.written and not counts.cut:
        return ""
    text = f"transcripts of {counts.written:,} sources"
    if counts.cut:
        text += f"; {counts.cut:,} sources that 'min' cut short have none"
    if counts.unknown:
        text += f"; of {counts.unknown:,} none was found"
    return text
