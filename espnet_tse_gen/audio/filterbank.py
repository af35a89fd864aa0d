"""Triangular mel filters on Slaney's scale, as torchaudio and librosa make them, to the bit."""

import math

import torch
from torch import Tensor

BREAK_HZ, BREAK_MEL = 1000.0, 15.0
"""Slaney's scale is linear below and logarithmic above."""
STEP = math.log(6.4) / 27.0
"""Logarithm of the frequency ratio of neighbouring mels above the break."""


def mel_filters(
    sample_rate: int, n_fft: int, num_mels: int, dtype: torch.dtype = torch.float64, unit_area: bool = False
) -> Tensor:
    """Return triangular filters with peaks near 1, from 0 Hz to Nyquist's frequency, ``[n_fft // 2 + 1, num_mels]``.

    Computed in ``float32`` they are torchaudio's, in ``float64`` librosa's; ``unit_area`` is its ``norm="slaney"``.
    """
    bins = torch.linspace(0, sample_rate / 2, n_fft // 2 + 1, dtype=dtype)
    edges = _to_hz(torch.linspace(0, _to_mel(sample_rate / 2), num_mels + 2, dtype=dtype))
    widths = edges.diff()
    slopes = edges - bins[:, None]
    filters = torch.minimum(-slopes[:, :-2] / widths[:-1], slopes[:, 2:] / widths[1:]).clamp_min(0)
    return filters * (2.0 / (edges[2:] - edges[:-2])) if unit_area else filters


def _to_mel(hz: float) -> float:
    return BREAK_MEL + math.log(hz / BREAK_HZ) / STEP if hz >= BREAK_HZ else hz * BREAK_MEL / BREAK_HZ


def _to_hz(mel: Tensor) -> Tensor:
    linear = BREAK_HZ / BREAK_MEL * mel
    return torch.where(mel >= BREAK_MEL, BREAK_HZ * torch.exp(STEP * (mel - BREAK_MEL)), linear)
