"""What dynamic mixing draws: an item, its targets, and which pieces of which recordings it was made of."""

from dataclasses import dataclass

import numpy as np

from espnet_tse_gen.data.sources import Source


@dataclass(frozen=True)
class Piece:
    """A part of a recording: ``samples`` from sample ``start``, at the rate of the mixtures."""

    source: Source
    start: int
    samples: int


@dataclass(frozen=True, eq=False)
class DrawnTarget:
    """One target of an item, all of it float32 at the mixer's rate."""

    speech: np.ndarray  # `[L]`: what it says in the mixture; zero where it is absent
    enroll: np.ndarray  # `[Le]`, at the common level
    present: bool  # whether it speaks
    enroll_piece: Piece  # what was read for `enroll`


@dataclass(frozen=True, eq=False)
class DrawnMixture:
    """One item, all of it float32 at the mixer's rate, and how it was made."""

    mixture: np.ndarray  # `[L]`: the sum of `parts` (and `noise`), in this order; coded, where coding was drawn
    parts: list[np.ndarray]  # `[L]` each: the talkers as they are in it, the first target first where it speaks
    noise: np.ndarray | None  # `[L]`
    targets: list[DrawnTarget]  # one or more
    pieces: list[Piece]  # what was read for `parts`
    spans: list[tuple[int, int]]  # first sample of each talker in the mixture, and the one after the last
    sir_db: list[float]  # drawn ratios of the first talker to each other one
    snr_db: float | None  # drawn ratio of speech to noise
