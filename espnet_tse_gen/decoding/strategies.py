"""The choices of iterative masked decoding, each behind a small interface: which token, in which order, what again.

A :class:`TokenChoice` turns logits into tokens, an :class:`Order` says which tokens of a pass are kept first, and a
:class:`Remasking` says how many committed tokens are masked again. All work on ``[B, P]`` positions: the frames of one
level (level-progressive decoding) or the frames of all levels, level after level (joint decoding).
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from espnet_tse_gen.decoding.noise import RowNoise


class Step(NamedTuple):
    """One pass: its level (``None`` for all together), its number from 1, and how much of the temperatures is left."""

    level: int | None
    number: int
    heat: float


class Places(NamedTuple):
    """Where the positions are: ``frame`` int64 ``[B, P]`` (among the row's valid frames), ``level`` int64 ``[P]``."""

    frame: Tensor
    level: Tensor
    num_levels: int

    @property
    def counter(self) -> Tensor:
        """A number for every position that no padding changes, int64 ``[B, P]``."""
        return self.frame * self.num_levels + self.level


# --- which token ------------------------------------------------------------------------------------------------------


class TokenChoice(Protocol):
    """Chooses a token for every position."""

    def choose(self, logits: Tensor, step: Step, places: Places, noise: RowNoise) -> Tensor:
        """Return tokens int64 ``[B, P]`` from ``logits`` ``[B, P, C]``."""
        ...


class GreedyTokens:
    """The most probable token; ties go to the lowest index. Draws no noise."""

    def choose(self, logits: Tensor, step: Step, places: Places, noise: RowNoise) -> Tensor:
        """Return the argmax."""
        return logits.argmax(dim=-1)


class SampledTokens(GreedyTokens):
    """A sample of the softmax at ``temperature`` times the pass's heat (Gumbel-max); greedy where that is 0."""

    def __init__(self, temperature: float) -> None:
        self.temperature = temperature

    def choose(self, logits: Tensor, step: Step, places: Places, noise: RowNoise) -> Tensor:
        """Return the argmax of logits plus scaled Gumbel noise."""
        temperature = self.temperature * step.heat
        if temperature <= 0.0:
            return super().choose(logits, step, places, noise)
        size = logits.shape[-1]
        counter = places.counter.unsqueeze(-1) * size + torch.arange(size, device=logits.device)
        gumbel = noise.gumbel(counter, step.level, step.number, "token")
        return gumbel.mul_(temperature).add_(logits).argmax(dim=-1)


def filter_top_k(logits: Tensor, top_k: int) -> Tensor:
    """Set all but the ``top_k`` largest logits of a position to -inf; equals of the last one kept are kept too."""
    if top_k >= logits.shape[-1]:
        return logits
    least = logits.topk(max(top_k, 1), dim=-1).values[..., -1:]
    return logits.masked_fill(logits < least, -math.inf)


def filter_top_p(logits: Tensor, top_p: float) -> Tensor:
    """Keep the smallest set of tokens whose probability reaches ``top_p``, at least one (Holtzman et al. 2020)."""
    ordered = logits.sort(dim=-1, descending=True).values
    probability = ordered.softmax(dim=-1)
    before = probability.cumsum(dim=-1) - probability
    outside = before >= top_p
    outside[..., 0] = False
    least = ordered.masked_fill(outside, math.inf).amin(dim=-1, keepdim=True)
    return logits.masked_fill(logits < least, -math.inf)


def log_confidence(logits: Tensor, tokens: Tensor) -> Tensor:
    """Return the log-probability ``[B, P]`` of ``tokens`` ``[B, P]`` under ``logits`` ``[B, P, C]``."""
    return logits.log_softmax(dim=-1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1)


# --- in which order ---------------------------------------------------------------------------------------------------


class Order(Protocol):
    """Ranks the tokens of a pass: those with the highest score are kept."""

    def score(self, confidence: Tensor, step: Step, places: Places, noise: RowNoise) -> Tensor:
        """Return a score ``[B, P]`` from the log-probabilities ``confidence`` ``[B, P]``."""
        ...


class ConfidenceOrder:
    """The most probable tokens first (MaskGIT), with annealed Gumbel noise of ``choice_temperature``."""

    def __init__(self, choice_temperature: float = 0.0) -> None:
        self.choice_temperature = choice_temperature

    def score(self, confidence: Tensor, step: Step, places: Places, noise: RowNoise) -> Tensor:
        """Return log-probability plus scaled Gumbel noise."""
        temperature = self.choice_temperature * step.heat
        if temperature <= 0.0:
            return confidence
        return confidence + temperature * noise.gumbel(places.counter, step.level, step.number, "choice")


class RandomOrder:
    """Any order, drawn anew in every pass: with one token per pass and full temperature this is ancestral sampling."""

    def score(self, confidence: Tensor, step: Step, places: Places, noise: RowNoise) -> Tensor:
        """Return noise."""
        return noise.uniform(places.counter, step.level, step.number, "order")


class HaltonOrder:
    """Frames spread evenly: the base-2 van der Corput sequence, level by level (Halton scheduler, Besnier et al. 2025).

    Neighbouring frames are the least independent ones given the rest; this order commits them in different passes.
    """

    def score(self, confidence: Tensor, step: Step, places: Places, noise: RowNoise) -> Tensor:
        """Return minus the radical inverse of the frame, minus the level."""
        return -(van_der_corput(places.frame) + places.level)


def van_der_corput(index: Tensor, bits: int = 32) -> Tensor:
    """Return the base-2 radical inverse (binary digits mirrored at the point) of int64 ``index``: float64 in 0..1."""
    value = torch.zeros(index.shape, dtype=torch.float64, device=index.device)
    for bit in range(bits):
        value.add_((index >> bit) & 1, alpha=2.0 ** -(bit + 1))
    return value


class CoarseFirst:
    """Lowers another order's score by ``weight`` per level, so that coarse levels are kept first in joint decoding."""

    def __init__(self, order: Order, weight: float) -> None:
        self.order, self.weight = order, weight

    def score(self, confidence: Tensor, step: Step, places: Places, noise: RowNoise) -> Tensor:
        """Return the biased score."""
        return self.order.score(confidence, step, places, noise) - self.weight * places.level


# --- what to mask again -----------------------------------------------------------------------------------------------


class Remasking:
    """Committed tokens are final. Base of the strategies that mask some of them again."""

    needs_certainty = False  # whether the log-probability of every token is asked for after the last pass

    def expected_again(self, decoded: int, masked_after: int) -> float:
        """Return how many of ``decoded`` tokens a pass that ends with ``masked_after`` masks again on average."""
        return 0.0

    def rescored(self, generated: int) -> tuple[int, ...]:
        """Return, per extra pass after the last one, how many of ``generated`` tokens are masked for it."""
        return ()


class Rescore(Remasking):
    """After a level's last pass, masks the least certain share of its tokens and predicts them again from the rest."""

    needs_certainty = True

    def __init__(self, fraction: float, rounds: int) -> None:
        self.fraction, self.rounds = fraction, rounds

    def rescored(self, generated: int) -> tuple[int, ...]:
        """Return ``rounds`` equal counts, at least one token each."""
        return (max(1, math.floor(self.fraction * generated)) if generated else 0,) * self.rounds


class RemdmCap(Remasking):
    """ReMDM (Wang et al. 2025), variant "cap": every committed token is masked again with probability min(eta, limit).

    The limit ``(1 - alpha_s) / alpha_t`` keeps the share of masked positions on schedule. As everywhere in this package
    the share is kept exactly: the number masked again is drawn with the right mean, and as many more are committed.
    """

    def __init__(self, eta: float) -> None:
        self.eta = eta

    def expected_again(self, decoded: int, masked_after: int) -> float:
        """Return ``decoded * min(eta, masked_after / decoded)``."""
        return min(self.eta * decoded, float(masked_after))


class RemdmRescale(RemdmCap):
    """ReMDM, variant "rescale": every committed token is masked again with probability eta * min(1, limit)."""

    def expected_again(self, decoded: int, masked_after: int) -> float:
        """Return ``decoded * eta * min(1, masked_after / decoded)``."""
        return self.eta * min(decoded, masked_after)
