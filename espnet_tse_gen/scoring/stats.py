"""Means with bootstrap intervals.

What is drawn again is the mixture, not the output: the targets of one mixture are not independent (what one gains in
input SIR the other loses), so they enter a resample together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval; all NaN where there is no value."""

    mean: float = np.nan  # Mean over the items that have a value
    low: float = np.nan  # Lower end
    high: float = np.nan  # Upper end
    count: int = 0  # Number of items that have a value


def bootstrap_means(
    values: np.ndarray, groups: Sequence[str], resamples: int = 1000, seed: int = 0, weights: np.ndarray | None = None
) -> list[Interval]:
    """Mean of each column with a 95 % percentile bootstrap interval (Efron 1979) over groups.

    ``scipy.stats.bootstrap`` draws items, not groups, and knows no missing values.

    Args:
        values: Float ``[N, M]``: N items, M measures; NaN where an item has no value.
        groups: Group (mixture id) of each of the N items.
        weights: Float ``[N, M]``, how much each value counts in its mean; equal where ``None``. With the number of
            words as weights the mean of error rates is the error rate of all items together, in every resample anew.
            A value whose weight is NaN or 0 is left out.
    """
    counted = np.ones_like(values) if weights is None else weights
    if not len(values):
        return [Interval()] * values.shape[1]
    names, index = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)
    known = np.isfinite(values) & np.isfinite(counted) & (counted > 0)
    sums, totals = np.zeros((2, len(names), values.shape[1]))
    np.add.at(sums, index, np.where(known, values * counted, 0.0))
    np.add.at(totals, index, np.where(known, counted, 0.0))
    drawings = _drawings(len(names), resamples, seed)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = (drawings @ sums) / (drawings @ totals)
        overall = sums.sum(axis=0) / totals.sum(axis=0)
    intervals = []
    for mean, drawn, count in zip(overall, means.T, known.sum(axis=0), strict=True):
        drawn = drawn[np.isfinite(drawn)]
        # Few resamples may hold none of the items that have a value.
        ends = np.percentile(drawn, [2.5, 97.5]) if len(drawn) else (mean, mean)
        intervals.append(Interval(float(mean), float(ends[0]), float(ends[1]), int(count)))
    return intervals


@lru_cache(maxsize=16)
def _drawings(size: int, resamples: int, seed: int) -> np.ndarray:
    """How often each of ``size`` groups occurs in each resample, float ``[resamples, size]``."""
    drawn = np.random.default_rng(seed).multinomial(size, np.full(size, 1.0 / size), size=resamples)
    return np.asarray(drawn, dtype=np.float64)
