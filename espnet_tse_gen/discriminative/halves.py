"""Any extractor in two halves for inference: an enrolment, which is computed once and kept, and extraction with it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from espnet_tse_gen.discriminative.abs_extractor import AbsEmbeddingExtractor
from espnet_tse_gen.discriminative.abs_waveform_extractor import AbsWaveformExtractor, Voices
from espnet_tse_gen.discriminative.blocks import MIN_FRAMES
from espnet_tse_gen.discriminative.build import ExtractionNetwork
from espnet_tse_gen.utils.errors import UserError

if TYPE_CHECKING:
    from espnet_tse_gen.discriminative.speakerbeam import TDSpeakerBeamHalves


@dataclass
class Halves:
    """What extraction needs of a model."""

    enroll: Callable[[Sequence[Sequence[Tensor]]], list[Any]]
    """What :attr:`extract` takes of targets, each with one or more enrolments ``[Le]``."""
    extract: Callable[[Tensor, Tensor, Sequence[Any]], Voices]
    """The voices of mixtures ``[B, L]`` of lengths ``[B]``, each with its own enrolment."""
    hop: int
    """Samples between frames."""
    shortest: tuple[int, int]
    """Least samples of a mixture and of an enrolment."""
    padding_exact: bool
    """Whether a padded batch gives what its items give one by one."""
    keeps_level: bool
    """Whether the output is as loud as the target in the mixture; otherwise its level means nothing."""


def halves_of(model: ExtractionNetwork) -> Halves:
    """Return the halves of a model in evaluation mode; TD-SpeakerBeam's norms are replaced by equal, faster ones.

    Raises:
        UserError: If it is another extractor, or one that takes embeddings in the place of recordings.
    """
    whole = model.extractor
    if isinstance(whole, AbsWaveformExtractor):

        def extract_rows(mixture: Tensor, lengths: Tensor, enrolments: Sequence[Any]) -> Voices:
            return whole.extract_rows(mixture, enrolments)

        return Halves(whole.enroll, extract_rows, whole.hop, whole.shortest, padding_exact=False, keeps_level=True)
    split = split_model(model)

    def embedding(recordings: Sequence[Tensor]) -> Tensor:
        # The embedding `[D]` of the only recording, or the mean of several weighed by their lengths.
        rows, total = [], sum(len(recording) for recording in recordings)
        for recording in recordings:
            row = split.embed(*model.encoder(recording.unsqueeze(0), torch.tensor([len(recording)])))[0]
            rows.append(row if len(recordings) == 1 else row * (len(recording) / total))
        return torch.stack(rows).sum(dim=0)

    def enroll(targets: Sequence[Sequence[Tensor]]) -> list[Tensor]:
        return [embedding(recordings) for recordings in targets]

    def extract(mixture: Tensor, lengths: Tensor, enrolments: Sequence[Tensor]) -> Voices:
        features, frames = model.encoder(mixture, lengths)
        masked = split.extract(features, frames, torch.stack(list(enrolments)))
        return Voices(model.decoder(masked, lengths)[0])

    window, hop = shortest_samples(model.encoder)
    frames = MIN_FRAMES if split.padding_exact else 1
    shortest = window, window + (frames - 1) * hop
    return Halves(enroll, extract, hop, shortest, split.padding_exact, keeps_level=False)


def split_model(model: ExtractionNetwork) -> "AbsEmbeddingExtractor | TDSpeakerBeamHalves":
    """Return a model's extractor of features as embedding of an enrolment and extraction with it.

    Raises:
        UserError: If it is none that can be split, or the model takes something else than an enrolment's recording.
    """
    if not model.share_encoder:
        raise UserError(
            "model_conf 'share_encoder': extraction encodes the enrolment with the mixture's encoder; use a model "
            "trained with share_encoder: true"
        )
    if isinstance(model.extractor, AbsEmbeddingExtractor):
        return model.extractor
    # What is not this package's own is ESPnet's, which only then has to be installed.
    from espnet_tse_gen.discriminative.speakerbeam import TDSpeakerBeamHalves

    return TDSpeakerBeamHalves(model.extractor)


def shortest_samples(encoder: nn.Module) -> tuple[int, int]:
    """Return an encoder's shortest window and its hop in samples; 1 and 1 for an encoder that has neither."""
    kernels = getattr(encoder, "kernel_sizes", None)
    window = kernels[0] if kernels else getattr(encoder, "kernel_size", getattr(encoder, "n_fft", 1))
    return int(window), int(getattr(encoder, "stride", getattr(encoder, "hop_length", 1)))
