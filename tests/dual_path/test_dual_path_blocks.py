"""The blocks of the dual path."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from espnet_tse_gen.dual_path.blocks import TimeConvolution


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
