"""Embeddings of codec tokens: a table per level, each with a mask vector of its own.

A sum over levels tells the network which levels of a frame are hidden, because every level's mask vector is its own
(``mode: sum``). ``mode: codec`` looks tokens up in the codec's frozen codebooks instead, which gives their geometry for free.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from espnet_tse_gen.utils.errors import unknown_name

EMBEDDINGS = ("sum", "codec")


class TokenEmbedding(nn.Module):
    """Embed codes ``[B, K, T]`` as frames ``[B, T, d]``; the id ``codebook_size`` is the level's mask."""

    vectors: Tensor

    def __init__(
        self,
        num_levels: int,  # K
        codebook_size: int,  # C
        width: int,  # d
        # `sum` (learned table per level, summed and divided by sqrt(K)) or `codec` (codebook vectors of the levels side
        # by side, a learned mask vector per level, and a linear map)
        mode: str = "sum",
        codebooks: Sequence[Tensor] | None = None,  # for `codec`, the K codebooks `[C, D']`
    ) -> None:
        super().__init__()
        if mode not in EMBEDDINGS:
            raise unknown_name("embedding", mode, EMBEDDINGS)
        self.num_levels = num_levels
        self.codebook_size = codebook_size
        self.mode = mode
        if mode == "sum":
            self.tables = nn.Parameter(torch.randn(num_levels, codebook_size + 1, width))
        else:
            if codebooks is None:
                raise ValueError("embedding 'codec' needs the codec's codebooks")
            vectors = torch.stack([book.detach().float() for book in codebooks])
            vectors = vectors / vectors.std().clamp_min(1e-8)
            # Not saved: they belong to the codec, whose fingerprint the checkpoint carries.
            self.register_buffer("vectors", vectors, persistent=False)
            self.mask_vectors = nn.Parameter(torch.randn(num_levels, 1, vectors.shape[-1]))
            self.project = nn.Linear(num_levels * vectors.shape[-1], width)

    def forward(self, codes: Tensor, valid: Tensor) -> Tensor:
        """Return ``[B, T, d]``, zero where ``valid [B, T]`` is False."""
        levels = torch.arange(self.num_levels, device=codes.device)[None, :, None]
        if self.mode == "sum":
            table = self.tables.flatten(0, 1)
            index = (codes + levels * (self.codebook_size + 1)).transpose(1, 2)
            frames = torch.nn.functional.embedding_bag(index.flatten(0, 1), table, mode="sum")
            frames = frames.view(*index.shape[:2], -1) / math.sqrt(self.num_levels)
        else:
            vectors = torch.cat([self.vectors, self.mask_vectors], dim=1)
            frames = self.project(vectors[levels, codes].transpose(1, 2).flatten(2))
        return frames * valid[..., None].to(frames.dtype)
