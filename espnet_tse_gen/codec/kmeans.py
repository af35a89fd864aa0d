"""Plain k-means for codebooks: Lloyd's iterations as matrix products, the same result for the same seed."""

import torch
from torch import Tensor

CHUNK = 16384
"""Rows compared with a codebook at a time; bounds memory at ``CHUNK * entries`` floats."""


def nearest(points: Tensor, codebook: Tensor) -> Tensor:
    """Return the index (int64 ``[N]``) of the codebook vector ``[C, d]`` that is nearest to every point ``[N, d]``.

    Of equally near ones, it is the lowest.
    """
    half_norms = codebook.square().sum(dim=1) / 2
    return torch.cat([(half_norms - part @ codebook.T).argmin(dim=1) for part in points.split(CHUNK)])


def kmeans(points: Tensor, entries: int, generator: torch.Generator | None = None, iterations: int = 20) -> Tensor:
    """Return ``entries`` cluster centres ``[entries, d]`` of ``points`` ``[N, d]``, by Lloyd's algorithm from a random start.

    A centre that loses all its points is moved onto a random point. With fewer points than ``entries`` the points are
    repeated with a little noise, so that every entry stays distinct. 20 ``iterations`` are within a few per cent of
    convergence; ``generator`` is on the CPU.
    """
    if points.shape[0] < entries:
        copies = points.repeat(-(-entries // points.shape[0]), 1)
        points = copies + 1e-3 * torch.randn(copies.shape, generator=generator).to(points.device)
    centres = points[torch.randperm(points.shape[0], generator=generator)[:entries]].clone()
    for _ in range(iterations):
        owner = nearest(points, centres)
        counts = torch.bincount(owner, minlength=entries)
        sums = torch.zeros_like(centres).index_add_(0, owner, points)
        centres = sums / counts.clamp(min=1).unsqueeze(1)
        empty = torch.nonzero(counts == 0).flatten()
        if empty.numel():
            centres[empty] = points[torch.randint(points.shape[0], (empty.numel(),), generator=generator)]
    return centres
