"""Encoder, decoder, norms and blocks against their definitions, written out plainly."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_tse_gen.discriminative.blocks import GlobalNorm, TCNBlock, TCNStack
from espnet_tse_gen.discriminative.coding import MultiScaleConvDecoder, MultiScaleConvEncoder
from espnet_tse_gen.utils.errors import UserError

KERNELS = (20, 80, 160)


@settings(max_examples=30, deadline=None)
@given(length=st.integers(20, 700))
def test_frames_cover_the_signal_and_are_the_authors_number_for_whole_hops(length: int) -> None:
    features, frames = MultiScaleConvEncoder(2)(torch.randn(1, length), torch.tensor([length]))
    count = int(frames)
    assert features.shape == (1, count, 6)
    covered = (count - 1) * 10 + 20
    assert length <= covered < length + 10
    if (length - 20) % 10 == 0:
        assert count == (length - 20) // 10 + 1


@pytest.mark.parametrize("length", [20, 57, 400, 1003])
@pytest.mark.parametrize("bias", [True, False])
def test_encoder_is_a_product_with_every_window(length: int, bias: bool) -> None:
    encoder = MultiScaleConvEncoder(4, bias=bias)
    wav = torch.randn(2, length)
    features, frames = encoder(wav, torch.tensor([length, length]))
    padded = F.pad(wav, (0, 200))
    for scale, kernel in enumerate(KERNELS):
        conv = encoder.convs[scale]
        for t in (0, int(frames[0]) // 2, int(frames[0]) - 1):
            expected = padded[:, 10 * t : 10 * t + kernel] @ conv.weight[:, 0].t()
            expected = (expected + conv.bias if bias else expected).relu()
            torch.testing.assert_close(features[:, t, 4 * scale : 4 * scale + 4], expected)


@pytest.mark.parametrize("bias", [True, False])
def test_decoder_is_three_transposed_convolutions(bias: bool) -> None:
    decoder = MultiScaleConvDecoder(6, bias=bias)
    features = torch.randn(2, 31, 18)
    lengths = torch.tensor([317, 200])
    waves = decoder.decode_scales(features, lengths)
    for scale, wav in enumerate(waves):
        expected = decoder.convs[scale](features[..., 6 * scale : 6 * scale + 6].transpose(1, 2))[:, 0, :317]
        torch.testing.assert_close(wav, expected, rtol=1e-5, atol=1e-6)
    for given_features in (features, features[..., :6]):
        short, same = decoder(given_features, lengths)
        assert torch.equal(short, waves[0]) and same is lengths


@pytest.mark.parametrize(
    ("part", "options", "message"),
    [
        (MultiScaleConvEncoder, {"kernel_sizes": (80, 20, 160)}, "kernel_sizes"),
        (MultiScaleConvDecoder, {"kernel_sizes": (20, 80)}, "kernel_sizes"),
        (MultiScaleConvEncoder, {"stride": 30}, "kernel_sizes"),
        (MultiScaleConvDecoder, {"stride": 0}, "stride"),
        (partial(TCNStack, 4, 6, blocks=4), {"kernel_size": 2}, "kernel_size"),
    ],
)
def test_options_that_do_not_fit_are_refused(part: Callable, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        part(**options)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape", [(3, 6, 11), (3, 6, 4, 11)])
def test_global_norm_of_valid_frames_is_that_of_each_item_alone(shape: tuple[int, ...], affine: bool) -> None:
    norm = GlobalNorm(6, affine)
    for parameter in norm.parameters():
        parameter.data.normal_()
    x, lengths = torch.randn(shape) + 3, (11, 4, 1)
    valid = (torch.arange(11) < torch.tensor(lengths)[:, None])[:, None]
    batch = norm(x, valid)
    for i, length in enumerate(lengths):
        torch.testing.assert_close(batch[i, ..., :length], norm(x[i : i + 1, ..., :length])[0], rtol=1e-5, atol=1e-5)
        assert not batch[i, ..., length:].any()


def test_speaker_aware_block_is_a_convolution_over_features_and_repeated_embedding() -> None:
    block = TCNBlock(6, 8, 3, 2, embedding_dim=5)
    assert block.expand.weight.shape == (8, 11, 1)
    x, embedding = torch.randn(2, 6, 13), torch.randn(2, 5)
    hidden = block.expand(torch.cat([x, embedding[:, :, None].expand(-1, -1, 13)], 1))
    hidden = block.norm1(block.activation1(hidden))
    hidden = block.norm2(block.activation2(block.depthwise(hidden)))
    torch.testing.assert_close(block(x, None, embedding), x + block.reduce(hidden), rtol=1e-5, atol=1e-6)
