"""The blocks of the dual path."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from espnet_tse_gen.dual_path.blocks import Attention


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
