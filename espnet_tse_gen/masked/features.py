"""What the network sees of a recording, frame by frame: the codec's tokens, and what else there is of a signal.

``tokens`` is the published method's condition; ``latent`` adds the codec encoder's output before quantization; ``stft`` adds a
compressed power spectrum, in which the harmonics of two voices stay apart; ``features`` are those of a front end.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from espnet_tse_gen.audio.stft import spectra
from espnet_tse_gen.codec.base import AbsCodec
from espnet_tse_gen.masked.abs_extractor import Signal
from espnet_tse_gen.utils.errors import UserError, unknown_name

FEATURES = ("tokens", "latent", "stft")
ESTIMATE_FEATURES = (*FEATURES, "features")
"""Those of a front end's estimate."""
EMBEDDINGS = ("sum", "codec")


def parse_features(names: str | Sequence[str], valid: Sequence[str] = FEATURES) -> tuple[str, ...]:
    """Return the features named by ``"latent+tokens"`` or by a list, in a fixed order; an unknown name is a UserError."""
    wanted = names.split("+") if isinstance(names, str) else list(names)
    for name in wanted:
        if name not in valid:
            raise unknown_name("mixture feature", name, valid)
    if not wanted:
        raise UserError(f"mixture features: none given, expected one or more of {', '.join(valid)}")
    return tuple(name for name in valid if name in wanted)


def at_frames(features: Tensor, rate: float, frames: int, frame_rate: float) -> Tensor:
    """Return features ``[B, T', F]``, ``rate`` a second from time 0, at the centres of codec frames: ``[B, frames, F]``.

    Between two of them it goes straight from one to the other.
    """
    places = (torch.arange(frames, device=features.device, dtype=torch.float64) + 0.5) * (rate / frame_rate)
    low = places.long().clamp(max=features.shape[1] - 1)
    high = (low + 1).clamp(max=features.shape[1] - 1)
    return torch.lerp(features[:, low], features[:, high], (places - low).clamp(max=1.0).to(features.dtype)[:, None])


class CompressedSpectrum(nn.Module):
    """Power-law spectrum ``|X|^0.3`` with one frame per codec frame, centred on it.

    The exponent is that of Wilson et al. 2018, as in MaskSR; ``n_fft`` samples are those of a Hann window, ``hop`` a frame's.
    """

    window: Tensor

    def __init__(self, n_fft: int, hop: int) -> None:
        super().__init__()
        if n_fft < hop:
            raise UserError(f"stft_size {n_fft} is shorter than the codec's hop {hop}; choose at least {hop}")
        self.n_fft, self.hop = n_fft, hop
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    def forward(self, wav: Tensor, frames: int) -> Tensor:
        """Map ``wav [B, L]`` to ``[B, n_fft/2 + 1, frames]``; samples beyond L count as zeros."""
        left = (self.n_fft - self.hop) // 2
        total = (frames - 1) * self.hop + self.n_fft
        padded = F.pad(wav, (left, max(0, total - left - wav.shape[1])))[:, :total]
        # The window's sum makes the scale independent of its length.
        magnitude = spectra(padded, self.window, self.hop).abs() * (2.0 / self.window.sum())
        return magnitude.pow(0.3).transpose(1, 2)


class TokenEmbedding(nn.Module):
    """Embed codes ``[B, K, T]`` as frames ``[B, T, d]``; the id ``codebook_size`` is the codebook's mask.

    Every codebook has a mask vector of its own, so that a sum over codebooks tells which of a frame are hidden.
    """

    vectors: Tensor

    def __init__(
        self,
        codec: AbsCodec,
        width: int,  # d
        # `sum` (learned table per codebook, summed and divided by sqrt(K)) or `codec` (vectors of the codec's frozen codebooks
        # side by side, whose geometry comes for free, a learned mask vector per codebook, and a linear map)
        mode: str,
    ) -> None:
        super().__init__()
        if mode not in EMBEDDINGS:
            raise unknown_name("embedding", mode, EMBEDDINGS)
        self.num_codebooks = codec.num_codebooks
        self.codebook_size = codec.codebook_size
        self.mode = mode
        if mode == "sum":
            self.tables = nn.Parameter(torch.randn(self.num_codebooks, self.codebook_size + 1, width))
        else:
            vectors = torch.stack([codec.codebook(k).detach().float() for k in range(self.num_codebooks)])
            vectors = vectors / vectors.std().clamp_min(1e-8)
            # Not saved: they belong to the codec, whose fingerprint the checkpoint carries.
            self.register_buffer("vectors", vectors, persistent=False)
            self.mask_vectors = nn.Parameter(torch.randn(self.num_codebooks, 1, vectors.shape[-1]))
            self.project = nn.Linear(self.num_codebooks * vectors.shape[-1], width)

    def forward(self, codes: Tensor, valid: Tensor) -> Tensor:
        """Return ``[B, T, d]``, zero where ``valid [B, T]`` is False."""
        codebooks = torch.arange(self.num_codebooks, device=codes.device)[None, :, None]
        if self.mode == "sum":
            table = self.tables.flatten(0, 1)
            index = (codes + codebooks * (self.codebook_size + 1)).transpose(1, 2)
            frames = F.embedding_bag(index.flatten(0, 1), table, mode="sum")
            frames = frames.view(*index.shape[:2], -1) / math.sqrt(self.num_codebooks)
        else:
            vectors = torch.cat([self.vectors, self.mask_vectors], dim=1)
            frames = self.project(vectors[codebooks, codes].transpose(1, 2).flatten(2))
        return frames * valid[..., None].to(frames.dtype)


class FrameInput(nn.Module):
    """Turn a :class:`Signal` into frames ``[B, T, d]``: token embedding plus linear maps of its continuous features."""

    def __init__(
        self,
        features: tuple[str, ...],
        embedding: TokenEmbedding | None,
        codec: AbsCodec,
        width: int,
        stft_size: int,
        feature_width: int = 0,  # F of a front end's features
    ) -> None:
        super().__init__()
        self.features = nn.Linear(feature_width, width) if "features" in features else None
        self.embedding = embedding
        self.latent = nn.Linear(codec.latent_dim, width) if "latent" in features else None
        self.spectrum = CompressedSpectrum(stft_size, codec.hop) if "stft" in features else None
        self.stft = nn.Linear(stft_size // 2 + 1, width) if "stft" in features else None

    def forward(self, signal: Signal) -> Tensor:
        """Return ``[B, T, d]``, zero on padding."""
        frames = signal.latents.new_zeros(())
        if self.embedding is not None:
            frames = frames + self.embedding(signal.codes, signal.valid)
        if self.latent is not None:
            # Codecs compute in float32 whatever the extractor's precision.
            frames = frames + self.latent(signal.latents.to(self.latent.weight.dtype).transpose(1, 2))
        if self.spectrum is not None and self.stft is not None:
            frames = frames + self.stft(self.spectrum(signal.wav, signal.valid.shape[1]).transpose(1, 2))
        if self.features is not None and signal.features is not None:
            frames = frames + self.features(signal.features.to(self.features.weight.dtype))
        return frames * signal.valid[..., None].to(frames.dtype)
