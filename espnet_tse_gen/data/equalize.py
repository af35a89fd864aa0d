"""Random smooth equalisation, as if every recording had been made with another microphone at another place.

Where speakers have one recording each, target and enrolment come from the same one, and its sound tells them apart from the
interferer as well as the voice does. A model learns whichever is easier, and only the voice carries over to enrolments from
another recording.
"""

from __future__ import annotations

import numpy as np

# Enough for a tilt, a resonance or a dip of a few hundred mel; the harmonics of a voice are finer.
_POINTS = 9


def draw_equalization(rng: np.random.Generator, gain_db: float) -> np.ndarray:
    """Return gains in dB, float64 ``[9]``, drawn from ``-gain_db`` to ``gain_db``."""
    return rng.uniform(-gain_db, gain_db, _POINTS)


def equalize(samples: np.ndarray, rate: int, gains_db: np.ndarray) -> np.ndarray:
    """Filter a piece of a recording, without phase.

    Args:
        samples: float32 ``[L]``.
        rate: Hz.
        gains_db: ``[n]``: gains at points equally apart on the mel scale, from 0 to half of ``rate``; between them, linear.

    Returns:
        float32 ``[L]``.
    """
    from scipy import fft

    # Room at the end, so that little of the filter's response comes round to the other one.
    size = fft.next_fast_len(len(samples) + rate // 20, real=True)
    mel = 2595.0 * np.log10(1.0 + np.arange(size // 2 + 1) * (rate / size / 700.0))
    gain = np.interp(mel, np.linspace(0.0, 2595.0 * np.log10(1.0 + rate / 1400.0), len(gains_db)), gains_db)
    response = np.exp(gain * (np.log(10.0) / 20.0)).astype(np.float32)
    return fft.irfft(fft.rfft(samples, size) * response, size)[: len(samples)]
