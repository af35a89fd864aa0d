"""Audio files, read with checks and written atomically."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.files import atomic_write


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

    name = f"{path} (key '{key}')" if key else f"{path}"
    try:
        samples, rate = soundfile.read(str(path), dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError, RuntimeError) as error:
        if not Path(path).exists():
            raise UserError(f"{name}: no such file") from None
        raise UserError(f"{name}: is not a readable audio file ({error}); replace or remove it") from None
    if samples.shape[0] == 0:
        raise UserError(f"{name}: has no samples; replace or remove it")
    if samples.shape[1] != 1:
        raise UserError(f"{name}: has {samples.shape[1]} channels, expected 1; mix it down or choose one channel first")
    if sample_rate is not None and rate != sample_rate:
        raise UserError(f"{name}: sampling rate is {rate} Hz, expected {sample_rate} Hz; resample it first")
    if not np.isfinite(samples).all():
        raise UserError(f"{name}: holds NaN or infinite samples; replace or remove it")
    return np.ascontiguousarray(samples[:, 0]), int(rate)


def write_audio(path: str | Path, samples: np.ndarray, sample_rate: int, subtype: str = "PCM_16") -> None:
    """Write mono ``samples`` (float ``[L]``) as wav or flac (by suffix), atomically. Values beyond full scale are clipped."""
    import soundfile

    audio_format = "FLAC" if Path(path).suffix == ".flac" else "WAV"
    # In memory first: soundfile turns a full disk into an AssertionError when it writes to an open file.
    encoded = io.BytesIO()
    soundfile.write(encoded, samples, sample_rate, format=audio_format, subtype=subtype)
    with atomic_write(path, "wb") as stream:
        stream.write(encoded.getbuffer())
