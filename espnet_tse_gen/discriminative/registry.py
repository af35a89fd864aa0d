"""The parts of discriminative extractors by name: encoder, extractor, decoder; and how to tell their configurations.

ESPnet's own parts stand beside those of this package, each as ``module:Class``, imported when chosen. A new extractor is one
line here. Importing this module imports neither torch nor ESPnet.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ENCODERS: dict[str, str] = {
    "ms_conv": "espnet_tse_gen.discriminative.encoder:MultiScaleConvEncoder",
    "conv": "espnet2.enh.encoder.conv_encoder:ConvEncoder",
    "stft": "espnet2.enh.encoder.stft_encoder:STFTEncoder",
    "same": "espnet2.enh.encoder.null_encoder:NullEncoder",
}
"""Registry: name to ``module:Class`` of an ``espnet2.enh`` encoder."""

EXTRACTORS: dict[str, str] = {
    "td_speakerbeam": "espnet2.enh.extractor.td_speakerbeam_extractor:TDSpeakerBeamExtractor",
    "spex_plus": "espnet_tse_gen.discriminative.spex_plus:SpExPlusExtractor",
    "dual_path": "espnet_tse_gen.dual_path.network:DualPathExtractor",
    "mc_spex": "espnet_tse_gen.discriminative.mc_spex:MCSpExExtractor",
}
"""Registry: name to ``module:Class`` of an ``espnet2.enh`` extractor, or of one of :data:`WAVEFORM_EXTRACTORS`."""

WAVEFORM_EXTRACTORS = ("dual_path",)
"""Those that turn waveforms into waveforms, in plain PyTorch, without encoder and decoder."""

DECODERS: dict[str, str] = {
    "ms_conv": "espnet_tse_gen.discriminative.decoder:MultiScaleConvDecoder",
    "conv": "espnet2.enh.decoder.conv_decoder:ConvDecoder",
    "stft": "espnet2.enh.decoder.stft_decoder:STFTDecoder",
    "same": "espnet2.enh.decoder.null_decoder:NullDecoder",
}
"""Registry: name to ``module:Class`` of an ``espnet2.enh`` decoder."""


def is_discriminative(config: Mapping[str, Any]) -> bool:
    """Return whether a training configuration (a file of conf/train, or a ``config.yaml``) is one of these extractors."""
    return config.get("extractor") in EXTRACTORS
