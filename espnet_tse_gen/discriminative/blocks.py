"""What SpEx+ and MC-SpEx are built of: norms over channels and over utterances, temporal convolutions, the speaker encoder.

Tensors are ``[B, channels, frames]``. ``valid [B, 1, frames]``, True at an utterance's own frames, keeps padding out of every
statistic and of the convolutions over time; None is that all frames count, which is faster.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espnet_tse_gen.utils.errors import UserError

NUM_SCALES = 3
"""Short, middle and long windows: the encoder's scales, in this order wherever channels are concatenated."""

EPS = 1e-5
POOL = 3
MIN_FRAMES = POOL**3
"""The speaker encoder's three poolings make one local statistic of 27 encoder frames: fewer make none."""


def check_sizes(owner: str, options: Mapping[str, Any]) -> None:
    """Refuse, by a :class:`UserError`, whole numbers below one among ``owner``'s options but ``num_train_spk``."""
    for option, value in options.items():
        if type(value) is int and value < 1 and option != "num_train_spk":
            raise UserError(f"{owner}: option '{option}' is {value}: expected a whole number of at least 1")


def valid_frames(lengths: Tensor, frames: int, device: torch.device) -> Tensor | None:
    """Return ``[B, 1, frames]``, True within ``lengths [B]`` (on any device), or None where all frames are valid."""
    if int(lengths.min()) >= frames:
        return None
    return (torch.arange(frames, device=device) < lengths.to(device)[:, None])[:, None]


def zero_padding(x: Tensor, valid: Tensor | None) -> Tensor:
    """Set the frames of ``x`` ``[B, C, T]`` that are not ``valid`` to zero."""
    return x if valid is None else x * valid


class ChannelNorm(nn.Module):
    """Layer norm over the channels of each frame (cLN), with a gain and an offset per channel."""

    eps = EPS

    def __init__(self, channel: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channel))
        self.bias = nn.Parameter(torch.zeros(channel))

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Normalise ``x`` ``[B, C, T]``; frames do not see each other, so ``valid`` changes nothing."""
        # The transposed view through the fused norm takes half the time of mean and variance over dimension 1.
        return F.layer_norm(x.transpose(1, 2), self.weight.shape, self.weight, self.bias, self.eps).transpose(1, 2)


class GlobalNorm(nn.Module):
    """Norm over the channels and all valid frames of each utterance (gLN), with or without gain and offset."""

    weight: Tensor | None
    bias: Tensor | None

    def __init__(self, channel: int, affine: bool = True) -> None:
        super().__init__()
        self.register_parameter("weight", nn.Parameter(torch.ones(channel)) if affine else None)
        self.register_parameter("bias", nn.Parameter(torch.zeros(channel)) if affine else None)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Normalise ``x`` ``[B, C, ..., T]``; frames that are not ``valid`` are zero in the result."""
        if valid is None:
            return F.group_norm(x, 1, self.weight, self.bias, EPS)
        valid = valid.reshape(valid.shape[0], *[1] * (x.dim() - 2), valid.shape[-1])
        over = tuple(range(1, x.dim()))
        # In float32 at least, as the fused norm does it: sums over a minute of frames do not fit half precision.
        wide = x.float()
        count = valid.sum(over, keepdim=True) * (x[0].numel() // x.shape[-1])
        centred = (wide - (wide * valid).sum(over, keepdim=True) / count) * valid
        normed = centred * torch.rsqrt(centred.square().sum(over, keepdim=True) / count + EPS)
        if self.weight is not None and self.bias is not None:
            shape = (-1, *[1] * (x.dim() - 2))
            normed = torch.addcmul(self.bias.view(shape), normed, self.weight.view(shape)) * valid
        return normed.to(x.dtype)


class TCNBlock(nn.Module):
    """One temporal convolution block: 1x1, PReLU, gLN, dilated depthwise convolution, PReLU, gLN, 1x1, residual.

    SpEx+ (arXiv 2005.04686) takes it from Conv-TasNet, without the skip path. A block with ``embedding_dim`` is the
    speaker-aware one: its first 1x1 convolution sees the features and, at every frame, the speaker embedding.
    """

    def __init__(self, channel: int, hidden_channel: int, kernel_size: int, dilation: int, embedding_dim: int = 0):
        super().__init__()
        self.channel, self.speaker_aware = channel, embedding_dim > 0
        self.expand = nn.Conv1d(channel + embedding_dim, hidden_channel, 1)
        self.activation1 = nn.PReLU()
        self.norm1 = GlobalNorm(hidden_channel)
        self.depthwise = nn.Conv1d(
            hidden_channel, hidden_channel, kernel_size, padding="same", dilation=dilation, groups=hidden_channel
        )
        self.activation2 = nn.PReLU()
        self.norm2 = GlobalNorm(hidden_channel)
        self.reduce = nn.Conv1d(hidden_channel, channel, 1)

    def forward(self, x: Tensor, valid: Tensor | None = None, embedding: Tensor | None = None) -> Tensor:
        """Return ``x`` ``[B, C, T]`` plus the block's output; ``embedding`` is ``[B, embedding_dim]``."""
        if embedding is None or not self.speaker_aware:
            hidden = self.expand(x)
        else:
            # The embedding is the same at all frames: what the convolution makes of it is one offset per utterance.
            weight = self.expand.weight
            offset = F.linear(embedding, weight[:, self.channel :, 0], self.expand.bias)
            hidden = F.conv1d(x, weight[:, : self.channel]) + offset[:, :, None]
        hidden = self.norm1(self.activation1(hidden), valid)
        hidden = self.norm2(self.activation2(self.depthwise(hidden)), valid)
        return x + self.reduce(hidden)


class TCNStack(nn.Module):
    """``blocks`` blocks with dilations 1, 2, 4, ...; the first is speaker-aware where ``embedding_dim`` is given."""

    def __init__(self, channel: int, hidden_channel: int, kernel_size: int, blocks: int, embedding_dim: int = 0):
        super().__init__()
        if kernel_size % 2 == 0:
            raise UserError(f"option 'kernel_size' is {kernel_size}: expected an odd number, such as 3")
        self.blocks = nn.ModuleList(
            TCNBlock(channel, hidden_channel, kernel_size, 2**k, embedding_dim if k == 0 else 0) for k in range(blocks)
        )

    def forward(self, x: Tensor, valid: Tensor | None = None, embedding: Tensor | None = None) -> Tensor:
        """Return ``[B, C, T]`` from ``x`` ``[B, C, T]`` and, in a speaker-aware stack, ``[B, embedding_dim]``."""
        for block in self.blocks:
            x = block(x, valid, embedding)
        return x


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

    The mean, unlike that of the authors' code, leaves padding out. Batch norm in training does see padded frames; enrolments of
    equal length avoid that.
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
        shortest = min(int(lengths.min()), x.shape[-1])
        if shortest < MIN_FRAMES:
            raise UserError(
                f"enrolment too short: {max(shortest, 0)} encoder frames, expected at least {MIN_FRAMES} "
                "(280 samples with the default kernel and stride): give a longer enrolment"
            )
        x = self.output(self.blocks(x))
        counts = torch.div(lengths, MIN_FRAMES, rounding_mode="floor")
        valid = valid_frames(counts, x.shape[-1], x.device)
        if valid is None:
            return x.mean(-1)
        return (x * valid).sum(-1) / counts.to(x)[:, None]
