"""Resampling of tensors."""

from __future__ import annotations

import math

import pytest
import torch

from espnet_tse_gen.discriminative.resampling import resample

RATES = [(16000, 8000), (8000, 16000), (44100, 16000), (16000, 24000)]


@pytest.mark.parametrize(("rate", "wanted"), RATES)
def test_a_tone_keeps_frequency_level_and_phase(rate: int, wanted: int) -> None:
    tone = [torch.sin(2 * math.pi * 700 / hz * torch.arange(hz // 5, dtype=torch.float64)) for hz in (rate, wanted)]
    made = resample(tone[0][None], rate, wanted)[0]
    assert made.shape == tone[1].shape
    inner = slice(wanted // 100, -wanted // 100)
    assert float((made - tone[1])[inner].abs().max()) < 0.01


@pytest.mark.parametrize(("rate", "wanted"), [(16000, 8000), (44100, 16000)])
def test_frequencies_above_the_wanted_nyquist_are_removed(rate: int, wanted: int) -> None:
    tone = torch.sin(2 * math.pi * 0.45 * torch.arange(4000))[None]
    assert float(resample(tone, rate, wanted)[:, 100:-100].square().mean()) < 1e-3


@pytest.mark.parametrize(("rate", "wanted"), RATES)
def test_it_is_torchaudios_default(rate: int, wanted: int) -> None:
    functional = pytest.importorskip("torchaudio.functional")
    wav = torch.randn(2, 5001)
    torch.testing.assert_close(resample(wav, rate, wanted), functional.resample(wav, rate, wanted), atol=2e-6, rtol=0)
