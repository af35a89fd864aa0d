"""Audio files, read with checks and written atomically."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.files import atomic_write

_FULL_SCALE = 0.999


def read_audio(path: str | Path, sample_rate: int | None = None, key: str | None = None) -> tuple[np.ndarray, int]:
    """Read a mono recording.

    Args:
        path: Any file that libsndfile reads.
        sample_rate: The rate that the file must have; ``None`` takes any.
        key: The scp key, for the error message.

    Returns:
        ``(samples, rate)``: float32 ``[L]`` in -1..1, and Hz.

    Raises:
        UserError: If the file is missing, not audio, empty, not mono, of another rate, or holds NaN or Inf.
    """
    import soundfile

    name = _name(path, key)
    try:
        samples, rate = soundfile.read(str(path), dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError, RuntimeError) as error:
        raise unreadable(path, key, error) from None
    _check(name, samples.shape[0], samples.shape[1], rate, sample_rate)
    if not np.isfinite(samples).all():
        raise UserError(f"{name}: holds NaN or infinite samples; replace or remove it")
    return np.ascontiguousarray(samples[:, 0]), int(rate)


def read_header(
    path: str | Path, key: str | None = None, sample_rate: int | None = None, mono: bool = True
) -> tuple[int, int]:
    """Return ``(samples, rate in Hz)`` of a recording; arguments as for :func:`read_audio`.

    Raises:
        UserError: If it is missing, not audio, empty, of another rate, or (if ``mono``) of several channels.
    """
    import soundfile

    try:
        info = soundfile.info(str(path))
    except (soundfile.SoundFileError, OSError, RuntimeError) as error:
        raise unreadable(path, key, error) from None
    _check(_name(path, key), info.frames, info.channels if mono else 1, info.samplerate, sample_rate)
    return int(info.frames), int(info.samplerate)


def _check(name: str, samples: int, channels: int, rate: int, wanted: int | None) -> None:
    if samples == 0:
        raise UserError(f"{name}: has no samples; replace or remove it")
    if channels != 1:
        raise UserError(f"{name}: has {channels} channels, expected 1; mix it down or choose one channel first")
    if wanted is not None and rate != wanted:
        raise UserError(
            f"{name}: sampling rate is {rate} Hz, expected {wanted} Hz; resample it first (or run format_wav)"
        )


def unreadable(path: str | Path, key: str | None, error: Exception) -> UserError:
    """Return the error for a file that soundfile could not open."""
    name = _name(path, key)
    if str(path).rstrip().endswith("|"):
        return UserError(f"{name}: commands in tables are not run; write what it gives into a file, and name that")
    if not Path(path).exists():
        return UserError(f"{name}: no such file")
    return UserError(f"{name}: is not a readable audio file ({error}); replace or remove it")


def _name(path: str | Path, key: str | None) -> str:
    return f"{path} (key '{key}')" if key else f"{path}"


def full_scale_factor(signals: Sequence[np.ndarray]) -> float:
    """Return the one factor with which none of ``signals`` (float ``[L]``) is clipped in a file of whole numbers.

    It is 1 where none exceeds full scale.
    """
    peak = max(float(np.abs(samples).max()) for samples in signals)
    return 1.0 if peak <= 1.0 else _FULL_SCALE / peak


def write_audio(path: str | Path, samples: np.ndarray, sample_rate: int, subtype: str = "PCM_16") -> None:
    """Write mono ``samples`` (float ``[L]``) as wav or flac (by suffix), atomically. Values beyond full scale are clipped."""
    import soundfile

    audio_format = "FLAC" if Path(path).suffix == ".flac" else "WAV"
    # In memory first: soundfile turns a full disk into an AssertionError when it writes to an open file.
    encoded = io.BytesIO()
    soundfile.write(encoded, samples, sample_rate, format=audio_format, subtype=subtype)
    with atomic_write(path, "wb") as stream:
        stream.write(encoded.getbuffer())
