"""Waveform measures that ESPnet's scorer lacks, and the constant delay of a codec.

A codec may shift a waveform by a few samples, which ruins SI-SDR and is inaudible. The shift is a property of the
codec: it is measured once, on clean speech, and undone for every item alike. It is never searched per file, since a
search flatters exactly the items that failed.
"""

from collections.abc import Iterable

import numpy as np
import scipy.signal

LIMIT_DB = 100.0
MAX_DELAY = 64
"""Samples."""
MIN_CORRELATION = 0.2
"""Below this, waveforms have too little in common for a delay: the codec keeps no phase."""


def si_sdr(reference: np.ndarray, estimate: np.ndarray) -> float:
    """Scale-invariant signal-to-distortion ratio in dB (Le Roux et al. 2019, "SDR - half-baked or well done?", eq. 4).

    Signals are float ``[L]``, of one length and not silent (else a ValueError); means are not removed. The result is limited
    to +-100 dB, so that averages stay finite.
    """
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
    """
    parts = reference[max(0, -delay) :], estimate[max(0, delay) :]
    length = min(map(len, parts))
    return parts[0][:length], parts[1][:length]


def constant_delay(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> int:
    """Measure one delay for all ``pairs`` of (clean, clean through the codec): the lag of the highest correlation.

    It is in samples, as :func:`align` takes it; 0 where they correlate by less than :data:`MIN_CORRELATION` at any lag. A
    ValueError says that in no pair both signals are longer than :data:`MAX_DELAY` and not silent.
    """
    total = np.zeros(2 * MAX_DELAY + 1)
    used = 0
    for pair in pairs:
        length = min(map(len, pair))
        clean, coded = (signal[:length].astype(float) for signal in pair)
        if length > MAX_DELAY and not is_silent(clean) and not is_silent(coded):
            first, second = (signal / np.linalg.norm(signal) for signal in (clean, coded))
            found = scipy.signal.correlate(second, first, method="fft")
            total += found[length - 1 - MAX_DELAY : length + MAX_DELAY]
            used += 1
    if not used:
        raise ValueError(f"no pair of signals longer than {MAX_DELAY} samples to measure a delay on")
    # A codec may invert the polarity; the delay is the same.
    best = int(np.argmax(np.abs(total)))
    return best - MAX_DELAY if abs(total[best]) >= MIN_CORRELATION * used else 0


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
