"""How many tokens stay masked after every pass: the cosine schedule of MaskGIT (Chang et al. 2022), with exact counts.

The counts are plain integers computed on the host from the number of masked valid positions of one row, so that a row's
plan depends neither on its neighbours in the batch nor on padding, and the decoding loop never waits for the device.

    >>> mask_counts(500, 8)
    (490, 461, 415, 353, 277, 191, 97, 0)
"""

from __future__ import annotations

import math
from functools import lru_cache


def mask_ratio(step: int, steps: int) -> float:
    """Return the nominal share of positions still masked after pass ``step`` of ``steps``: cos(pi/2 * step/steps)."""
    return math.cos(0.5 * math.pi * step / steps) if step < steps else 0.0


@lru_cache(maxsize=4096)
def mask_counts(masked: int, steps: int) -> tuple[int, ...]:
    """Return the number of masked positions after each pass, strictly decreasing down to 0.

    Pass ``s`` of ``S`` leaves ``floor(N cos(pi/2 s/S))`` positions masked, the last pass none by definition, and every
    pass commits at least one token. The plan is shorter than ``steps`` where ``steps`` exceeds ``masked``, and empty
    where nothing is masked.

    Args:
        masked: Number of masked valid positions N at the start, of one row.

    Raises:
        ValueError: If ``masked`` is negative or ``steps`` is less than one.
    """
    if masked < 0 or steps < 1:
        raise ValueError(f"a schedule needs masked >= 0 and steps >= 1, got {masked} and {steps}")
    counts: list[int] = []
    left = masked
    for step in range(1, steps + 1):
        if left == 0:
            break
        left = min(_floor_cosine(masked, step, steps), left - 1)
        counts.append(left)
    return tuple(counts)


def _floor_cosine(masked: int, step: int, steps: int) -> int:
    if step >= steps:
        return 0
    # cos(pi/3) = 1/2 is the only rational value of the cosine inside the interval at a rational angle (Niven), hence
    # the only one where the rounding of a floating-point cosine could cross an integer.
    if 3 * step == 2 * steps:
        return masked // 2
    return math.floor(masked * mask_ratio(step, steps))
