"""One level convention for training, token extraction and decoding.

A codec's tokens depend on the absolute level of a signal. So that a model meets one level only, everything that it sees of a
mixture is scaled by a single factor computed from the whole mixture: mixture and target share it, an enrolment has its own.
Decoding divides by the factor again, which keeps the output at the input's level.
"""

import math
from collections.abc import Iterable

import numpy as np

LEVEL_DBFS = -26.0
_BLOCK = 2**22  # samples: four minutes at 16 kHz
_SILENCE = 1e-8
_ROUNDING = 1e-3


class Level:
    """Mean and level of a recording, float ``[L_i]`` in ``parts``, or part by part by :meth:`add`.

    Each part's mean and squares are joined to those of all before it (Chan, Golub and LeVeque, 1979), so that neither length
    nor offset takes from their precision.
    """

    def __init__(self, parts: Iterable[np.ndarray] = ()) -> None:
        self.size, self.mean, self._squares = 0, 0.0, 0.0  # the last: sum of the squared distances from the mean
        for part in parts:
            self.add(part)

    def add(self, samples: np.ndarray) -> None:
        """Go on with ``samples``, float ``[L]``."""
        # Not all at once: double precision would take twice the memory of the recording.
        for part in (samples[start : start + _BLOCK] for start in range(0, len(samples), _BLOCK)):
            mean = float(np.mean(part, dtype=np.float64))
            squares = float(np.sum(np.square(np.subtract(part, mean, dtype=np.float64))))
            share, away = len(part) / (self.size + len(part)), mean - self.mean
            self._squares += squares + away**2 * share * self.size
            self.mean += away * share
            self.size += len(part)

    @property
    def offset(self) -> float:
        """A constant offset, which is no sound and would decide the level; 0 where rounding alone may have left it."""
        power = self._squares / self.size + self.mean**2
        return self.mean if abs(self.mean) > _ROUNDING * math.sqrt(power) else 0.0

    @property
    def rms(self) -> float:
        """Root of the mean square without the offset."""
        return math.sqrt(self._squares / self.size + (self.mean - self.offset) ** 2)

    @property
    def gain(self) -> float:
        """What :func:`mixture_gain` gives without the offset; 0 for silence, which no factor makes a sound."""
        return _gain(self.rms, LEVEL_DBFS) if self.rms > _SILENCE else 0.0


def mixture_gain(mixture: np.ndarray, level_dbfs: float = LEVEL_DBFS) -> float:
    """Return the factor that brings ``mixture`` (float ``[L]`` in -1..1) to an RMS of ``level_dbfs``; 1.0 for silence.

    A square wave of full scale has 0 dB.
    """
    level = rms(mixture) if mixture.size else 0.0
    return _gain(level, level_dbfs) if level > _SILENCE else 1.0


def rms(samples: np.ndarray) -> float:
    """Return the root of the mean square of ``samples`` (float ``[L]``)."""
    # Not all at once, see Level.add.
    parts = (samples[start : start + _BLOCK] for start in range(0, len(samples), _BLOCK))
    return math.sqrt(sum(float(np.sum(np.square(part, dtype=np.float64))) for part in parts) / samples.size)


def _gain(level: float, wanted_dbfs: float) -> float:
    return 10.0 ** (wanted_dbfs / 20.0) / level
