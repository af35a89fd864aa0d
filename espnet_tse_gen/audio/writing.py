"""Writing audio files: every recording is written here, atomically; :mod:`espnet_tse_gen.audio.files` reads them."""

import contextlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import soundfile

from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.files import atomic_write

OUTPUT_FORMATS = {".wav": "WAV", ".flac": "FLAC"}
"""Format of an output by its suffix in small letters."""
KEPT_SUBTYPES = ("PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")
"""Sample formats of inputs that outputs get too; any other loses something each time that it is written."""
_FULL_SCALE = 0.999


def full_scale_factor(signals: Sequence[np.ndarray]) -> float:
    """Return the one factor, 1 or less, with which none of ``signals`` (float ``[L]``) is clipped in a file of whole numbers."""
    peak = max(float(np.abs(samples).max()) for samples in signals)
    return 1.0 if peak <= 1.0 else _FULL_SCALE / peak


def check_output(
    path: str | Path, inputs: Sequence[tuple[str, str | Path]], overwrite: bool, name: str = "--output"
) -> None:
    """Raise a ``UserError`` unless an option, ``name``, names a recording that can be written, and none that is there.

    ``inputs`` are ``(option, path)`` of the recordings that are read, which are not replaced with ``overwrite`` either.
    """
    if Path(path).suffix.lower() not in OUTPUT_FORMATS:
        raise UserError(f"{name} {path}: expected a name that ends in {' or '.join(OUTPUT_FORMATS)}")
    if not os.path.exists(path):
        return
    for option, given in inputs:
        if os.path.exists(given) and os.path.samefile(path, given):
            raise UserError(f"{name} {path}: is the file of {option}; choose another name")
    if os.path.isdir(path):
        raise UserError(f"{name} {path}: is a folder; name a file")
    if not overwrite:
        raise UserError(f"{name} {path}: is there already; choose another name or add --overwrite")


def output_subtype(path: str | Path, subtype: str) -> str:
    """Return the sample format for an output: its input's, if that loses nothing and ``path`` can hold it, or 16 bits."""
    kept = subtype in KEPT_SUBTYPES and soundfile.check_format(_output_format(path), subtype)
    return subtype if kept else "PCM_16"


def write_audio(path: str | Path, samples: np.ndarray, sample_rate: int, subtype: str = "PCM_16") -> None:
    """Write mono ``samples`` (float ``[L]``) as wav or flac (by suffix), atomically. Values beyond full scale are clipped."""
    with writing_audio(path, sample_rate, subtype) as file:
        file.write(samples)


class AudioWriter:
    """A mono recording that is being written, part by part; :func:`writing_audio` makes it."""

    def __init__(self, stream: IO[bytes], sample_rate: int, form: str, subtype: str) -> None:
        self.peak, self.clipped = 0.0, 0  # of what was written: the largest magnitude, and samples beyond full scale
        self.frames = 0
        self._disk = _Disk(stream)
        self._file = soundfile.SoundFile(self._disk, "w", sample_rate, 1, subtype, format=form)

    def write(self, samples: np.ndarray) -> None:
        """Go on with ``samples``, float ``[L]``; beyond full scale they are clipped unless the file holds floats."""
        peak = float(max(samples.max(initial=0.0), -samples.min(initial=0.0)))
        # An array of all magnitudes only where it is needed.
        if peak > 1.0 and self._file.subtype not in ("FLOAT", "DOUBLE"):
            self.clipped += int(np.count_nonzero(np.abs(samples) > 1.0))
        self.peak = max(self.peak, peak)
        self.frames += len(samples)
        self._file.write(samples)
        self._disk.check()

    def close(self) -> None:
        """Write what is left, so that a full disk is noticed now; :func:`writing_audio` does it at its end."""
        self._file.close()
        self._disk.check(flush=True)


class _Disk:
    """A file as soundfile wants it, which prints the errors of what it writes to and goes on: the first is kept."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._error: OSError | None = None

    def check(self, flush: bool = False) -> None:
        """Raise the error that there was."""
        if flush:
            self._try(self._stream.flush)
        if self._error is not None:
            raise self._error

    def write(self, content: bytes) -> int:
        self._try(self._stream.write, content)
        return len(content)

    def seek(self, place: int, whence: int) -> None:
        self._try(self._stream.seek, place, whence)

    def tell(self) -> int:
        return self._try(self._stream.tell) or 0

    def _try(self, call: Callable[..., int | None], *given: Any) -> int | None:
        try:
            return call(*given)
        except OSError as error:
            self._error = self._error or error
            return None


@contextlib.contextmanager
def writing_audio(path: str | Path, sample_rate: int, subtype: str) -> Iterator[AudioWriter]:
    """Write a recording part by part; the file gets its name when the block ends without an exception.

    Several that are to get theirs together, or none of them, are closed before their blocks end.

    Raises:
        UserError: If the folder cannot be written, the disk is full, or the format does not hold such a rate.
    """
    with atomic_write(path, "wb") as stream:
        try:
            file = AudioWriter(stream, sample_rate, _output_format(path), subtype)
        except soundfile.SoundFileError:
            raise UserError(
                f"{path}: its format cannot hold {sample_rate} Hz; choose a name that ends in .wav"
            ) from None
        try:
            yield file
        finally:
            file.close()


def as_stored(path: str | Path, samples: np.ndarray, sample_rate: int, subtype: str) -> np.ndarray:
    """Return what a file that :func:`write_audio` writes gives when it is read, float32 ``[L]``."""
    encoded = io.BytesIO()
    soundfile.write(encoded, samples, sample_rate, format=_output_format(path), subtype=subtype)
    encoded.seek(0)
    return soundfile.read(encoded, dtype="float32")[0]


def _output_format(path: str | Path) -> str:
    return OUTPUT_FORMATS.get(Path(path).suffix.lower(), "WAV")
