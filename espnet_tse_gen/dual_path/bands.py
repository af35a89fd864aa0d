"""The spectrum in bands: waveform to features of bands, and masks of bands back to a waveform.

Bands that get wider with frequency, each with a linear layer of its own, as in BSRNN (Luo and Yu, IEEE/ACM TASLP 2023). All bands
are computed in one product: each is padded to the width of the widest.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from espnet_tse_gen.utils.errors import UserError

# Compression of magnitudes: features are the spectrum times |X|^-0.6, that is, magnitudes to the power of 0.4.
_COMPRESSION = -0.6
_FLOOR = 1e-4


class Spectrum(nn.Module):
    """Short-time Fourier transform with a square-root Hann window, whose inverse is exact; sizes are in samples.

    An odd window, or a hop of more than half of it, is a :class:`UserError`.
    """

    window: Tensor

    def __init__(self, window: int, hop: int) -> None:
        super().__init__()
        if window < 4 or window % 2 or not 1 <= hop <= window // 2:
            raise UserError(
                f"extractor_conf: window {window}, hop {hop}: expected an even window and a hop of at most half of it"
            )
        self.size, self.hop, self.bins = window, hop, window // 2 + 1
        self.register_buffer("window", torch.hann_window(window).sqrt(), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """Return the complex spectrum ``[B, L // hop + 1, bins]`` of ``waveform [B, L]``, whatever its length."""
        # Zeros beyond the ends, and not the mirrored signal, which a recording shorter than half a window does not have.
        return torch.stft(
            waveform, self.size, self.hop, window=self.window, center=True, pad_mode="constant", return_complex=True
        ).transpose(1, 2)

    def inverse(self, spectrum: Tensor, samples: int) -> Tensor:
        """Return the waveform ``[B, samples]`` of ``spectrum [B, T, bins]``."""
        return torch.istft(
            spectrum.transpose(1, 2), self.size, self.hop, window=self.window, center=True, length=samples
        )


class BandLayout(nn.Module):
    """Which of ``bins`` belong to which band, from 0 Hz on; ``widths`` that do not add up to ``bins`` are a UserError."""

    places: Tensor
    bin_of: Tensor

    def __init__(self, widths: Sequence[int], bins: int) -> None:
        super().__init__()
        if not widths or min(widths) < 1 or sum(widths) != bins:
            raise UserError(
                f"extractor_conf: band_widths add up to {sum(widths)} bins, expected {bins}, those of the window"
            )
        self.widths, self.widest = tuple(map(int, widths)), max(widths)
        bands = torch.repeat_interleave(torch.arange(len(widths)), torch.tensor(self.widths), output_size=bins)
        within = torch.cat([torch.arange(width) for width in self.widths])
        # Where a bin stands among all places of all bands, and the bin (or the one after the last) of every place.
        places = bands * self.widest + within
        bin_of = torch.full((len(widths) * self.widest,), bins)
        bin_of[places] = torch.arange(bins)
        self.register_buffer("places", places, persistent=False)
        self.register_buffer("bin_of", bin_of, persistent=False)

    def __len__(self) -> int:
        return len(self.widths)

    def split(self, values: Tensor) -> Tensor:
        """Return ``values [B, T, bins]`` as ``[B, T, K, widest]``, with zeros in the places that no bin has."""
        padded = torch.nn.functional.pad(values, (0, 1))
        return padded[..., self.bin_of].unflatten(-1, (len(self), self.widest))

    def join(self, values: Tensor) -> Tensor:
        """Return ``values [..., K, widest]`` as ``[..., bins]``."""
        return values.flatten(-2)[..., self.places]


class BandFeatures(nn.Module):
    """Real part, imaginary part and logarithm of the magnitude of every bin, mapped band by band to a width."""

    def __init__(self, layout: BandLayout, width: int) -> None:
        super().__init__()
        self.layout = layout
        scale = torch.tensor([(3 * band) ** -0.5 for band in layout.widths]).view(-1, 1, 1)
        self.weight = nn.Parameter(torch.randn(len(layout), 3 * layout.widest, width) * scale)
        self.position = nn.Parameter(torch.randn(len(layout), 1, width) * 0.1)

    def forward(self, spectrum: Tensor) -> Tensor:
        """Return features ``[B, K, T, width]`` of a complex spectrum ``[B, T, bins]`` at a common level."""
        magnitude = spectrum.abs().clamp(min=_FLOOR)
        compressed = spectrum * magnitude**_COMPRESSION
        values = [compressed.real, compressed.imag, magnitude.log() * 0.3]
        parts = torch.cat([self.layout.split(value) for value in values], dim=-1)
        return torch.einsum("btki,kid->bktd", parts, self.weight.to(parts.dtype)) + self.position


class BandMasks(nn.Module):
    """Features to one complex factor per bin, whose parts are within -2 and 2."""

    def __init__(self, layout: BandLayout, width: int) -> None:
        super().__init__()
        self.layout = layout
        self.norm = nn.LayerNorm(width)
        self.weight = nn.Parameter(torch.randn(len(layout), width, 4 * layout.widest) * (0.1 * width**-0.5))
        # At the start, half of the mixture passes: a real part of 2 tanh(0.55) / 2.
        bias = torch.zeros(len(layout), 1, 4 * layout.widest)
        bias[..., : layout.widest] = 0.55
        self.bias = nn.Parameter(bias)

    def forward(self, features: Tensor) -> Tensor:
        """Return the complex mask ``[B, T, bins]`` of features ``[B, K, T, width]`` that ``norm`` has normalised."""
        made = torch.einsum("bktd,kdo->bkto", features, self.weight) + self.bias
        real, imaginary, real_gate, imaginary_gate = made.float().unflatten(-1, (4, self.layout.widest)).unbind(-2)
        real = 2.0 * real.tanh() * real_gate.sigmoid()
        imaginary = 2.0 * imaginary.tanh() * imaginary_gate.sigmoid()
        return self.layout.join(torch.complex(real, imaginary).transpose(1, 2))
