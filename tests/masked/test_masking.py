"""Masking: statistics of the draw (P11) and its guards."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_tse_gen.masked.masking import sample_mask


def _valid(lengths):
    return torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=6),
    st.integers(1, 8),
    st.sampled_from(["codebook", "joint", "mixed"]),
    st.integers(0, 2**31),
)
def test_p11_counts_lie_in_bounds_and_never_on_padding(lengths, codebooks, mode, seed):
    valid = _valid(lengths)
    mask = sample_mask(valid, codebooks, mode, generator=torch.Generator().manual_seed(seed))
    counted = mask.counted.sum(dim=(1, 2))
    assert (counted >= 1).all()
    limit = valid.sum(dim=1) * (1 if mode == "codebook" else codebooks)
    assert (counted <= limit).all()
    assert not (mask.hidden & ~valid[:, None]).any()
    assert not (mask.counted & ~mask.hidden).any()


def test_p11_codebook_mode_hides_all_finer_codebooks_and_shows_all_coarser_ones():
    valid = _valid([30, 17, 5])
    for seed in range(50):
        mask = sample_mask(valid, 6, "codebook", generator=torch.Generator().manual_seed(seed))
        for row in range(3):
            (codebook,) = mask.counted[row].any(dim=1).nonzero().flatten().tolist()
            assert not mask.hidden[row, :codebook].any()
            assert torch.equal(mask.hidden[row, codebook + 1 :], valid[row].expand(6 - codebook - 1, -1))


@pytest.mark.parametrize(("distribution", "weights"), [("linear", [8, 7, 6, 5, 4, 3, 2, 1]), ("uniform", [1] * 8)])
def test_p11_mean_ratio_and_codebook_frequencies(distribution, weights):
    valid = torch.ones(50_000, 12, dtype=torch.bool)
    mask = sample_mask(valid, 8, "codebook", distribution, generator=torch.Generator().manual_seed(0))
    assert mask.ratio.mean().item() == pytest.approx(2 / math.pi, abs=0.005)
    assert mask.counted.sum().item() / valid.numel() == pytest.approx(0.637, abs=0.005)
    expected = torch.tensor(weights) / sum(weights)
    assert torch.allclose(mask.counted.any(dim=2).float().mean(dim=0), expected, atol=0.007)
