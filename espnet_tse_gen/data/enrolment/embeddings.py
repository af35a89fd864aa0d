"""Speaker embeddings of enrolments: computed by Resemblyzer, kept in one file, looked up by the recording's path.

Training looks embeddings up, as computing them takes longer than a training step; decoding computes that of its enrolment. The
encoder (GE2E, Wan et al. 2018) comes with its weights in the wheel, 256 numbers for a recording.
"""

from __future__ import annotations

import functools
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from espnet_tse_gen.audio.files import read_audio
from espnet_tse_gen.audio.level import mixture_gain
from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.files import atomic_write
from espnet_tse_gen.utils.parallel import map_jobs

if TYPE_CHECKING:
    from espnet_tse_gen.scoring.speaker import SpeakerEncoder

# An interrupted run loses no more than this many recordings.
_BLOCK = 1000


class SpeakerEmbeddings:
    """The embeddings of a file that ``embed_speakers`` made.

    Args:
        path: The file.

    Raises:
        UserError: If it is missing or not of that form.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = path
        self.rows, self.table = _read(path)

    @property
    def width(self) -> int:
        """Numbers in an embedding."""
        return self.table.shape[1]

    def __getitem__(self, recording: str) -> np.ndarray:
        """Return the embedding ``[E]`` (float32) of the recording at the path ``recording``.

        Raises:
            UserError: If there is none.
        """
        row = self.rows.get(recording)
        if row is None:
            raise UserError(
                f"--speaker_embeddings {self.path}: holds no embedding of {recording}; make the file with embed_speakers"
            )
        return self.table[row]


def embed(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """Return the embedding ``[256]`` (float32, of unit length) of a recording.

    Args:
        samples: Float ``[L]``.
        sample_rate: Hz.
    """
    found = _encoder().embed(samples * mixture_gain(samples), sample_rate)
    return np.asarray(found, dtype=np.float32)


def write_embeddings(output: str | Path, recordings: Sequence[str], num_jobs: int = 1, overwrite: bool = False) -> int:
    """Write the embeddings of ``recordings`` (paths) to ``output``; those that are there stay.

    Returns:
        The number of embeddings that were computed.

    Raises:
        UserError: If a recording cannot be read, or ``output`` is there and is no such file.
    """
    known: dict[str, np.ndarray] = {}
    if Path(output).exists() and not overwrite:
        rows, table = _read(output)
        known = {path: table[row] for path, row in rows.items()}
    wanted = sorted(set(recordings))
    todo = [path for path in wanted if path not in known]
    for first in range(0, len(todo), _BLOCK):
        block = todo[first : first + _BLOCK]
        known.update(zip(block, map_jobs(_embed_file, block, num_jobs, f"embedding into {output}"), strict=True))
        _write(output, known)
    return len(todo)


def _embed_file(path: str) -> np.ndarray:
    return embed(*read_audio(path))


@functools.cache
def _encoder() -> SpeakerEncoder:
    from espnet_tse_gen.scoring.speaker import SpeakerEncoder

    return SpeakerEncoder()


def _write(output: str | Path, embeddings: Mapping[str, np.ndarray]) -> None:
    paths = sorted(embeddings)
    with atomic_write(output, "wb") as stream:
        np.savez(stream, paths=np.array(paths), embeddings=np.stack([embeddings[path] for path in paths]))


def _read(path: str | Path) -> tuple[dict[str, int], np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as content:
            paths, table = content["paths"], content["embeddings"]
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; embed_speakers makes it") from None
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: is not a file of speaker embeddings ({error}); make it again") from None
    if table.ndim != 2 or paths.shape != table.shape[:1] or not np.isfinite(table).all():
        raise UserError(f"{path}: is not a file of speaker embeddings; make it again with embed_speakers")
    return {str(name): row for row, name in enumerate(paths)}, table.astype(np.float32)
