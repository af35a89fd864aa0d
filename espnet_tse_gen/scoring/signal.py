"""Waveform measures that ESPnet's scorer lacks, and the constant delay of a codec.

A codec may shift a waveform by a few samples, which ruins SI-SDR and is inaudible. The shift is a property of the
codec: it is measured once, on clean speech, and undone for every item alike. It is never searched per file, since a
search flatters exactly the items that failed.
"""

from collections.abc import Iterable

import numpy as np
import scipy.signal

LIMIT_DB = 100.0
MIN_CORRELATION = 0.2
"""Below this, waveforms have too little in common for a delay: the codec keeps no phase."""


def si_sdr(reference: np.ndarray, estimate: np.ndarray) -> float:
    """Scale-invariant signal-to-distortion ratio in dB (Le Roux et al. 2019, "SDR - half-baked or well done?", eq. 4).

    Signals are float ``[L]``; means are not removed. The result is limited to +-100 dB, so that averages stay finite.

    Raises:
        ValueError: If the lengths differ or one of the signals is silent.
    """
    if reference.shape != estimate.shape:
        raise ValueError(f"reference has shape {reference.shape}, estimate {estimate.shape}; they must be equal")
    if is_silent(reference) or is_silent(estimate):
        raise ValueError("SI-SDR of a silent signal is not defined")
    # Normalising first keeps the products clear of underflow for very quiet signals.
    ref, est = (signal / np.max(np.abs(signal)) for signal in (reference.astype(float), estimate.astype(float)))
    target = ref * (float(ref @ est) / float(ref @ ref))
    distortion = est - target
    return _ratio_db(float(target @ target), float(distortion @ distortion))


def align(reference: np.ndarray, estimate: np.ndarray, delay: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the parts of both signals that belong together when ``estimate`` lags ``reference`` by ``delay`` samples.

    ``delay`` is negative where the output leads. Both parts have ``L - abs(delay)`` samples.

    Raises:
        ValueError: If ``abs(delay)`` is not smaller than the signals.
    """
    length = min(len(reference), len(estimate))
    if abs(delay) >= length:
        raise ValueError(f"delay of {delay} samples does not fit a signal of {length} samples")
    if delay >= 0:
        return reference[: length - delay], estimate[delay:length]
    return reference[-delay:length], estimate[: length + delay]


def constant_delay(pairs: Iterable[tuple[np.ndarray, np.ndarray]], max_delay: int = 64) -> int:
    """Measure one delay for all ``pairs`` of (clean, clean through the codec): the lag of the highest correlation.

    Returns:
        Samples, at most ``max_delay``, by which the second signal lags the first (negative: leads), as :func:`align`
        takes it; 0 where they correlate by less than :data:`MIN_CORRELATION` at any lag.

    Raises:
        ValueError: If there is no pair in which both signals are longer than ``max_delay`` and not silent.
    """
    total = np.zeros(2 * max_delay + 1)
    used = 0
    for clean, coded in pairs:
        length = min(len(clean), len(coded))
        if length <= max_delay or is_silent(clean[:length]) or is_silent(coded[:length]):
            continue
        first, second = (signal[:length].astype(float) / np.linalg.norm(signal[:length]) for signal in (clean, coded))
        middle = length - 1
        total += scipy.signal.correlate(second, first, method="fft")[middle - max_delay : middle + max_delay + 1]
        used += 1
    if not used:
        raise ValueError(f"no pair of signals longer than {max_delay} samples to measure a delay on")
    # A codec may invert the polarity; the delay is the same.
    best = int(np.argmax(np.abs(total)))
    return best - max_delay if abs(total[best]) >= MIN_CORRELATION * used else 0


def energy_ratio_db(numerator: np.ndarray, denominator: np.ndarray) -> float:
    """Energy of ``numerator`` relative to ``denominator`` in dB, limited to +-100 dB."""
    above, below = (float(np.sum(np.square(signal, dtype=np.float64))) for signal in (numerator, denominator))
    return _ratio_db(above, below)


def is_silent(samples: np.ndarray) -> bool:
    """Tell whether every sample is zero."""
    return not np.any(samples)


def _ratio_db(numerator: float, denominator: float) -> float:
    if numerator <= 0.0 or denominator <= 0.0:
        return -LIMIT_DB if numerator <= 0.0 else LIMIT_DB
    return float(np.clip(10.0 * np.log10(numerator / denominator), -LIMIT_DB, LIMIT_DB))
