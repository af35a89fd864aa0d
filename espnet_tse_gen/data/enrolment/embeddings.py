"""Speaker embeddings of enrolments: computed by Resemblyzer, kept in one file, looked up by the recording's path.

Training looks embeddings up, as computing them takes longer than a training step; decoding computes that of its enrolment. The
encoder (GE2E, Wan et al. 2018) comes with its weights in the wheel, 256 numbers for a recording.
"""

import functools
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from espnet_tse_gen.audio.files import read_audio
from espnet_tse_gen.audio.level import mixture_gain
from espnet_tse_gen.audio.speaker import SpeakerEncoder
from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.files import atomic_write
from espnet_tse_gen.utils.parallel import map_jobs
from espnet_tse_gen.utils.state import state_of

# An interrupted run loses no more than this many recordings.
_BLOCK = 1000
_encoder = functools.cache(SpeakerEncoder)


class SpeakerEmbeddings:
    """The embeddings of a file that ``embed_speakers`` made, by the paths of recordings; another file is a :class:`UserError`."""

    def __init__(self, path: str | Path) -> None:
        self.path = path
        try:
            with np.load(path, allow_pickle=False) as content:
                paths, table = content["paths"], content["embeddings"].astype(np.float32)
                # Of an earlier version: what they were made from is not known.
                states = content.get("states", np.full(paths.shape, ""))
            usable = table.ndim == 2 and paths.shape == table.shape[:1] and np.isfinite(table).all()
        except FileNotFoundError:
            raise UserError(f"{path}: no such file; embed_speakers makes it") from None
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            usable = False
        if not usable:
            raise UserError(f"{path}: is not a file of speaker embeddings; make it again with embed_speakers")
        self.table = dict(zip(map(str, paths), table, strict=True))
        self.states = dict(zip(map(str, paths), map(str, states), strict=True))
        self.width = table.shape[1]
        """Numbers in an embedding."""

    def __getitem__(self, recording: str) -> np.ndarray:
        """Return the embedding ``[E]`` (float32) of the recording at the path ``recording``; none is a :class:`UserError`."""
        if recording not in self.table:
            raise UserError(f"--speaker_embeddings {self.path}: has no embedding of {recording}; run embed_speakers")
        return self.table[recording]


def embed(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """Return the embedding ``[256]`` (float32, of unit length) of a recording (float ``[L]`` at ``sample_rate`` Hz)."""
    return np.asarray(_encoder().embed(samples * mixture_gain(samples), sample_rate), dtype=np.float32)


def write_embeddings(output: str | Path, recordings: Sequence[str], num_jobs: int = 1, overwrite: bool = False) -> int:
    """Write the embeddings of ``recordings`` (paths) to ``output``, and return how many were not there yet of unchanged ones."""
    there = SpeakerEmbeddings(output) if Path(output).exists() and not overwrite else None
    known, states = (there.table, there.states) if there else ({}, {})
    now = {path: state_of(files=[path]) for path in recordings}
    todo = sorted(path for path, state in now.items() if path not in known or states.get(path) != state)
    for first in range(0, len(todo), _BLOCK):
        block = todo[first : first + _BLOCK]
        known.update(zip(block, map_jobs(_embed_file, block, num_jobs, f"embedding into {output}"), strict=True))
        states |= {path: now[path] for path in block}
        paths = sorted(known)
        made_from = np.array([states.get(path, "") for path in paths])
        with atomic_write(output, "wb") as stream:
            np.savez(stream, paths=np.array(paths), embeddings=np.stack([known[p] for p in paths]), states=made_from)
    return len(todo)


def _embed_file(path: str) -> np.ndarray:
    return embed(*read_audio(path))
