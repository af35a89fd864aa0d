"""Recordings as a codec meets them: at the codec's rate and at the level convention, with the way back remembered.

Token extraction, fitting and resynthesis must scale a recording alike, or the tokens on disk are not those that the
model meets; they all read through :func:`load_recording`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from espnet_tse_gen.audio.files import read_audio, read_header, read_with_format
from espnet_tse_gen.audio.level import mixture_gain
from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.files import read_scp

OWN_LEVEL = "own"
"""What ``--level_scp`` is given where recordings set their own level beside tables that have mixtures."""


@dataclass(frozen=True)
class Recording:
    """One recording, ready to be encoded."""

    samples: np.ndarray  # float32 [L] at the codec's rate, multiplied by `gain`
    gain: float  # the factor of the level convention; divide by it to undo
    rate: int  # Hz, of the file
    size: int  # samples of the file at its own rate
    subtype: str  # how the file holds them, such as PCM_16
    mixture: np.ndarray | None = None  # of the same key, float32 [L], same rate and factor; only when asked for

    def restore(self, wav: np.ndarray, sample_rate: int) -> np.ndarray:
        """Return ``wav`` (float ``[>= L]`` at the codec's ``sample_rate``) at the file's rate, length and level."""
        out = resample(wav[: self.samples.shape[0]], sample_rate, self.rate)[: self.size] / self.gain
        return np.pad(out, (0, self.size - out.shape[0])).astype(np.float32)


class Recordings(dict[str, str]):
    """The recordings of a ``wav.scp``, key to path, each of which :meth:`load` reads, scales and resamples.

    A recording is scaled by the factor of the mixture that ``level_scp`` has under its key; ``None`` or ``own``: by its own.

    Raises:
        UserError: If a table cannot be read or ``level_scp`` lacks a key.
    """

    def __init__(self, wav_scp: str | Path, level_scp: str | Path | None = None) -> None:
        super().__init__(read_scp(wav_scp))
        self.wav_scp, self.level_scp = wav_scp, None if level_scp == OWN_LEVEL else level_scp
        self._levels = None if self.level_scp is None else read_scp(self.level_scp)
        missing = [] if self._levels is None else [key for key in self if key not in self._levels]
        if missing:
            raise UserError(
                f"{level_scp}: {len(missing)} key(s) of {wav_scp} are missing, first '{missing[0]}'; add them"
            )

    def level_path(self, key: str) -> str | None:
        """Return the mixture that sets the level of ``key``, or ``None`` if the recording sets its own."""
        return None if self._levels is None else self._levels[key]

    def load(self, key: str, sample_rate: int, with_mixture: bool = False) -> Recording:
        """Read one recording; see :func:`load_recording`."""
        return load_recording(self[key], sample_rate, self.level_path(key), with_mixture, key)


def read_tables(wav_scps: Sequence[str], level_scps: Sequence[str]) -> list[Recordings]:
    """Read the tables of repeated options ``--wav_scp`` and ``--level_scp``.

    Raises:
        UserError: If a table cannot be read, or there are neither none nor as many of the second.
    """
    if len(level_scps) not in (0, len(wav_scps)):
        raise UserError(
            f"--level_scp: expected none or one for each --wav_scp ({len(wav_scps)}; '{OWN_LEVEL}' for a table without), "
            f"got {len(level_scps)}"
        )
    return [Recordings(*pair) for pair in zip(wav_scps, level_scps or [OWN_LEVEL] * len(wav_scps), strict=True)]


def load_recording(
    path: str | Path,
    sample_rate: int,
    level_path: str | Path | None = None,
    with_mixture: bool = False,
    key: str | None = None,
) -> Recording:
    """Read one recording at ``sample_rate`` (Hz), scaled by the factor of the mixture ``level_path``, or by its own.

    Errors are those of :func:`read_audio`, which name file and ``key``; the mixture must have the recording's rate.
    """
    samples, rate, _, subtype = read_with_format(path, key=key)
    mixture = samples
    if level_path is not None and str(level_path) != str(path):
        mixture, _ = read_audio(level_path, sample_rate=rate, key=key)
    gain = mixture_gain(mixture)
    made = resample(samples * np.float32(gain), rate, sample_rate)
    guide = resample(mixture * np.float32(gain), rate, sample_rate) if with_mixture else None
    return Recording(made, gain, rate, samples.shape[0], subtype, guide)


def resample(samples: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """Return ``samples`` (float32 ``[L]`` at ``rate`` Hz) at ``wanted`` Hz, at least one sample long."""
    if rate == wanted:
        return np.ascontiguousarray(samples, dtype=np.float32)
    import soxr

    made = soxr.resample(samples.astype(np.float32), rate, wanted, quality="HQ")
    return made if made.shape[0] else np.zeros(1, dtype=np.float32)


class Resampler:
    """Takes a recording part by part to another rate; all that it gives together is what :func:`resample` gives of the whole."""

    def __init__(self, rate: int, wanted: int) -> None:
        self._stream = None
        if rate != wanted:
            import soxr

            self._stream = soxr.ResampleStream(rate, wanted, 1, dtype="float32", quality="HQ")

    def __call__(self, part: np.ndarray, last: bool = False) -> np.ndarray:
        """Return what is done after ``part`` (float32 ``[L]``), which may be less or more; after the ``last``, the rest."""
        return part if self._stream is None else self._stream.resample_chunk(part, last)


def resampled(parts: Iterable[np.ndarray], rate: int, wanted: int) -> Iterator[np.ndarray]:
    """Yield a recording that comes in ``parts`` (float32 ``[L_i]`` at ``rate`` Hz) at ``wanted`` Hz."""
    resampler = Resampler(rate, wanted)
    yield from map(resampler, parts)
    yield resampler(np.zeros(0, np.float32), last=True)


def resampled_length(samples: int, rate: int, wanted: int) -> int:
    """Return how many samples :func:`resample` makes of so many."""
    return max(1, int(samples / (rate / wanted) + 0.5))


def duration(path: str | Path) -> float:
    """Return the seconds that a file's header says, 0 if it cannot be read (loading it then says why)."""
    try:
        samples, rate = read_header(path, mono=False)
    except UserError:
        return 0.0
    return samples / rate
