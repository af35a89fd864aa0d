"""Any extractor in two halves for inference: an enrolment, which is computed once and kept, and extraction with it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

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

    enroll: Callable[[Sequence[Sequence[Tensor]]], list[Any]]  # of targets, each with one or more enrolments `[Le]`
    extract: Callable[[Tensor, Tensor, Sequence[Any]], Voices]  # mixtures `[B, L]`, lengths `[B]`, enrolments
    hop: int  # samples between frames
    shortest: tuple[int, int]  # least samples of a mixture and of an enrolment
    padding_exact: bool  # whether a padded batch gives what its items give one by one
    keeps_level: bool  # whether the output is as loud as the target in the mixture; otherwise its level means nothing


def halves_of(model: ExtractionNetwork) -> Halves:
    """Return the halves of a model in evaluation mode; TD-SpeakerBeam's norms are replaced by equal, faster ones.

    Raises:
        UserError: If it is another extractor, or one that takes embeddings in the place of recordings.
    """
    whole = model.extractor
    if isinstance(whole, AbsWaveformExtractor):
        return Halves(
            whole.enroll,
            lambda mixture, _, enrolments: whole.extract_rows(mixture, enrolments),
            whole.hop,
            whole.shortest,
            padding_exact=False,
            keeps_level=True,
        )
    split = split_model(model)

    def embedding(recordings: Sequence[Tensor]) -> Tensor:
        # `[D]`: the mean of the recordings' embeddings, weighed by their lengths.
        total = sum(map(len, recordings))
        rows = [split.embed(*model.encoder(one.unsqueeze(0), torch.tensor([len(one)])))[0] for one in recordings]
        return torch.stack([row * (len(one) / total) for row, one in zip(rows, recordings, strict=True)]).sum(dim=0)

    def enroll(targets: Sequence[Sequence[Tensor]]) -> list[Tensor]:
        return [embedding(recordings) for recordings in targets]

    def extract(mixture: Tensor, lengths: Tensor, enrolments: Sequence[Tensor]) -> Voices:
        features, frames = model.encoder(mixture, lengths)
        masked = split.extract(features, frames, torch.stack(list(enrolments)))
        return Voices(model.decoder(masked, lengths)[0])

    # ESPnet's encoders call them otherwise, or have neither.
    encoder = model.encoder
    kernels = getattr(encoder, "kernel_sizes", [getattr(encoder, "kernel_size", getattr(encoder, "n_fft", 1))])
    window, hop = int(kernels[0]), int(getattr(encoder, "stride", getattr(encoder, "hop_length", 1)))
    shortest = window, window + ((MIN_FRAMES if split.padding_exact else 1) - 1) * hop
    return Halves(enroll, extract, hop, shortest, split.padding_exact, keeps_level=False)


def split_model(model: ExtractionNetwork) -> "AbsEmbeddingExtractor | TDSpeakerBeamHalves":
    """Return a model's extractor of features as ``embed`` and ``extract``; errors as of :func:`halves_of`."""
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
