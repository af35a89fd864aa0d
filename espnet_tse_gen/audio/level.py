"""One level convention for training, token extraction and decoding.

A codec's tokens depend on the absolute level of a signal. So that a model meets one level only, everything that it sees of a
mixture is scaled by a single factor computed from the whole mixture: mixture and target share it, an enrolment has its own.
Decoding divides by the factor again, which keeps the output at the input's level.
"""

import math

import numpy as np

LEVEL_DBFS = -26.0
_BLOCK = 2**22  # samples: four minutes at 16 kHz


def mixture_gain(mixture: np.ndarray, level_dbfs: float = LEVEL_DBFS) -> float:
    """Return the factor that brings ``mixture`` (float ``[L]`` in -1..1) to an RMS of ``level_dbfs``; 1.0 for silence.

    A square wave of full scale has 0 dB.
    """
    level = rms(mixture) if mixture.size else 0.0
    return 10.0 ** (level_dbfs / 20.0) / level if level > 1e-8 else 1.0


def rms(samples: np.ndarray) -> float:
    """Return the root of the mean square of ``samples`` (float ``[L]``)."""
    # Not all at once: squares in double precision would take twice the memory of the recording.
    parts = (samples[start : start + _BLOCK] for start in range(0, len(samples), _BLOCK))
    return math.sqrt(sum(float(np.sum(np.square(part, dtype=np.float64))) for part in parts) / samples.size)
