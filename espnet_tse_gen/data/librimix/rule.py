"""The rule by which LibriMix mixes two or three speakers.

JorisCos/LibriMix, ``create_librimix_from_metadata.py`` (Cosentino et al. 2020): read the sources as float32 at 16 kHz; read the
first channel of the noise up to the length of the longest source and extend it where it is shorter; multiply each by its gain;
resample each with ``scipy.signal.resample_poly``; cut all to the shortest (``min``) or pad all to the longest (``max``); sum;
write with ``soundfile.write``, hence as 16-bit PCM. Neither mixing nor writing normalizes anything.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from espnet_tse_gen.utils.errors import UserError

SOURCE_RATE = 16000


def extend_noise(noise: np.ndarray, length: int) -> np.ndarray:
    """Return ``noise`` (float ``[N]``) repeated to ``length`` samples, with a cross-fade of half a Hann window at each
    seam.

    The window has 16,001 points, and rise and fall 8,001 each.

    Raises:
        UserError: If the noise is shorter than the cross-fade, for which the rule is not defined.
    """
    half = SOURCE_RATE // 2 + 1
    rise = np.hanning(SOURCE_RATE + 1)[:half]
    if len(noise) < length and len(noise) <= half:
        raise UserError(f"noise of {len(noise)} samples is shorter than the cross-fade of {half}; use a longer one")
    extended = noise
    while len(extended) < length:
        seam = extended[-half:] * rise[::-1] + noise[:half] * rise
        extended = np.concatenate((extended[:-half], seam, noise[half:]))
    return extended[:length]


def render(sources: Sequence[np.ndarray], gains: Sequence[float], rate: int, mode: str) -> list[np.ndarray]:
    """Return ``sources`` (float ``[L_i]`` at 16 kHz) scaled, resampled to ``rate``, and fitted in length."""
    from scipy.signal import resample_poly

    scaled = [resample_poly(source * gain, rate, SOURCE_RATE) for source, gain in zip(sources, gains, strict=True)]
    lengths = [len(one) for one in scaled]
    if mode == "min":
        return [one[: min(lengths)] for one in scaled]
    return [np.pad(one, (0, max(lengths) - len(one))) for one in scaled]


def mix(signals: Sequence[np.ndarray]) -> np.ndarray:
    """Return the sum, in the precision of the first signal (which the official scripts use)."""
    total = signals[0].copy()
    for signal in signals[1:]:
        total += signal
    return total
