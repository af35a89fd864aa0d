"""Any extractor in two halves for inference: an embedding of the enrolment, which can be kept, and extraction with it.

The extractors of this package are made of these halves. ESPnet's TD-SpeakerBeam computes both in one call; here its own
sub-modules are called one after the other, with the same result. Its norms, written there as one operation per term, are
replaced in the loaded model by PyTorch's fused ones with the same parameters.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from espnet2.enh.extractor.abs_extractor import AbsExtractor
from espnet2.enh.extractor.td_speakerbeam_extractor import TDSpeakerBeamExtractor
from espnet2.enh.layers.complex_utils import is_complex
from espnet2.enh.layers.tcn import EPS, ChannelwiseLayerNorm, GlobalLayerNorm
from torch import Tensor, nn

from espnet_tse_gen.discriminative.abs_extractor import AbsEmbeddingExtractor
from espnet_tse_gen.utils.errors import UserError


class Halves(Protocol):
    """What extraction needs of an extractor."""

    padding_exact: bool
    """Whether a padded batch gives what its items give one by one."""

    def embed(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Return embeddings ``[B, D]`` of encoded enrolments ``[B, Te, F]`` with ``lengths [B]`` valid frames."""

    def extract(self, features: Tensor, lengths: Tensor, embedding: Tensor) -> Tensor:
        """Return the target's features, as the decoder's ``forward`` takes them, of encoded mixtures ``[B, T, F]``."""


def halves_of(extractor: AbsExtractor) -> Halves:
    """Return the halves of an extractor in evaluation mode; TD-SpeakerBeam's norms are replaced by equal, faster ones.

    Raises:
        UserError: If it is another extractor, or one that takes embeddings in the place of recordings.
    """
    if isinstance(extractor, AbsEmbeddingExtractor):
        return OwnHalves(extractor)
    if isinstance(extractor, TDSpeakerBeamExtractor):
        if extractor.use_spk_emb:
            raise UserError(
                "extractor 'td_speakerbeam' with use_spk_emb takes speaker embeddings, and extraction is given recordings; "
                "use a model trained with use_spk_emb: false"
            )
        return TDSpeakerBeamHalves(extractor)
    raise UserError(f"extractor '{type(extractor).__name__}': cannot be split into embedding and extraction")


class OwnHalves:
    """The halves of SpEx+ and MC-SpEx; only the short scale's features are computed."""

    padding_exact = True

    def __init__(self, extractor: AbsEmbeddingExtractor) -> None:
        self.extractor = extractor

    def embed(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Return embeddings ``[B, D]``; see :class:`Halves`."""
        return self.extractor.embed(features, lengths)

    def extract(self, features: Tensor, lengths: Tensor, embedding: Tensor) -> Tensor:
        """Return the target's features ``[B, T, N]`` of the short scale; see :class:`Halves`."""
        return self.extractor.extract(features, lengths, embedding, num_scales=1)


class TDSpeakerBeamHalves:
    """The halves of ESPnet's TD-SpeakerBeam (Delcroix et al. 2020), whose norms see padding: for batches of one length."""

    padding_exact = False

    def __init__(self, extractor: TDSpeakerBeamExtractor) -> None:
        self.extractor = extractor
        fuse_norms(extractor)

    def embed(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Return embeddings ``[B, D]`` of enrolments of one length; see :class:`Halves`."""
        amplitude = abs(features) if is_complex(features) else features
        return self.extractor.auxiliary_net(amplitude.transpose(1, 2)).squeeze(1).mean(-1)

    def extract(self, features: Tensor, lengths: Tensor, embedding: Tensor) -> Tensor:
        """Return the target's features ``[B, T, F]`` of mixtures of one length; see :class:`Halves`."""
        amplitude = abs(features) if is_complex(features) else features
        return features * self.extractor.tcn(amplitude.transpose(1, 2), embedding).transpose(1, 2)


class FusedNorm(nn.Module):
    """ESPnet's gLN (over channels and frames) or cLN (over channels) of ``[B, C, T]`` by PyTorch's fused norms.

    Args:
        norm: ESPnet's, for tensors ``[B, C, T]``; its parameters are shared, under the same names.
    """

    def __init__(self, norm: GlobalLayerNorm | ChannelwiseLayerNorm) -> None:
        super().__init__()
        self.gamma, self.beta = norm.gamma, norm.beta
        self.over_frames = isinstance(norm, GlobalLayerNorm)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x`` ``[B, C, T]``."""
        weight, bias = self.gamma.flatten(), self.beta.flatten()
        if self.over_frames:
            return F.group_norm(x, 1, weight, bias, EPS)
        return F.layer_norm(x.transpose(1, 2), weight.shape, weight, bias, EPS).transpose(1, 2)


def fuse_norms(module: nn.Module) -> None:
    """Replace ESPnet's norms in ``module`` by :class:`FusedNorm`; names and values of parameters stay as they are."""
    for name, child in module.named_children():
        if isinstance(child, GlobalLayerNorm | ChannelwiseLayerNorm) and child.shape == "BDT":
            setattr(module, name, FusedNorm(child))
        else:
            fuse_norms(child)


def shortest_samples(encoder: torch.nn.Module) -> tuple[int, int]:
    """Return an encoder's shortest window and its hop in samples; 1 and 1 for an encoder that has neither."""
    kernels = getattr(encoder, "kernel_sizes", None)
    window = kernels[0] if kernels else getattr(encoder, "kernel_size", getattr(encoder, "n_fft", 1))
    return int(window), int(getattr(encoder, "stride", getattr(encoder, "hop_length", 1)))
