"""What the ``mini`` codec's training minimises: distances of spectra, the signal-to-noise ratio, and a discriminator."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from espnet_tse_gen.audio.filterbank import mel_filters
from espnet_tse_gen.audio.stft import spectra

RESOLUTIONS = {512: 64, 1024: 80, 2048: 128}
"""Window length in samples to mel bands."""
COMPLEX_RESOLUTIONS = (512, 1024)
"""Windows at which complex spectra are compared too."""
COMPRESSION = 0.3
"""Exponent of magnitudes where complex spectra are compared."""


def spectra_of(wav: Tensor, window: int) -> Tensor:
    """Return the short-time spectra, complex ``[B, S, bins]``, three quarters overlapping, scaled to the signal's level."""
    taper = torch.hann_window(window, device=wav.device) * (2.0 / math.sqrt(window))
    return spectra(functional.pad(wav, (window // 2, window // 2)), taper, window // 4)


def compressed_parts(spectra: Tensor, power: Tensor) -> tuple[Tensor, Tensor]:
    """Return real and imaginary parts with compressed magnitudes, given the spectra's ``power``."""
    scale = torch.exp((COMPRESSION - 1.0) / 2.0 * torch.log(power + 1e-7))
    return spectra.real * scale, spectra.imag * scale


class SpectralLoss(nn.Module):
    """Distances between two waveforms' spectra at several resolutions; ``sample_rate`` is in Hz."""

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        for window, bands in RESOLUTIONS.items():
            filters = mel_filters(sample_rate, window, bands).T.float().contiguous()
            self.register_buffer(f"mel_{window}", filters, persistent=False)

    def forward(self, made: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean log-mel distance and the mean squared distance of compressed complex spectra of ``[B, L]``."""
        mel_distance = complex_distance = made.new_zeros(())
        for window in RESOLUTIONS:
            bank = getattr(self, f"mel_{window}").T
            found, target = spectra_of(made, window), spectra_of(wanted, window)
            powers = [spectrum.real.square() + spectrum.imag.square() for spectrum in (found, target)]
            logs = [(power @ bank + 1e-6).log() for power in powers]
            mel_distance = mel_distance + 0.5 * (logs[0] - logs[1]).abs().mean() / len(RESOLUTIONS)
            if window in COMPLEX_RESOLUTIONS:
                parts = zip(compressed_parts(found, powers[0]), compressed_parts(target, powers[1]), strict=True)
                distance = sum((part - goal).square().mean() for part, goal in parts)
                complex_distance = complex_distance + distance / len(COMPLEX_RESOLUTIONS)
        return mel_distance, complex_distance


def signal_to_noise(wanted: Tensor, made: Tensor) -> Tensor:
    """Return the signal-to-noise ratio in dB of every row, ``[B]``; finite for silence."""
    noise = (wanted - made).square().sum(dim=1)
    return 10.0 * torch.log10((wanted.square().sum(dim=1) + 1e-6) / (noise + 1e-6))


class SpectralDiscriminator(nn.Module):
    """Tells codecs' output from recordings by complex spectra at several ``windows`` (samples), patch by patch."""

    def __init__(self, windows: tuple[int, ...], channels: int) -> None:
        super().__init__()
        self.windows = windows
        self.parts = nn.ModuleList(
            nn.ModuleList(
                [
                    nn.Conv2d(2, channels, (3, 9), stride=(1, 4), padding=(1, 4)),
                    nn.Conv2d(channels, 2 * channels, (3, 5), stride=(1, 2), padding=(1, 2)),
                    nn.Conv2d(2 * channels, 2 * channels, (3, 5), stride=(2, 2), padding=(1, 2)),
                    nn.Conv2d(2 * channels, 2 * channels, (3, 3), padding=1),
                    nn.Conv2d(2 * channels, 1, (3, 3), padding=1),
                ]
            )
            for _ in windows
        )

    def forward(self, wav: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return, for waveforms ``[B, L]``, the patches' scores per resolution and all inner layers' outputs."""
        scores, inside = [], []
        for window, part in zip(self.windows, self.parts, strict=True):
            *layers, last = part.children()
            found = spectra_of(wav, window)
            x = torch.stack(compressed_parts(found, found.real.square() + found.imag.square()), dim=1)
            for layer in layers:
                x = functional.leaky_relu(layer(x), 0.1)
                inside.append(x)
            scores.append(last(x))
        return scores, inside
