"""A discriminative model as extraction needs it: encoder, extractor and decoder, without losses and without ESPnet."""

from __future__ import annotations

from typing import Any

from torch import nn


class ExtractionNetwork(nn.Module):
    """Encoder, extractor and decoder, under the names that they have in a training's checkpoint."""

    encoder: Any
    decoder: Any

    def __init__(
        self,
        encoder: nn.Module | None,  # waveform to features; None where the extractor takes waveforms
        extractor: nn.Module,  # mixture and enrolment features to target features
        decoder: nn.Module | None,  # features to waveforms; None likewise
        sample_rate: int,  # Hz of the recordings it was trained on
        share_encoder: bool = True,  # whether the encoder also encodes the enrolment
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.extractor = extractor
        self.decoder = decoder
        self.sample_rate = sample_rate
        self.share_encoder = share_encoder
