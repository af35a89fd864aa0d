"""A block of the dual path: convolution and attention over time within a band, attention over bands within a frame.

Each part normalises what it gets and adds to it.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

KeysValues = tuple[Tensor, Tensor]
"""Keys and values of one attention over time, ``[B, K, heads, T, head_width]`` each."""


class TimeConvolution(nn.Module):
    """Depthwise convolution over the frames of each band, of which it sees ``kernel``, an odd number."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.convolution = nn.Conv2d(width, width, (1, kernel), padding=(0, kernel // 2), groups=width)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x [B, K, T, width]`` with the convolution added."""
        convolve = _Depthwise.apply if x.device.type == "cpu" else _over_frames
        return x + convolve(self.norm(x), self.convolution.weight, self.convolution.bias)


class _Depthwise(torch.autograd.Function):
    """Depthwise convolution over the frames of ``x [B, K, T, width]``.

    Its own backward pass, for CPUs, where that of PyTorch takes three times as long for channels that are last in memory.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _over_frames(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        gradient = gradient.contiguous()
        width, kernel = weight.shape[0], weight.shape[-1]
        padded = F.pad(x.to(gradient.dtype), (0, 0, kernel // 2, kernel // 2))
        ones = gradient.new_ones(1, gradient.numel() // width)
        taps = [ones @ (padded[:, :, tap : tap + x.shape[2]] * gradient).view(-1, width) for tap in range(kernel)]
        return (
            _over_frames(gradient, weight.to(gradient.dtype).flip(-1), None),
            torch.cat(taps).t().reshape(weight.shape),
            (ones @ gradient.view(-1, width)).squeeze(0),
        )


def _over_frames(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    # Channels stay last in memory.
    y = F.conv2d(x.permute(0, 3, 1, 2), weight, bias, padding=(0, weight.shape[-1] // 2), groups=len(weight))
    return y.permute(0, 2, 3, 1)


class FeedForward(nn.Module):
    """SwiGLU (Shazeer 2020, arXiv 2002.05202)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 2 * hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x [..., width]`` with the layer's output added."""
        normed = self.norm(x)
        # Two products, because on halves of one, which are not contiguous, `silu` takes four times as long.
        gate, value = (
            F.linear(normed, weight, bias)
            for weight, bias in zip(self.up.weight.chunk(2), self.up.bias.chunk(2), strict=True)
        )
        return x + self.down(F.silu(gate) * value)


class Attention(nn.Module):
    """Attention over frames within a band, or over bands within a frame; ``width`` is a multiple of ``head_width``."""

    def __init__(self, width: int, head_width: int, over_time: bool) -> None:
        super().__init__()
        self.heads, self.over_time = width // head_width, over_time
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def keys_values(self, x: Tensor) -> KeysValues:
        """Return keys and values of ``x [B, K, T, width]``, for others to attend to over time."""
        width = self.out.in_features
        projected = F.linear(self.norm(x), self.project.weight[width:], self.project.bias[width:])
        keys, values = projected.unflatten(-1, (2, self.heads, -1)).unbind(3)
        return keys.transpose(2, 3), values.transpose(2, 3)

    def forward(self, x: Tensor, prefix: KeysValues | None = None) -> Tensor:
        """Return ``x [B, K, T, width]`` with what was attended to added: over time, ``prefix`` beside ``x``."""
        projected = self.project(self.norm(x)).unflatten(-1, (3, self.heads, -1))
        axes = (3, 0, 1, 4, 2, 5) if self.over_time else (3, 0, 2, 4, 1, 5)
        queries, keys, values = projected.permute(axes).unbind(0)
        if prefix is not None:
            keys = torch.cat([prefix[0].to(keys.dtype), keys], dim=-2)
            values = torch.cat([prefix[1].to(values.dtype), values], dim=-2)
        if torch.is_grad_enabled():
            # On a CPU, in bfloat16, the backward pass of the fused attention takes several times as long.
            scores = (queries * queries.shape[-1] ** -0.5) @ keys.transpose(-1, -2)
            attended = scores.softmax(dim=-1).to(values.dtype) @ values
        else:
            # Its memory does not grow with the square of the length. Of four dimensions, or it is not taken.
            flat = (part.to(values.dtype).flatten(0, 1) for part in (queries, keys, values))
            attended = F.scaled_dot_product_attention(*flat).unflatten(0, queries.shape[:2])
        back = (0, 1, 3, 2, 4) if self.over_time else (0, 3, 1, 2, 4)
        return x + self.out(attended.permute(back).flatten(-2))


class DualPathBlock(nn.Module):
    """Convolution over time, attention over time, feed forward, attention over bands, feed forward.

    Without attention over bands, bands know nothing of each other.
    """

    def __init__(
        self, width: int, head_width: int, kernel: int, time_attention: bool = True, band_attention: bool = True
    ) -> None:
        super().__init__()
        self.convolution = TimeConvolution(width, kernel)
        self.time = Attention(width, head_width, over_time=True) if time_attention else None
        self.time_forward = FeedForward(width, 2 * width)
        self.band = Attention(width, head_width, over_time=False) if band_attention else None
        self.band_forward = FeedForward(width, width)

    def forward(self, x: Tensor, prefix: KeysValues | None = None) -> Tensor:
        """Return the block's output, ``[B, K, T, width]`` as its input ``x``; ``prefix`` as :class:`Attention` takes it."""
        x = self.convolution(x)
        if self.time is not None:
            x = self.time(x, prefix)
        x = self.time_forward(x)
        if self.band is not None:
            x = self.band(x)
        return self.band_forward(x)
