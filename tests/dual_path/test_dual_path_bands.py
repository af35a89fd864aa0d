"""Spectrum and bands: transforms that can be undone, and every bin in one band."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_tse_gen.dual_path.bands import BandFeatures, BandLayout, BandMasks, Spectrum


@given(samples=st.integers(1, 3000), half=st.integers(8, 100), part=st.integers(2, 4))
@settings(max_examples=30, deadline=None)
def test_the_spectrum_of_any_length_is_undone(samples: int, half: int, part: int) -> None:
    hop = max(1, 2 * half // part)
    spectrum = Spectrum(2 * half, hop)
    signal = torch.randn(2, samples, generator=torch.Generator().manual_seed(samples))
    made = spectrum(signal)
    frames = samples // hop + 1
    assert made.shape == (2, frames, spectrum.bins)
    if 2 * half % hop == 0:
        # What the last frame does not reach is lost; the network's hop is half a window, and reaches all.
        kept = min(samples, (frames - 1) * hop + half)
        torch.testing.assert_close(spectrum.inverse(made, samples)[:, :kept], signal[:, :kept], atol=1e-4, rtol=1e-4)


@given(widths=st.lists(st.integers(1, 9), min_size=1, max_size=8))
@settings(max_examples=30, deadline=None)
def test_every_bin_is_in_one_band_and_comes_back(widths: list[int]) -> None:
    layout = BandLayout(widths, sum(widths))
    values = torch.arange(2.0 * 3 * sum(widths)).view(2, 3, -1) + 1
    split = layout.split(values)
    assert split.shape == (2, 3, len(widths), max(widths))
    assert torch.equal(layout.join(split), values)
    # Places that no bin has are zero.
    assert split.count_nonzero() == values.numel()


def test_bands_do_not_see_each_other() -> None:
    layout = BandLayout([3, 5, 2], 10)
    features = BandFeatures(layout, 8)
    spectrum = torch.randn(1, 4, 10, dtype=torch.complex64)
    changed = spectrum.clone()
    changed[..., 3:8] *= 2
    same = features(spectrum) == features(changed)
    assert same[:, [0, 2]].all() and not same[:, 1].all()


def test_masks_are_bounded_and_start_with_half_of_the_mixture() -> None:
    masks = BandMasks(BandLayout([3, 5, 2], 10), 8)
    mask = masks(torch.randn(2, 3, 6, 8))
    assert mask.shape == (2, 6, 10)
    assert (mask.real.mean() - 0.5).abs() < 0.1 and mask.imag.mean().abs() < 0.1
    with torch.no_grad():
        masks.weight *= 1000
    mask = masks(torch.randn(2, 3, 6, 8))
    assert max(mask.real.abs().max(), mask.imag.abs().max()) <= 2
