"""Bidirectional transformer with rotary positions, QK-norm and SwiGLU, whose prefix can be cached exactly.

The enrolment is a prefix that attends only to itself, while the target attends to the prefix and to itself. Under that
asymmetric mask the prefix's keys and values do not depend on the target, so they are computed once (:meth:`Transformer.prefix`)
and reused in every decoding pass without any approximation.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from espnet_tse_gen.utils.errors import UserError


@dataclass(frozen=True)
class PrefixCache:
    """Keys and values of a prefix in every layer."""

    keys: tuple[Tensor, ...]  # one `[B, H, Te, d/H]` per layer, rotated to their positions
    values: tuple[Tensor, ...]  # the same shape
    valid: Tensor  # `[B, Te]` bool; False where the prefix is padding


def rotary_tables(positions: Tensor, width: int, base: float = 10000.0) -> tuple[Tensor, Tensor]:
    """Return cosine and sine ``[L, width]`` of rotary embedding (Su et al. 2021, section 3.2) at integer ``positions [L]``."""
    inverse = base ** (-torch.arange(0, width, 2, device=positions.device, dtype=torch.float32) / width)
    angles = positions.to(torch.float32)[:, None] * inverse
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos(), angles.sin()


def _rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return x * cosine.to(x.dtype) + torch.cat([-second, first], dim=-1) * sine.to(x.dtype)


class RMSNorm(nn.RMSNorm):
    """Root-mean-square norm that keeps to the input's precision, so that the fused kernel serves under autocast too."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension."""
        return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
    """Scaled dot-product attention of ``[B, H, T, d/H]``; ``mask`` is bool, False where nothing may attend to."""
    if query.dtype is not torch.bfloat16 or query.device.type != "cpu":
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
    # The CPU's fused kernel does not use the processor's bfloat16 instructions, and its backward pass takes three times as
    # long in bfloat16 as in float32; autocast would cast back, so it is off.
    with torch.autocast("cpu", enabled=False):
        if torch.is_grad_enabled():
            wide = (query.float(), key.float(), value.float())
            return F.scaled_dot_product_attention(*wide, attn_mask=mask, dropout_p=dropout).to(query.dtype)
        # Without gradients two products and a softmax take half the time.
        scores = torch.matmul(query * query.shape[-1] ** -0.5, key.transpose(-1, -2))
        if mask is not None:
            scores.masked_fill_(~mask, -torch.inf)
        return torch.matmul(scores.softmax(dim=-1), value)


class Attention(nn.Module):
    """Multi-head self-attention with normalised queries and keys and an optional cached prefix."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.project_in = nn.Linear(width, 3 * width, bias=False)
        self.project_out = nn.Linear(width, width, bias=False)
        self.query_norm = RMSNorm(width // heads, eps=1e-6)
        self.key_norm = RMSNorm(width // heads, eps=1e-6)

    def forward(
        self, x: Tensor, rotary: tuple[Tensor, Tensor], mask: Tensor | None, prefix: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Attend from ``x [B, T, d]`` to the prefix and to ``x``; return the result and the keys and values of ``x``."""
        batch, length, width = x.shape
        query, key, value = self.project_in(x).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        query = _rotate(self.query_norm(query), *rotary)
        key = _rotate(self.key_norm(key), *rotary)
        own = (key, value)
        if prefix is not None:
            key = torch.cat([prefix[0], key], dim=2)
            value = torch.cat([prefix[1], value], dim=2)
        dropout = self.dropout if self.training else 0.0
        mixed = _attend(query, key, value, mask, dropout)
        return self.project_out(mixed.transpose(1, 2).reshape(batch, length, width)), own


class SwiGLU(nn.Module):
    """Gated feed-forward layer (Shazeer 2020): ``W3(silu(W1 x) * W2 x)`` with hidden width 8d/3, rounded to a multiple of 64."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = 64 * max(1, round(8 * width / 3 / 64))
        self.gate_and_up = nn.Linear(width, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[..., d]`` to ``[..., d]``."""
        gate, up = self.gate_and_up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)


class FrameConvolution(nn.Module):
    """Depthwise convolution over frames with a gate, which makes a block Conformer-like; blind to padding."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.expand = nn.Linear(width, 2 * width, bias=False)
        self.depthwise = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.project = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Map ``x [B, T, d]`` to the same shape; frames where ``valid [B, T]`` is False count as zeros."""
        x = F.glu(self.expand(x), dim=-1) * valid[..., None].to(x.dtype)
        x = self.depthwise(x.transpose(1, 2)).transpose(1, 2)
        return self.project(F.silu(x))


class Block(nn.Module):
    """Pre-norm block: attention, optional depthwise convolution, SwiGLU."""

    def __init__(self, width: int, heads: int, dropout: float, conv_kernel: int) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(width, eps=1e-6)
        self.attention = Attention(width, heads, dropout)
        self.conv_norm = RMSNorm(width, eps=1e-6) if conv_kernel else None
        self.conv = FrameConvolution(width, conv_kernel) if conv_kernel else None
        self.feed_forward_norm = RMSNorm(width, eps=1e-6)
        self.feed_forward = SwiGLU(width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        valid: Tensor,
        rotary: tuple[Tensor, Tensor],
        mask: Tensor | None,
        prefix: tuple[Tensor, Tensor] | None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return the block's output ``[B, T, d]`` and its keys and values."""
        attended, own = self.attention(self.attention_norm(x), rotary, mask, prefix)
        x = x + self.dropout(attended)
        if self.conv is not None and self.conv_norm is not None:
            x = x + self.dropout(self.conv(self.conv_norm(x), valid))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x))), own


class Transformer(nn.Module):
    """A stack of :class:`Block` with a final norm; impossible sizes, those of ``extractor_conf``, are a UserError."""

    def __init__(
        self,
        width: int,  # channels d, an even multiple of `heads`
        layers: int,
        heads: int,
        dropout: float = 0.1,  # of attention weights and residual branches
        conv_kernel: int = 0,  # odd kernel of the optional depthwise convolution; 0 leaves it out
    ) -> None:
        super().__init__()
        if width % heads or (width // heads) % 2:
            raise UserError(f"extractor_conf: width {width} must be an even multiple of heads {heads}")
        if conv_kernel and conv_kernel % 2 == 0:
            raise UserError(f"extractor_conf: conv_kernel must be odd or 0, not {conv_kernel}")
        self.head_width = width // heads
        self.blocks = nn.ModuleList(Block(width, heads, dropout, conv_kernel) for _ in range(layers))
        self.norm = RMSNorm(width, eps=1e-6)

    def prefix(self, x: Tensor, valid: Tensor) -> PrefixCache:
        """Run the prefix ``x [B, Te, d]`` (positions 0..Te-1) over itself and keep its keys and values."""
        return self._run(x, valid, offset=0, cache=None)[1]

    def forward(self, x: Tensor, valid: Tensor, cache: PrefixCache | None = None, offset: int = 0) -> Tensor:
        """Return hidden states ``[B, T, d]``.

        Args:
            x: ``[B, T, d]``; its first frame stands at position ``offset``.
            valid: ``[B, T]`` bool, False on padding, which nothing attends to.
            cache: A prefix that every frame of ``x`` attends to.
            offset: Position of the first frame; constant, so that coordinates do not depend on the prefix's length.
        """
        return self.norm(self._run(x, valid, offset, cache)[0])

    def _run(self, x: Tensor, valid: Tensor, offset: int, cache: PrefixCache | None) -> tuple[Tensor, PrefixCache]:
        positions = torch.arange(offset, offset + x.shape[1], device=x.device)
        rotary = rotary_tables(positions, self.head_width)
        seen = valid if cache is None else torch.cat([cache.valid, valid], dim=1)
        # Without padding no mask is needed, and the fused kernels run faster without one.
        mask = None if bool(seen.all()) else seen[:, None, None, :]
        keys, values = [], []
        for number, block in enumerate(self.blocks):
            prefix = None if cache is None else (cache.keys[number], cache.values[number])
            x, (key, value) = block(x, valid, rotary, mask, prefix)
            keys.append(key)
            values.append(value)
        return x, PrefixCache(tuple(keys), tuple(values), valid)
