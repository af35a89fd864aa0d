"""The speaker encoder: residual blocks of 1x1 convolutions over the enrolment's frames, pooled to one embedding."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espnet_tse_gen.discriminative.blocks import valid_frames
from espnet_tse_gen.utils.errors import UserError

POOL = 3
MIN_FRAMES = POOL**3
"""The three poolings make one local statistic of 27 encoder frames: fewer make none."""


class ResBlock(nn.Module):
    """Two 1x1 convolutions with batch norm, a shortcut, PReLU, and max pooling over three frames (arXiv 2005.04686)."""

    def __init__(self, in_channel: int, out_channel: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(in_channel, out_channel, 1, bias=False)
        self.norm1 = nn.BatchNorm1d(out_channel)
        self.activation1 = nn.PReLU()
        self.conv2 = nn.Conv1d(out_channel, out_channel, 1, bias=False)
        self.norm2 = nn.BatchNorm1d(out_channel)
        self.activation2 = nn.PReLU()
        self.shortcut = None if in_channel == out_channel else nn.Conv1d(in_channel, out_channel, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[B, out_channel, T // 3]`` from ``[B, in_channel, T]``."""
        hidden = self.norm2(self.conv2(self.activation1(self.norm1(self.conv1(x)))))
        hidden = self.activation2(hidden + (x if self.shortcut is None else self.shortcut(x)))
        return F.max_pool1d(hidden, POOL)


class ResNetEncoder(nn.Module):
    """Three residual blocks, a 1x1 convolution, and the mean over the valid frames: layers 3 to 7 of SpEx+'s encoder.

    The mean takes only statistics of an enrolment's own frames, with the denominator of the authors' code, which sums
    padded frames too: the same for an enrolment without padding, and independent of padding in evaluation mode. Batch
    norm in training does see padded frames; enrolments of equal length avoid that.
    """

    def __init__(self, in_channel: int, channel: int, wide_channel: int, embedding_dim: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            ResBlock(in_channel, channel), ResBlock(channel, wide_channel), ResBlock(wide_channel, wide_channel)
        )
        self.output = nn.Conv1d(wide_channel, embedding_dim, 1)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return the embeddings ``[B, embedding_dim]`` of enrolments ``x`` ``[B, in_channel, T]``.

        Raises:
            UserError: An enrolment has fewer than 27 valid frames.
        """
        check_enrolment(lengths, x.shape[-1])
        x = self.output(self.blocks(x))
        counts = torch.div(lengths, MIN_FRAMES, rounding_mode="floor")
        valid = valid_frames(counts, x.shape[-1], x.device)
        if valid is None:
            return x.mean(-1)
        return (x * valid).sum(-1) / counts.to(x)[:, None]


def check_enrolment(lengths: Tensor, frames: int) -> None:
    """Refuse enrolments of which no statistic can be taken.

    Args:
        lengths: ``[B]``, the enrolments' valid encoder frames.
        frames: Frames of the batch, padding included.

    Raises:
        UserError: An enrolment has fewer than 27 valid frames.
    """
    shortest = min(int(lengths.min()), frames)
    if shortest < MIN_FRAMES:
        raise UserError(
            f"enrolment too short: {max(shortest, 0)} encoder frames, expected at least {MIN_FRAMES} "
            "(280 samples with the default kernel and stride): give a longer enrolment"
        )
