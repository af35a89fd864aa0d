"""Cut long recordings of a corpus in LibriSpeech's layout into short ones, into a corpus of the same layout.

For corpora that hold one long utterance per speaker: target and enrolment must be different recordings, and two pieces
of one recording can serve as such in training. (They share the room and the day, so this is not for evaluation.)
"""

from __future__ import annotations

import functools
import itertools
import json
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from espnet_tse_gen.audio.files import full_scale_factor, read_audio, write_audio
from espnet_tse_gen.data.corpus import Utterance, list_utterances
from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.files import atomic_write, read_json
from espnet_tse_gen.utils.parallel import map_jobs

# A cut may move by this much to where the signal is weakest.
_SEARCH_SECONDS = 0.5


def cut_points(samples: np.ndarray, rate: int, seconds: float) -> list[int]:
    """Return the borders of pieces of about ``seconds``, the first 0 and the last the length.

    Pieces have equal length up to the search for a pause. A recording of at least ``seconds`` gives two or more, so that
    one can enrol for another; a shorter one stays whole.
    """
    count = max(2 if len(samples) >= seconds * rate else 1, round(len(samples) / (seconds * rate)))
    frame, reach = rate // 50, int(_SEARCH_SECONDS * rate)
    borders = [0]
    for index in range(1, count):
        middle = len(samples) * index // count
        start = max(borders[-1] + frame, middle - reach)
        window = samples[start : middle + reach].astype(np.float64)
        power = np.convolve(window**2, np.ones(frame), "valid")
        borders.append(start + int(np.argmin(power)) + frame // 2)
    return [*borders, len(samples)]


def _cut(utterance: Utterance, seconds: float, root: Path, output: Path) -> int:
    samples, rate = read_audio(utterance.path, key=utterance.name)
    borders = cut_points(samples, rate, seconds)
    factor = np.float32(full_scale_factor([samples]))
    folder = output / utterance.path.parent.relative_to(root)
    for index, (start, end) in enumerate(itertools.pairwise(borders)):
        path = folder / f"{utterance.name}{index:02d}.flac"
        if not path.exists():
            write_audio(path, samples[start:end] * factor, rate)
    return len(borders) - 1


def segment_corpus(
    root: str | Path,
    subsets: Mapping[str, Collection[str] | None],
    output: str | Path,
    seconds: float,
    num_jobs: int = 1,
) -> int:
    """Cut the recordings of ``subsets`` (and speakers, ``None``: all) of ``root`` into pieces below ``output``.

    Piece ``kk`` of utterance ``A-B-NNNN`` is called ``A-B-NNNNkk``. Pieces already there are kept.

    Returns:
        The number of pieces.
    """
    if not 1.0 <= seconds <= 60.0:
        raise UserError(f"--segment_seconds is {seconds}; expected 1 to 60")
    root, output = Path(root), Path(output)
    record, state = output / ".segment.json", {"root": str(root.absolute()), "seconds": seconds}
    if record.exists() and read_json(record) != state:
        raise UserError(f"{output}: holds pieces of another length or corpus; remove it, or change --segment_dir")
    with atomic_write(record) as stream:
        json.dump(state, stream)
    cut = functools.partial(_cut, seconds=seconds, root=root, output=output)
    count = sum(map_jobs(cut, list_utterances(root, subsets), num_jobs, "cutting"))
    if (root / "SPEAKERS.TXT").exists():
        shutil.copyfile(root / "SPEAKERS.TXT", output / "SPEAKERS.TXT")
    return count
