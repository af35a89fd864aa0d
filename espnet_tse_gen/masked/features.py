"""What the network sees of a recording, frame by frame, besides the codec's tokens.

``tokens`` is the published method's condition; ``latent`` adds the codec encoder's output before quantization; ``stft`` adds a
compressed power spectrum, in which the harmonics of two voices stay apart. They can be combined in any way.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from espnet_tse_gen.utils.errors import UserError, unknown_name

FEATURES = ("tokens", "latent", "stft")


def parse_features(names: str | Sequence[str]) -> tuple[str, ...]:
    """Return the features named by ``"latent+tokens"`` or by a list, in a fixed order.

    Raises:
        UserError: For an unknown name, or none.
    """
    wanted = names.split("+") if isinstance(names, str) else list(names)
    for name in wanted:
        if name not in FEATURES:
            raise unknown_name("mixture feature", name, FEATURES)
    if not wanted:
        raise UserError(f"mixture features: none given, expected one or more of {', '.join(FEATURES)}")
    return tuple(name for name in FEATURES if name in wanted)


class CompressedSpectrum(nn.Module):
    """Power-law spectrum ``|X|^0.3`` with one frame per codec frame, centred on it.

    Args:
        n_fft: Window and transform length in samples (Hann window).
        hop: Samples per codec frame.
        exponent: Of the magnitude (0.3: Wilson et al. 2018, as in MaskSR).
    """

    window: Tensor

    def __init__(self, n_fft: int, hop: int, exponent: float = 0.3) -> None:
        super().__init__()
        if n_fft < hop:
            raise UserError(f"stft_size {n_fft} is shorter than the codec's hop {hop}; choose at least {hop}")
        self.n_fft, self.hop, self.exponent = n_fft, hop, exponent
        self.num_bins = n_fft // 2 + 1
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    def forward(self, wav: Tensor, frames: int) -> Tensor:
        """Map ``wav [B, L]`` to ``[B, n_fft/2 + 1, frames]``; samples beyond L count as zeros."""
        left = (self.n_fft - self.hop) // 2
        total = (frames - 1) * self.hop + self.n_fft
        padded = F.pad(wav, (left, max(0, total - left - wav.shape[1])))[:, :total]
        segments = padded.unfold(1, self.n_fft, self.hop) * self.window
        # The window's sum makes the scale independent of its length.
        magnitude = torch.fft.rfft(segments).abs() * (2.0 / self.window.sum())
        return magnitude.pow(self.exponent).transpose(1, 2)
