"""One level convention for training, token extraction and decoding.

A codec's tokens depend on the absolute level of a signal. So that a model meets one level only, everything that it sees of a
mixture is scaled by a single factor computed from the whole mixture: mixture and target share it, an enrolment has its own.
Decoding divides by the factor again, which keeps the output at the input's level.
"""

import numpy as np

LEVEL_DBFS = -26.0


def mixture_gain(mixture: np.ndarray, level_dbfs: float = LEVEL_DBFS) -> float:
    """Return the factor that brings ``mixture`` (float ``[L]`` in -1..1) to an RMS of ``level_dbfs``; 1.0 for silence.

    A square wave of full scale has 0 dB.
    """
    rms = float(np.sqrt(np.mean(np.square(mixture, dtype=np.float64)))) if mixture.size else 0.0
    return 10.0 ** (level_dbfs / 20.0) / rms if rms > 1e-8 else 1.0
