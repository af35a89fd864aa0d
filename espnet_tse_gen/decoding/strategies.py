"""The choices of iterative masked decoding: how many tokens are kept, which ones, in which order, and what is masked again.

All work on ``[B, P]`` positions: the frames of one codebook (codebook by codebook) or those of all codebooks, codebook after
codebook (joint decoding).
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from espnet_tse_gen.decoding.noise import RowNoise
from espnet_tse_gen.decoding.options import DecodingOptions
from espnet_tse_gen.utils.errors import UserError

Predictor = Callable[[Tensor, int | None], Tensor]
"""f(codes ``[B, K, T]`` int64, codebook) -> logits: ``[B, T, C]`` for a codebook, ``[B, K, T, C]`` for codebook None."""


class Step(NamedTuple):
    """One pass. Counts are int64 ``[B, 1]``, on the device; None stands for no row having any."""

    codebook: int | None  # None for all together
    number: int  # from 1
    heat: float  # how much of the temperatures is left
    mask_ratio: float = 0.0  # nominal share of masked positions before the pass
    keep: Tensor | None = None  # predicted positions that are masked again
    again: Tensor | None = None  # committed positions that are masked again
    rescored: Tensor | None = None  # least certain positions that are masked before the pass


class Places(NamedTuple):
    """Where the positions are: ``frame`` int64 ``[B, P]`` (among the row's valid frames), ``codebook`` int64 ``[P]``."""

    frame: Tensor
    codebook: Tensor
    num_codebooks: int

    @property
    def counter(self) -> Tensor:
        """A number for every position that no padding changes, int64 ``[B, P]``."""
        return self.frame * self.num_codebooks + self.codebook


def mask_ratio(step: int, steps: int) -> float:
    """Return the nominal share of positions still masked after pass ``step`` of ``steps``: cos(pi/2 * step/steps)."""
    return math.cos(0.5 * math.pi * step / steps) if step < steps else 0.0


@lru_cache(maxsize=4096)
def mask_counts(masked: int, steps: int) -> tuple[int, ...]:
    """Return how many of a row's ``masked`` positions are left after each pass, strictly decreasing down to 0.

    The cosine schedule of MaskGIT (Chang et al. 2022): pass ``s`` of ``S`` leaves ``floor(N cos(pi/2 s/S))``, and commits at
    least one token; there are fewer passes where ``steps`` exceeds ``masked``. Counted on the host, row by row: a plan depends
    neither on neighbours in the batch nor on padding, and decoding does not wait for the device.
    """
    counts: list[int] = []
    for step in range(1, min(masked, steps) + 1):
        # cos(pi/3) = 1/2 is the only rational value of the cosine inside the interval at a rational angle (Niven), hence
        # the only one where the rounding of a floating-point cosine could cross an integer.
        floor = masked // 2 if 3 * step == 2 * steps else math.floor(masked * mask_ratio(step, steps))
        counts.append(min(floor, (counts[-1] if counts else masked) - 1))
        if not counts[-1]:
            break
    return tuple(counts)


def guided_logits(
    options: DecodingOptions,
    mask_ratio: float,
    conditional: Predictor,
    unconditional: Predictor | None,
    codes: Tensor,
    codebook: int | None,
) -> Tensor:
    """Call the network, or both, and combine their logits: l = l_u + g (l_c - l_u).

    Papers that write ``(1 + w) l_c - w l_u`` mean ``g = 1 + w``. With the schedule ``linear``, g falls to 1 with the share of
    masked positions before the pass (MAGNeT, Ziv et al. 2024). Where it is 1, ``unconditional`` (with null conditions) is not
    called, and where it is 0 the other is not. Logits come in float32 (float64 where the network computes in float64).

    Raises:
        UserError: If guidance is asked for and there is no unconditional network.
    """
    scale = options.guidance
    if options.guidance_schedule == "linear":
        scale = 1.0 + (scale - 1.0) * mask_ratio
    if scale == 1.0:
        return _at_least_float32(conditional(codes, codebook))
    if unconditional is None:
        raise UserError(f"guidance {scale:g} needs a model trained with condition dropout; set 'guidance: 1.0'")
    null = _at_least_float32(unconditional(codes, codebook))
    return null if scale == 0.0 else null + scale * (_at_least_float32(conditional(codes, codebook)) - null)


def _at_least_float32(logits: Tensor) -> Tensor:
    return logits if logits.dtype.itemsize >= 4 else logits.float()


def choose_tokens(logits: Tensor, temperature: float, step: Step, places: Places, noise: RowNoise) -> Tensor:
    """Return tokens int64 ``[B, P]``: samples of the softmax of ``logits`` ``[B, P, C]`` at ``temperature`` (Gumbel-max).

    At 0 the most probable ones, of equals the first, without noise.
    """
    if temperature <= 0.0:
        return logits.argmax(dim=-1)
    size = logits.shape[-1]
    counter = places.counter.unsqueeze(-1) * size + torch.arange(size, device=logits.device)
    gumbel = noise.gumbel(counter, step.codebook, step.number, "token")
    return gumbel.mul_(temperature).add_(logits).argmax(dim=-1)


def filter_top_k(logits: Tensor, top_k: int) -> Tensor:
    """Set all but the ``top_k`` largest logits of a position to -inf; equals of the last one kept are kept too."""
    return logits.masked_fill(logits < logits.topk(top_k, dim=-1).values[..., -1:], -math.inf)


def filter_top_p(logits: Tensor, top_p: float) -> Tensor:
    """Keep the smallest set of tokens whose probability reaches ``top_p``, at least one (Holtzman et al. 2020)."""
    ordered = logits.sort(dim=-1, descending=True).values
    probability = ordered.softmax(dim=-1)
    before = probability.cumsum(dim=-1) - probability
    outside = before >= top_p
    outside[..., 0] = False
    least = ordered.masked_fill(outside, math.inf).amin(dim=-1, keepdim=True)
    return logits.masked_fill(logits < least, -math.inf)


def order_score(options: DecodingOptions, confidence: Tensor, step: Step, places: Places, noise: RowNoise) -> Tensor:
    """Return a score ``[B, P]`` from log-probabilities ``[B, P]``: the tokens with the highest are kept first.

    - ``confidence``: the most probable tokens (MaskGIT), with annealed Gumbel noise of ``choice_temperature``.
    - ``random``: drawn anew in every pass; with one token per pass and full temperature this is ancestral sampling.
    - ``halton``: frames spread evenly, codebook by codebook (Halton scheduler, Besnier et al. 2025): neighbouring frames, which
      depend on each other most, are committed in different passes.

    ``coarse_first`` lowers it by so much per codebook in joint decoding.
    """
    if options.order == "random":
        score = noise.uniform(places.counter, step.codebook, step.number, "order")
    elif options.order == "halton":
        score = -(van_der_corput(places.frame) + places.codebook)
    else:
        score, temperature = confidence, options.choice_temperature * step.heat
        if temperature > 0.0:
            score = score + temperature * noise.gumbel(places.counter, step.codebook, step.number, "choice")
    return score - options.coarse_first * places.codebook if options.joint and options.coarse_first else score


def van_der_corput(index: Tensor, bits: int = 32) -> Tensor:
    """Return the base-2 radical inverse (binary digits mirrored at the point) of int64 ``index``: float64 in 0..1."""
    value = torch.zeros(index.shape, dtype=torch.float64, device=index.device)
    for bit in range(bits):
        value.add_((index >> bit) & 1, alpha=2.0 ** -(bit + 1))
    return value


def expected_again(options: DecodingOptions, decoded: int, masked_after: int) -> float:
    """Return how many of ``decoded`` tokens a pass that ends with ``masked_after`` masks again on average.

    ReMDM (Wang et al. 2025): every committed token is masked again with probability min(eta, limit) (``remdm_cap``) or
    eta * min(1, limit) (``remdm_rescale``). The limit ``(1 - alpha_s) / alpha_t`` keeps the share of masked positions on
    schedule, here exactly: the number masked again is drawn with the right mean, and as many more are committed.
    """
    if options.remask == "remdm_cap":
        return min(options.remdm_eta * decoded, float(masked_after))
    return options.remdm_eta * min(decoded, masked_after) if options.remask == "remdm_rescale" else 0.0


def rescored(options: DecodingOptions, generated: int) -> tuple[int, ...]:
    """Return, per extra pass after a codebook's last one, how many of its ``generated`` tokens are predicted again.

    With ``remask: rescore`` the least certain share, at least one of them.
    """
    if options.remask != "rescore":
        return ()
    return (max(1, math.floor(options.rescore_fraction * generated)) if generated else 0,) * options.rescore_rounds
