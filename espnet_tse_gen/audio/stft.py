"""Short-time Fourier transform with frames centred in the middle of their hop, and its inverse.

Frame ``t`` covers ``n_fft`` samples around sample ``t * hop + hop / 2``, so ``L`` samples make ``ceil(L / hop)`` frames
and no frame belongs to the signal's edge alone. ``torch.stft`` has no such framing: its frames are centred on multiples
of the hop, one more than this length contract allows.
"""

import torch
from torch import Tensor
from torch.nn import functional

CHUNK = 4096
"""Frames transformed at a time; bounds memory at ``CHUNK * n_fft`` floats for a recording of any length."""


def spectra(wav: Tensor, window: Tensor, hop: int) -> Tensor:
    """Return the spectra, complex ``[..., T, n_fft // 2 + 1]``, of the whole windows in ``wav`` ``[..., L]``, from 0 on."""
    frames = wav.unfold(-1, window.shape[0], hop)
    return torch.cat([torch.fft.rfft(part * window) for part in frames.split(CHUNK, dim=-2)], dim=-2)


def stft(wav: Tensor, window: Tensor, hop: int) -> Tensor:
    """Return the spectra of waveforms ``[..., L]``, complex ``[..., T, n_fft // 2 + 1]``, ``T = ceil(L / hop)``.

    ``window`` is float ``[n_fft]``, not shorter than ``hop`` samples.
    """
    beyond = window.shape[0] - hop
    return spectra(functional.pad(wav, (beyond // 2, -wav.shape[-1] % hop + beyond - beyond // 2)), window, hop)


def istft(spectrum: Tensor, window: Tensor, hop: int, floor: float = 1e-8) -> Tensor:
    """Return the waveforms ``[..., T * hop]`` whose spectra are nearest to ``spectrum`` (weighted overlap-add).

    Inverts :func:`stft` exactly where ``spectrum`` is one and the squared windows add up to ``floor`` or more: Griffin and
    Lim, "Signal estimation from modified short-time Fourier transform", 1984, equation 6.
    """
    n_fft, frames = window.shape[0], spectrum.shape[-2]
    left = (n_fft - hop) // 2
    pieces = [torch.fft.irfft(part, n=n_fft) * window for part in spectrum.split(CHUNK, dim=-2)]
    wav = overlap_add(torch.cat(pieces, dim=-2), hop)
    weight = overlap_add(window.square().expand(frames, -1), hop)
    return (wav / weight.clamp(min=floor))[..., left : left + frames * hop]


def overlap_add(pieces: Tensor, hop: int) -> Tensor:
    """Sum pieces ``[..., T, n]`` at distances of ``hop``; float ``[..., (T - 1) * hop + n]``."""
    *rows, frames, size = pieces.shape
    blocks = -(-size // hop)
    pieces = functional.pad(pieces, (0, blocks * hop - size))
    out = pieces.new_zeros(*rows, frames + blocks - 1, hop)
    # One addition per part of the window instead of one per frame; no atomics, so the same sum on every device and run.
    for block in range(blocks):
        out[..., block : block + frames, :] += pieces[..., block * hop : (block + 1) * hop]
    return out.flatten(-2)[..., : (frames - 1) * hop + size]
