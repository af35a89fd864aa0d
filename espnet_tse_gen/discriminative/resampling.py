"""Resampling of tensors where they are, on the CPU or a GPU, batches at a time."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

ZEROS = 6
"""Zero crossings of the filter on each side."""
ROLL_OFF = 0.99
"""Where the pass band ends, as a share of the lower Nyquist frequency."""


def resample(wav: Tensor, rate: int, wanted: int) -> Tensor:
    """Return waveforms ``[B, L]`` at another rate, ``[B, ceil(L * wanted / rate)]``.

    A sinc filter under a Hann window, one phase of it for each output sample of a period: what torchaudio does by default.

    Args:
        wav: Float, of any precision.
        rate: Hz.
        wanted: Hz.
    """
    divisor = math.gcd(rate, wanted)
    step, phases = rate // divisor, wanted // divisor
    cutoff = ROLL_OFF * min(step, phases)
    reach = math.ceil(ZEROS * step / cutoff)
    places = torch.arange(-reach, reach + step, dtype=wav.dtype, device=wav.device) / step
    outputs = torch.arange(0, -phases, -1, dtype=wav.dtype, device=wav.device)[:, None] / phases
    times = ((outputs + places) * cutoff).clamp(-ZEROS, ZEROS)
    window = torch.cos(times * math.pi / ZEROS / 2) ** 2
    filters = torch.sinc(times) * window * (cutoff / step)
    padded = F.pad(wav, (reach, reach + step))
    rows = F.conv1d(padded[:, None], filters[:, None], stride=step)
    return rows.transpose(1, 2).flatten(1)[:, : math.ceil(wav.shape[1] * wanted / rate)]
