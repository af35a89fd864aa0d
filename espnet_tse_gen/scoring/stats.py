"""Means with bootstrap intervals.

What is drawn again is the mixture, not the output: the targets of one mixture are not independent (what one gains in
input SIR the other loses), so they enter a resample together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval; all NaN where there is no value.

    Attributes:
        mean: Mean over the items that have a value.
        low: Lower end.
        high: Upper end.
        count: Number of items that have a value.
    """

    mean: float
    low: float
    high: float
    count: int

    def agrees_with(self, value: float, rounding: float = 0.0) -> bool:
        """Tell whether ``value``, known up to +-``rounding``, lies within the interval."""
        return bool(self.low - rounding <= value <= self.high + rounding)


def bootstrap_means(
    values: np.ndarray, groups: Sequence[str], resamples: int = 1000, seed: int = 0, confidence: float = 0.95
) -> list[Interval]:
    """Mean of each column with a percentile bootstrap interval (Efron 1979) over groups.

    Args:
        values: Float ``[N, M]``: N items, M measures; NaN where an item has no value.
        groups: Group (mixture id) of each of the N items.
        resamples: Number of resamples.
        seed: Two calls with one seed give the same intervals.
        confidence: Share that the interval is to cover.

    Returns:
        M intervals.

    Raises:
        ValueError: If ``values`` is not two-dimensional or ``groups`` has another length.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or len(groups) != len(values):
        raise ValueError(f"values have shape {values.shape} and there are {len(groups)} groups; expected [N, M] and N")
    if not len(values):
        return [Interval(np.nan, np.nan, np.nan, 0)] * values.shape[1]
    _, index = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)
    known = np.isfinite(values)
    size = int(index.max()) + 1
    sums, counts = np.zeros((size, values.shape[1])), np.zeros((size, values.shape[1]))
    np.add.at(sums, index, np.where(known, values, 0.0))
    np.add.at(counts, index, known.astype(np.float64))
    weights = _weights(size, resamples, seed)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = (weights @ sums) / (weights @ counts)
        overall = sums.sum(axis=0) / counts.sum(axis=0)
    tail = 50.0 * (1.0 - confidence)
    intervals = []
    for column in range(values.shape[1]):
        drawn = means[np.isfinite(means[:, column]), column]
        count = int(counts[:, column].sum())
        if not count:
            intervals.append(Interval(np.nan, np.nan, np.nan, 0))
            continue
        low, high = np.percentile(drawn, [tail, 100.0 - tail])
        intervals.append(Interval(float(overall[column]), float(low), float(high), count))
    return intervals


@lru_cache(maxsize=16)
def _weights(size: int, resamples: int, seed: int) -> np.ndarray:
    """How often each of ``size`` groups occurs in each resample, float ``[resamples, size]``."""
    drawn = np.random.default_rng(seed).multinomial(size, np.full(size, 1.0 / size), size=resamples)
    return np.asarray(drawn, dtype=np.float64)
