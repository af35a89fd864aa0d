"""The blocks of the dual path."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel

from espnet_tse_gen.dual_path.blocks import Attention, TimeConvolution


@pytest.mark.parametrize(("over_time", "prefixed"), [(True, False), (True, True), (False, False)])
def test_without_gradients_memory_does_not_grow_with_the_square_of_the_length(over_time: bool, prefixed: bool) -> None:
    torch.manual_seed(0)
    attention = Attention(64, 32, over_time).eval()
    x, enroll = torch.randn(2, 5, 30, 64), torch.randn(2, 5, 17, 64)
    prefix = attention.keys_values(enroll) if prefixed else None
    expected = attention(x, prefix)
    # Any other kernel, which would hold all scores at once, is an error here.
    with torch.inference_mode(), sdpa_kernel([SDPBackend.FLASH_ATTENTION]):
        made = attention(x, attention.keys_values(enroll) if prefixed else None)
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=1e-5)


@given(st.integers(1, 2), st.integers(1, 3), st.integers(1, 12), st.integers(1, 5), st.integers(0, 3))
def test_the_convolutions_own_backward_pass_is_that_of_pytorch(
    batch: int, bands: int, frames: int, width: int, half: int
) -> None:
    torch.manual_seed(0)
    layer = TimeConvolution(width, 2 * half + 1).double()
    x = torch.randn(batch, bands, frames, width, dtype=torch.float64, requires_grad=True)
    normed = layer.norm(x)
    plain = x + layer.convolution(normed.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    ours = layer(x)
    torch.testing.assert_close(ours, plain)
    weights = torch.randn_like(x)
    wanted = torch.autograd.grad((plain * weights).sum(), [x, *layer.parameters()])
    torch.testing.assert_close(torch.autograd.grad((ours * weights).sum(), [x, *layer.parameters()]), wanted)
