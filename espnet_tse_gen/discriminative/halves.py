"""Any extractor in two halves for inference: an embedding of the enrolment, which can be kept, and extraction with it.

The extractors of this package are made of these halves; for ESPnet's TD-SpeakerBeam see ``speakerbeam.py``.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from espnet_tse_gen.discriminative.abs_extractor import AbsEmbeddingExtractor


class Halves(Protocol):
    """What extraction needs of an extractor."""

    padding_exact: bool
    """Whether a padded batch gives what its items give one by one."""

    def embed(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Return embeddings ``[B, D]`` of encoded enrolments ``[B, Te, F]`` with ``lengths [B]`` valid frames."""

    def extract(self, features: Tensor, lengths: Tensor, embedding: Tensor) -> Tensor:
        """Return the target's features, as the decoder's ``forward`` takes them, of encoded mixtures ``[B, T, F]``."""


def halves_of(extractor: torch.nn.Module) -> Halves:
    """Return the halves of an extractor in evaluation mode; TD-SpeakerBeam's norms are replaced by equal, faster ones.

    Raises:
        UserError: If it is another extractor, or one that takes embeddings in the place of recordings.
    """
    if isinstance(extractor, AbsEmbeddingExtractor):
        return OwnHalves(extractor)
    # What is not this package's own is ESPnet's, which only then has to be installed.
    from espnet_tse_gen.discriminative.speakerbeam import speakerbeam_halves

    return speakerbeam_halves(extractor)


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


def shortest_samples(encoder: torch.nn.Module) -> tuple[int, int]:
    """Return an encoder's shortest window and its hop in samples; 1 and 1 for an encoder that has neither."""
    kernels = getattr(encoder, "kernel_sizes", None)
    window = kernels[0] if kernels else getattr(encoder, "kernel_size", getattr(encoder, "n_fft", 1))
    return int(window), int(getattr(encoder, "stride", getattr(encoder, "hop_length", 1)))
