"""The transformer's prefix cache (P16) and its indifference to padding (P6)."""

import pytest
import torch

from espnet_tse_gen.masked.transformer import Transformer, _attend, rotary_tables

OFFSET = 50


@pytest.fixture(params=[0, 5])
def stack(request):
    torch.manual_seed(1)
    return Transformer(width=32, layers=3, heads=4, dropout=0.0, conv_kernel=request.param).double().eval()


def _data(prefix=7, length=12):
    generator = torch.Generator().manual_seed(0)
    frames = torch.randn(2, prefix + length, 32, generator=generator, dtype=torch.float64)
    valid = torch.ones(2, prefix + length, dtype=torch.bool)
    valid[1, prefix - 2 : prefix] = False
    valid[1, -3:] = False
    return frames, valid, prefix


def _recompute(stack, frames, valid, prefix):
    """The same stack over one joined sequence under an explicit asymmetric mask, without any cache."""
    length = frames.shape[1]
    positions = torch.cat([torch.arange(prefix), OFFSET + torch.arange(length - prefix)])
    rotary = rotary_tables(positions, stack.head_width)
    is_prefix = torch.arange(length) < prefix
    allowed = is_prefix[None, :] | ~is_prefix[:, None]
    mask = allowed[None, None] & valid[:, None, None, :]
    x = frames
    for block in stack.blocks:
        attended, _ = block.attention(block.attention_norm(x), rotary, mask, None)
        x = x + attended
        if block.conv is not None:
            parts = block.conv_norm(x)
            x = x + torch.cat(
                [block.conv(parts[:, :prefix], valid[:, :prefix]), block.conv(parts[:, prefix:], valid[:, prefix:])],
                dim=1,
            )
        x = x + block.feed_forward(block.feed_forward_norm(x))
    return stack.norm(x)


def test_p16_cached_prefix_equals_full_recomputation(stack):
    frames, valid, prefix = _data()
    cache = stack.prefix(frames[:, :prefix], valid[:, :prefix])
    cached = stack(frames[:, prefix:], valid[:, prefix:], cache, offset=OFFSET)
    full = _recompute(stack, frames, valid, prefix)[:, prefix:]
    assert torch.allclose(cached[valid[:, prefix:]], full[valid[:, prefix:]], atol=1e-10)


def test_p06_padded_row_equals_the_row_alone(stack):
    frames, valid, prefix = _data()
    cache = stack.prefix(frames[:, :prefix], valid[:, :prefix])
    together = stack(frames[:, prefix:], valid[:, prefix:], cache, offset=OFFSET)[1:, :-3]
    alone = stack.prefix(frames[1:, : prefix - 2], valid[1:, : prefix - 2])
    single = stack(frames[1:, prefix:-3], valid[1:, prefix:-3], alone, offset=OFFSET)
    assert torch.allclose(together, single, atol=1e-12)


def test_position_matters(stack):
    frames, valid, _ = _data()
    valid = torch.ones_like(valid)
    turned = stack(frames.flip(1), valid)
    assert not torch.allclose(stack(frames, valid), turned.flip(1), atol=1e-3)


@pytest.mark.parametrize("masked", [False, True])
def test_attention_in_bfloat16_without_gradients_agrees_with_the_exact_one(masked):
    query, key, value = (torch.randn(2, 4, length, 16) for length in (12, 19, 19))
    mask = None
    if masked:
        mask = torch.arange(19) < torch.tensor([19, 11])[:, None]
        mask = mask[:, None, None, :]
        key = torch.where(mask.transpose(-1, -2), key, 9.0)
    exact = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    low = [x.bfloat16() for x in (query, key, value)]
    with torch.no_grad():
        decoding = _attend(*low, mask, 0.0)
    training = _attend(*low, mask, 0.0)
    assert decoding.dtype == training.dtype == torch.bfloat16
    errors = [(x.float() - exact).square().mean().sqrt() for x in (decoding, training)]
    assert errors[0] < 1.5 * errors[1] and errors[0] < 0.01
