"""Any extractor in two halves for inference: an enrolment, which is computed once and kept, and extraction with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from espnet_tse_gen.discriminative.abs_extractor import AbsEmbeddingExtractor
from espnet_tse_gen.discriminative.abs_waveform_extractor import AbsWaveformExtractor, Voices
from espnet_tse_gen.discriminative.network import ExtractionNetwork
from espnet_tse_gen.discriminative.speaker import MIN_FRAMES
from espnet_tse_gen.utils.errors import UserError


class Halves(Protocol):
    """What extraction needs of a model."""

    padding_exact: bool  # whether a padded batch gives what its items give one by one
    keeps_level: bool  # whether the output is as loud as the target in the mixture; otherwise its level means nothing
    hop: int  # samples between frames
    shortest: tuple[int, int]  # least samples of a mixture and of an enrolment

    def enroll(self, recordings: Sequence[Tensor]) -> Any:
        """Return what :meth:`extract` takes of one target's enrolments ``[Le]``."""

    def extract(self, mixture: Tensor, lengths: Tensor, enrolments: Sequence[Any]) -> Voices:
        """Return the voices of mixtures ``[B, L]`` of ``lengths [B]``."""


class SplitExtractor(Protocol):
    """An extractor of features whose enrolment is one embedding."""

    padding_exact: bool

    def embed(self, features: Tensor, lengths: Tensor, /) -> Tensor:
        """Return embeddings ``[B, D]`` of encoded enrolments ``[B, Te, F]`` with ``lengths [B]`` valid frames."""

    def extract(self, features: Tensor, lengths: Tensor, embedding: Tensor, /) -> Tensor:
        """Return the target's features, as the decoder's ``forward`` takes them, of encoded mixtures ``[B, T, F]``."""


def halves_of(model: ExtractionNetwork) -> Halves:
    """Return the halves of a model in evaluation mode; TD-SpeakerBeam's norms are replaced by equal, faster ones.

    Raises:
        UserError: If it is another extractor, or one that takes embeddings in the place of recordings.
    """
    if isinstance(model.extractor, AbsWaveformExtractor):
        return WaveformHalves(model.extractor)
    return EncoderDecoderHalves(model)


class WaveformHalves:
    """The halves of an extractor of waveforms, on which padding may act."""

    padding_exact = False
    keeps_level = True

    def __init__(self, extractor: AbsWaveformExtractor) -> None:
        self.extractor, self.hop, self.shortest = extractor, extractor.hop, extractor.shortest

    def enroll(self, recordings: Sequence[Tensor]) -> Any:
        """See :class:`Halves`."""
        return self.extractor.enroll(recordings)

    def extract(self, mixture: Tensor, lengths: Tensor, enrolments: Sequence[Any]) -> Voices:
        """See :class:`Halves`."""
        return self.extractor.extract_rows(mixture, enrolments)


class EncoderDecoderHalves:
    """The halves of a model of encoder, extractor and decoder.

    Raises:
        UserError: If the model takes something else than an enrolment's recording.
    """

    keeps_level = False

    def __init__(self, model: ExtractionNetwork) -> None:
        self.model, self.split = model, split_model(model)
        self.padding_exact = self.split.padding_exact
        window, self.hop = shortest_samples(model.encoder)
        frames = MIN_FRAMES if self.padding_exact else 1
        self.shortest = (window, window + (frames - 1) * self.hop)

    def enroll(self, recordings: Sequence[Tensor]) -> Tensor:
        """Return an embedding ``[D]``: of the only recording, or the mean of several weighed by their lengths."""
        rows, total = [], sum(len(recording) for recording in recordings)
        for recording in recordings:
            lengths = torch.tensor([len(recording)])
            row = self.split.embed(*self.model.encoder(recording.unsqueeze(0), lengths))[0]
            rows.append(row if len(recordings) == 1 else row * (len(recording) / total))
        return torch.stack(rows).sum(dim=0)

    def extract(self, mixture: Tensor, lengths: Tensor, enrolments: Sequence[Tensor]) -> Voices:
        """See :class:`Halves`."""
        features, frames = self.model.encoder(mixture, lengths)
        masked = self.split.extract(features, frames, torch.stack(list(enrolments)))
        return Voices(self.model.decoder(masked, lengths)[0])


def split_model(model: ExtractionNetwork) -> SplitExtractor:
    """Return a model's extractor of features as embedding and extraction with it.

    Raises:
        UserError: If it is none that can be split, or the model takes something else than an enrolment's recording.
    """
    if not model.share_encoder:
        raise UserError(
            "model_conf 'share_encoder': extraction encodes the enrolment with the mixture's encoder; use a model "
            "trained with share_encoder: true"
        )
    extractor = model.extractor
    if isinstance(extractor, AbsEmbeddingExtractor):
        return extractor
    # What is not this package's own is ESPnet's, which only then has to be installed.
    from espnet_tse_gen.discriminative.speakerbeam import speakerbeam_halves

    return speakerbeam_halves(extractor)


def shortest_samples(encoder: nn.Module) -> tuple[int, int]:
    """Return an encoder's shortest window and its hop in samples; 1 and 1 for an encoder that has neither."""
    kernels = getattr(encoder, "kernel_sizes", None)
    window = kernels[0] if kernels else getattr(encoder, "kernel_size", getattr(encoder, "n_fft", 1))
    return int(window), int(getattr(encoder, "stride", getattr(encoder, "hop_length", 1)))
