"""The cosine schedule and its exact counts."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext

import pytest

from espnet_tse_gen.decoding.schedule import mask_counts, mask_ratio


def test_p01_schedule_exhaustively():
    """P1: n_s strictly decreasing, n_S == 0, every pass commits at least one, for all N in 1..600 and S in 1..64."""
    for masked in range(1, 601):
        for steps in range(1, 65):
            counts = mask_counts(masked, steps)
            before = (masked, *counts[:-1])
            assert counts[-1] == 0
            assert all(left > right >= 0 for left, right in zip(before, counts, strict=True))
            assert len(counts) <= min(steps, masked)
            # No pass is lost either, except where there are more passes than tokens.
            assert len(counts) == steps or steps > masked


@pytest.mark.parametrize(
    ("steps", "counts"),
    [
        (8, (490, 461, 415, 353, 277, 191, 97, 0)),
        (16, (497, 490, 478, 461, 440, 415, 386, 353, 317, 277, 235, 191, 145, 97, 49, 0)),
    ],
)
def test_p01_published_counts(steps, counts):
    assert mask_counts(500, steps) == counts


def test_p01_counts_are_the_exact_floor():
    """The floor is that of the real number N cos(pi/2 s/S), which 40 digits decide, not that of a rounded one."""
    with localcontext() as context:
        context.prec = 40
        half_pi = Decimal("3.14159265358979323846264338327950288419716939937510") / 2
        for steps in (3, 6, 7, 12, 30, 48, 64):
            for step in range(1, steps):
                angle = half_pi * step / steps
                term = cosine = Decimal(1)
                for k in range(1, 20):
                    term *= -angle * angle / ((2 * k - 1) * (2 * k))
                    cosine += term
                for masked in (600, 5999, 6000):
                    # At cos(pi/3) the series itself is off by its last digit; elsewhere that decides nothing.
                    exact = math.floor(masked * cosine.quantize(Decimal("1e-30")))
                    before = mask_counts(masked, steps)[step - 2] if step > 1 else masked
                    assert mask_counts(masked, steps)[step - 1] == min(exact, before - 1)


def test_nothing_masked_takes_no_pass():
    assert mask_counts(0, 8) == ()


def test_ratio_starts_at_one_and_ends_at_zero():
    assert mask_ratio(0, 5) == 1.0
    assert mask_ratio(5, 5) == 0.0


@pytest.mark.parametrize(("masked", "steps"), [(-1, 3), (3, 0)])
def test_bad_arguments(masked, steps):
    with pytest.raises(ValueError, match="schedule"):
        mask_counts(masked, steps)
