"""Short-time Fourier transform with frames centred in the middle of their hop, and its inverse.

Frame ``t`` covers ``n_fft`` samples around sample ``t * hop + hop / 2``, so ``L`` samples make ``ceil(L / hop)`` frames
and no frame belongs to the signal's edge alone. ``torch.stft`` has no such framing: its frames are centred on multiples
of the hop, one more than this length contract allows.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

CHUNK = 4096
"""Frames transformed at a time; bounds memory at ``CHUNK * n_fft`` floats for a recording of any length."""


def stft(wav: Tensor, window: Tensor, hop: int) -> Tensor:
    """Return the spectrum of one waveform.

    Args:
        wav: float ``[L]``.
        window: float ``[n_fft]``, ``n_fft - hop`` even and not negative.
        hop: Samples per frame.

    Returns:
        complex ``[T, n_fft // 2 + 1]``, ``T = ceil(L / hop)``.
    """
    n_fft = window.shape[0]
    frames = -(-wav.shape[0] // hop)
    left = (n_fft - hop) // 2
    padded = functional.pad(wav, (left, frames * hop + n_fft - hop - left - wav.shape[0]))
    return torch.cat([torch.fft.rfft(part * window) for part in padded.unfold(0, n_fft, hop).split(CHUNK)])


def istft(spectrum: Tensor, window: Tensor, hop: int) -> Tensor:
    """Return the waveform ``[T * hop]`` whose spectrum is nearest to ``spectrum`` (weighted overlap-add).

    Inverts :func:`stft` exactly where ``spectrum`` is one: Griffin and Lim, "Signal estimation from modified short-time
    Fourier transform", 1984, equation 6.
    """
    n_fft, frames = window.shape[0], spectrum.shape[0]
    left = (n_fft - hop) // 2
    pieces = [torch.fft.irfft(part, n=n_fft) * window for part in spectrum.split(CHUNK)]
    wav = _overlap_add(torch.cat(pieces), hop)
    weight = _overlap_add(window.square().expand(frames, -1), hop)
    return (wav / weight.clamp(min=1e-8))[left : left + frames * hop]


def _overlap_add(pieces: Tensor, hop: int) -> Tensor:
    """Sum pieces ``[T, n]`` at distances of ``hop``; float ``[(T - 1) * hop + n]``."""
    frames, size = pieces.shape
    length = (frames - 1) * hop + size
    blocks = -(-size // hop)
    pieces = functional.pad(pieces, (0, blocks * hop - size))
    out = pieces.new_zeros(frames + blocks - 1, hop)
    # One addition per part of the window instead of one per frame; no atomics, so the same sum on every device and run.
    for block in range(blocks):
        out[block : block + frames] += pieces[:, block * hop : (block + 1) * hop]
    return out.flatten()[:length]
