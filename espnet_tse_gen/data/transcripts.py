"""Transcripts of the sources of mixtures, from LibriSpeech's ``.trans.txt``, for word error rates.

A mixture in mode ``min`` is as long as its shorter source, and the words that were cut off the other one are in its transcript
all the same. Such a source gets no line, since every system would be charged with deletions that it did not make; word error
rates are then over the sources that are whole (with ``max``, over all). Nor does one get a line in which nobody says a word.
"""

import functools
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from espnet_tse_gen.audio.files import read_header
from espnet_tse_gen.utils.files import read_text

# Resampling may round a length up or down.
TOLERANCE_SECONDS = 0.01
WRITTEN, CUT, SILENT, UNKNOWN = (
    "transcripts of {:,} sources", "{:,} sources that 'min' cut short have none", "{:,} have no words",
    "{:,} have none in the corpus",
)  # fmt: skip
"""What is found of a source."""


def describe_transcripts(counts: Mapping[str, int]) -> str:
    """Say in one line how many sources were found to be what; empty where the corpus has no transcripts of these mixtures."""
    if not counts.keys() - {UNKNOWN}:
        return ""
    told = [kind.format(counts[kind]) for kind in (CUT, SILENT, UNKNOWN) if kind in counts]
    return "; ".join([WRITTEN.format(counts.get(WRITTEN, 0)), *told])


def find_transcripts(sources: Mapping[str, str], recordings: Mapping[str, str], counts: Counter[str]) -> dict[str, str]:
    """Return mixture -> what one speaker says in it, and add what was found to ``counts``.

    ``sources`` are the speaker's parts of mixtures, files; ``recordings``, where known, the whole ones, in whose folders a
    ``*.trans.txt`` is looked for. What cannot be read is a :class:`UserError`.
    """
    texts = {}
    for key, source in sources.items():
        path = Path(recordings.get(key, ""))
        spoken = _chapter(path.parent).get(path.stem) if key in recordings else None
        if spoken is None:
            kind = UNKNOWN
        elif _seconds(source, key) < _seconds(str(path), key) - TOLERANCE_SECONDS:
            kind = CUT
        elif not spoken:
            kind = SILENT
        else:
            kind, texts[key] = WRITTEN, spoken
        counts[kind] += 1
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
