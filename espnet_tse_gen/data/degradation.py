"""Narrow bands and lossy coding for drawn mixtures: what telephones, old microphones and MP3 files leave of a recording.

A network that hears only full bands takes the wrong speaker from a recording that lacks them. Filters are linear and act on
every talker of a mixture alike, so that the sum stays the sum; coding acts on a recording as a whole.
"""

from __future__ import annotations

import io

import numpy as np

# Telephone band (ITU-T G.712), and the range of cut-off frequencies of other recordings, Hz.
_TELEPHONE = (300.0, 3400.0)
_CUTOFF = (2500.0, 7000.0)
_TELEPHONE_SHARE = 0.3
# Width of a filter's slope relative to its cut-off frequency.
_SLOPE = 0.06
# Formats of libsndfile, and the least and largest compression level (0..1): MP3 at 64 to 24 kbit/s at 16 kHz, Vorbis at 45 to 30.
_CODINGS = {("MP3", "MPEG_LAYER_III"): (0.6, 0.95), ("OGG", "VORBIS"): (0.7, 0.98)}


def draw_band(rng: np.random.Generator) -> tuple[float, float]:
    """Draw the lowest and highest frequency that a recording holds, Hz; the lowest is 0 but for telephones."""
    if rng.random() < _TELEPHONE_SHARE:
        return _TELEPHONE
    return 0.0, float(rng.uniform(*_CUTOFF))


def limit_band(samples: np.ndarray, rate: int, band: tuple[float, float]) -> np.ndarray:
    """Filter a piece of a recording to a band, without phase.

    Args:
        samples: float32 ``[L]``.
        rate: Hz.
        band: Lowest and highest frequency, Hz.

    Returns:
        float32 ``[L]``.
    """
    from scipy import fft

    size = fft.next_fast_len(len(samples) + rate // 20, real=True)
    frequencies = np.arange(size // 2 + 1) * (rate / size)
    low, high = band
    gain = np.clip((high - frequencies) / (_SLOPE * high) + 1.0, 0.0, 1.0)
    if low > 0:
        gain *= np.clip((frequencies - low) / (_SLOPE * low) + 1.0, 0.0, 1.0)
    return fft.irfft(fft.rfft(samples, size) * gain.astype(np.float32), size)[: len(samples)]


def code_lossy(samples: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Send a piece of a recording through MP3 or Ogg Vorbis at a drawn bit rate.

    Args:
        samples: float32 ``[L]``, in -1..1 but for moments.
        rate: Hz; one that MP3 knows (8, 11.025, 12, 16, 22.05, 24, 32, 44.1 or 48 kHz), or nothing is done.
        rng: Where format and bit rate are drawn from.

    Returns:
        float32 ``[L]``, not shifted.
    """
    import soundfile

    formats = list(_CODINGS)
    chosen, subtype = formats[int(rng.integers(len(formats)))]
    level = float(rng.uniform(*_CODINGS[chosen, subtype]))
    coded = io.BytesIO()
    options = {"bitrate_mode": "VARIABLE"} if chosen == "MP3" else {}
    try:
        soundfile.write(coded, samples, rate, subtype, format=chosen, compression_level=level, **options)
        coded.seek(0)
        made, _ = soundfile.read(coded, dtype="float32")
    except (soundfile.SoundFileError, RuntimeError):
        # A rate that the format does not know.
        return samples
    # A decoder that did not remove the coder's delay would return more.
    return made.astype(np.float32) if len(made) == len(samples) else samples
