"""Transcripts of the sources of mixtures, from LibriSpeech's ``.trans.txt``, for word error rates.

A mixture in mode ``min`` is as long as its shorter source, and the words that were cut off the other one are in its transcript
all the same. Such a source gets no line, since every system would be charged with deletions that it did not make; word error
rates are then over the sources that are whole (with ``max``, over all). Nor does one get a line in which nobody says a word.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from espnet_tse_gen.audio.files import read_header
from espnet_tse_gen.utils.files import read_text

# Resampling may round a length up or down.
TOLERANCE_SECONDS = 0.01


@dataclass
class TranscriptCounts:
    """How many sources have a transcript, are cut short in the mixtures, have no words, and for how many none was found."""

    written: int = 0
    cut: int = 0
    silent: int = 0
    unknown: int = 0

    def describe(self) -> str:
        """Say in one line what was found; empty where the corpus has no transcripts of these mixtures."""
        if self.unknown and not self.written + self.cut + self.silent:
            return ""
        text = f"transcripts of {self.written:,} sources"
        for count, what in (
            (self.cut, "sources that 'min' cut short have none"),
            (self.silent, "have no words"),
            (self.unknown, "have none in the corpus"),
        ):
            text += f"; {count:,} {what}" if count else ""
        return text


def find_transcripts(
    sources: Mapping[str, str], recordings: Mapping[str, str], counts: TranscriptCounts
) -> dict[str, str]:
    """Return mixture -> what one speaker says in it.

    Args:
        sources: Mixture to the speaker's part of it, a file.
        recordings: Mixture to the whole recording, in whose folder a ``*.trans.txt`` is looked for, where it is known.
        counts: What was found is added here.

    Raises:
        UserError: If a recording or a table of transcripts cannot be read.
    """
    texts = {}
    for key, source in sources.items():
        path = Path(recordings.get(key, ""))
        spoken = _chapter(path.parent).get(path.stem) if key in recordings else None
        if spoken is None:
            counts.unknown += 1
        elif _seconds(source, key) < _seconds(str(path), key) - TOLERANCE_SECONDS:
            counts.cut += 1
        elif not spoken:
            counts.silent += 1
        else:
            counts.written += 1
            texts[key] = spoken
    return texts


@functools.lru_cache(maxsize=1000)
def _chapter(folder: Path) -> dict[str, str]:
    lines = [
        line.split(maxsplit=1)
        for path in sorted(folder.glob("[!.]*.trans.txt"))
        for line in read_text(path).split("\n")
    ]
    return {line[0]: line[1].strip() if len(line) == 2 else "" for line in lines if line}


def _seconds(path: str, key: str) -> float:
    samples, rate = read_header(path, key)
    return samples / rate
