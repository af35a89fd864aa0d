"""ESPnet's TD-SpeakerBeam (Delcroix et al. 2020) in two halves for inference.

It computes both in one call; here its own sub-modules are called one after the other, with the same result.
"""

import torch.nn.functional as F
from espnet2.enh.extractor.td_speakerbeam_extractor import TDSpeakerBeamExtractor
from espnet2.enh.layers.complex_utils import is_complex
from espnet2.enh.layers.tcn import EPS, ChannelwiseLayerNorm, GlobalLayerNorm
from torch import Tensor, nn

from espnet_tse_gen.utils.errors import UserError


class TDSpeakerBeamHalves:
    """The halves of a TD-SpeakerBeam in evaluation mode, whose norms see padding: for batches of one length.

    Raises:
        UserError: If it is another extractor, or takes embeddings in the place of recordings.
    """

    padding_exact = False

    def __init__(self, extractor: nn.Module) -> None:
        if not isinstance(extractor, TDSpeakerBeamExtractor):
            raise UserError(f"extractor '{type(extractor).__name__}': cannot be split into embedding and extraction")
        if extractor.use_spk_emb:
            raise UserError(
                "extractor 'td_speakerbeam' with use_spk_emb takes speaker embeddings, and extraction is given recordings; "
                "use a model trained with use_spk_emb: false"
            )
        self.extractor = extractor
        fuse_norms(extractor)

    def embed(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Return embeddings ``[B, D]`` of enrolments of one length."""
        amplitude = abs(features) if is_complex(features) else features
        return self.extractor.auxiliary_net(amplitude.transpose(1, 2)).squeeze(1).mean(-1)

    def extract(self, features: Tensor, lengths: Tensor, embedding: Tensor) -> Tensor:
        """Return the target's features ``[B, T, F]`` of mixtures of one length."""
        amplitude = abs(features) if is_complex(features) else features
        return features * self.extractor.tcn(amplitude.transpose(1, 2), embedding).transpose(1, 2)


class FusedNorm(nn.Module):
    """ESPnet's gLN (over channels and frames) or cLN (over channels) of ``[B, C, T]``, with its parameters, but faster."""

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
    """Replace ESPnet's norms in ``module`` by :class:`FusedNorm`."""
    for name, child in module.named_children():
        if isinstance(child, GlobalLayerNorm | ChannelwiseLayerNorm) and child.shape == "BDT":
            setattr(module, name, FusedNorm(child))
        else:
            fuse_norms(child)
