"""Which tokens a training step hides, and which of them its loss counts.

Mode ``codebook`` (SoundStorm, Borsos et al. 2023): per item one codebook is drawn, part of it is hidden, coarser ones are visible
and finer ones hidden; the loss counts the hidden part of that codebook. Mode ``joint`` (MaskSR, AnyEnhance): one ratio hides
positions of all codebooks alike, and the loss counts all of them. Mode ``mixed`` draws one of the two per item, so that one
network serves codebook-by-codebook decoding and decoding in a single pass.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

MODES = ("codebook", "joint", "mixed")
CODEBOOK_DISTRIBUTIONS = ("linear", "uniform")


@dataclass(frozen=True)
class TokenMask:
    """What one batch hides."""

    hidden: Tensor  # `[B, K, T]` bool, positions whose token the network does not see
    counted: Tensor  # `[B, K, T]` bool, the hidden positions that the loss counts. Both are False on padding
    ratio: Tensor  # `[B]`, the drawn share of hidden positions


def sample_mask(
    valid: Tensor,  # `[B, T]` bool, False on padding
    num_codebooks: int,  # K
    mode: str = "codebook",  # of `MODES`
    codebook_distribution: str = "linear",  # of the drawn codebook: proportional to K - codebook, or `uniform`
    joint_share: float = 0.5,  # with `mixed`, the probability of an item to be masked jointly
    generator: torch.Generator | None = None,
) -> TokenMask:
    """Draw the positions to hide.

    Counts are exact: ``clamp(round(cos(pi r / 2) N), 1, N)`` of the N valid positions with r uniform, because a Bernoulli mask
    hides nothing in some short items and gives them no loss.

    All draws are made on the CPU, so a seed of ``generator`` means the same on every device.
    """
    batch, length = valid.shape
    on_cpu = valid.cpu()
    frames = on_cpu.sum(dim=1)
    ratio = torch.cos(torch.rand(batch, generator=generator) * (math.pi / 2))
    linear = codebook_distribution == "linear"
    weights = torch.arange(num_codebooks, 0, -1, dtype=torch.float32) if linear else torch.ones(num_codebooks)
    codebook = torch.multinomial(weights, batch, replacement=True, generator=generator)
    noise = torch.rand(batch, num_codebooks, length, generator=generator)
    draw = torch.rand(batch, generator=generator)
    joint = draw < {"codebook": 0.0, "joint": 1.0, "mixed": joint_share}[mode]
    # Lowest noise first; padding and, in mode codebook, the other codebooks are out of reach.
    codebooks = torch.arange(num_codebooks)[None, :, None]
    eligible = on_cpu[:, None, :] & (joint[:, None, None] | (codebooks == codebook[:, None, None]))
    order = torch.where(eligible, noise, torch.full_like(noise, 2.0)).flatten(1).argsort(dim=1, stable=True)
    rank = torch.empty_like(order).scatter_(1, order, torch.arange(order.shape[1]).expand_as(order))
    positions = torch.where(joint, frames * num_codebooks, frames)
    count = torch.minimum((ratio * positions).round().long().clamp_min(1), positions)
    counted = (rank < count[:, None]).view(batch, num_codebooks, length)
    finer = on_cpu[:, None, :] & ~joint[:, None, None] & (codebooks > codebook[:, None, None])
    hidden = counted | finer
    return TokenMask(hidden.to(valid.device), counted.to(valid.device), ratio)
