"""Tiny networks of encoder, extractor and decoder, for the tests of both architectures."""

from typing import Any

import torch
from torch import Tensor, nn

from espnet_tse_gen.discriminative.abs_extractor import AbsEmbeddingExtractor
from espnet_tse_gen.discriminative.blocks import ChannelNorm
from espnet_tse_gen.discriminative.coding import MultiScaleConvDecoder, MultiScaleConvEncoder
from espnet_tse_gen.discriminative.mc_spex import MCSpExExtractor
from espnet_tse_gen.discriminative.spex_plus import SpExPlusExtractor

SPEAKERS = 5
SMALL: dict[str, Any] = {
    "bottleneck_channel": 16,
    "hidden_channel": 24,
    "stacks": 2,
    "blocks": 3,
    "embedding_dim": 12,
    "speaker_channel": 14,
    "speaker_wide_channel": 20,
}
EXTRACTORS: dict[str, type[AbsEmbeddingExtractor]] = {"spex_plus": SpExPlusExtractor, "mc_spex": MCSpExExtractor}


class Network(nn.Module):
    """Encoder, extractor and decoder in one module."""

    def __init__(self, name: str, channel: int = 10, bias: bool = True, **options: Any) -> None:
        super().__init__()
        self.encoder = MultiScaleConvEncoder(channel, bias=bias)
        self.extractor = EXTRACTORS[name](3 * channel, SPEAKERS, **{**SMALL, **options})
        self.decoder = MultiScaleConvDecoder(channel, bias=bias)

    def encode(self, wav: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return features and frames of ``wav`` ``[B, L]``, all of it valid unless ``lengths`` says otherwise."""
        return self.encoder(wav, torch.full((len(wav),), wav.shape[1]) if lengths is None else lengths)

    def embed(self, wav: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the speaker embeddings of enrolments."""
        return self.extractor.embed(*self.encode(wav, lengths))

    def forward(
        self, mixture: Tensor, enroll: Tensor, lengths: Tensor | None = None, enroll_lengths: Tensor | None = None
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Return the waveforms of all scales and what the extractor tells beside its features."""
        lengths = torch.full((len(mixture),), mixture.shape[1]) if lengths is None else lengths
        features, frames, others = self.extractor(*self.encode(mixture, lengths), *self.encode(enroll, enroll_lengths))
        assert features.shape[1] >= int(frames.max())
        return self.decoder.decode_scales(features, lengths), others

    def set_channel_norm_eps(self, eps: float) -> None:
        """Set the constant of all norms over channels."""
        for module in self.modules():
            if isinstance(module, ChannelNorm):
                module.eps = eps


def relative(a: Tensor, b: Tensor) -> float:
    """Return the relative L2 difference of ``a`` from ``b``."""
    return ((a - b).norm() / b.norm()).item()


def si_sdr(estimate: Tensor, target: Tensor) -> Tensor:
    """Return the scale-invariant SDR in dB of each row; means stay, so that a decoder's offset has a gradient."""
    scale = (estimate * target).sum(-1, keepdim=True) / target.square().sum(-1, keepdim=True)
    target = scale * target
    return 10 * torch.log10(target.square().sum(-1) / (estimate - target).square().sum(-1))


def permute_blocks(features: Tensor, frames: int = 27) -> Tensor:
    """Return features ``[B, T, C]`` with whole blocks of ``frames`` frames reversed in order."""
    batch, _, channels = features.shape
    return features.reshape(batch, -1, frames, channels).flip(1).reshape(features.shape)


def without_gradient(module: nn.Module) -> set[str]:
    """Return the names of the parameters whose gradient is missing or zero; all others must be finite."""
    without = set()
    for name, parameter in module.named_parameters():
        if parameter.grad is None or not parameter.grad.any():
            without.add(name)
        else:
            assert parameter.grad.isfinite().all(), name
    return without
