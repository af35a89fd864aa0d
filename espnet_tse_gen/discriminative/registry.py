"""The parts of discriminative extractors, name to ``module:Class``, ESPnet's own among them; how to tell their configurations.

Importing this module imports neither torch nor ESPnet.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from espnet_tse_gen.utils.errors import UserError, unknown_name
from espnet_tse_gen.utils.files import read_yaml

ENCODERS: dict[str, str] = {
    "ms_conv": "espnet_tse_gen.discriminative.coding:MultiScaleConvEncoder",
    "conv": "espnet2.enh.encoder.conv_encoder:ConvEncoder",
    "stft": "espnet2.enh.encoder.stft_encoder:STFTEncoder",
    "same": "espnet2.enh.encoder.null_encoder:NullEncoder",
}

EXTRACTORS: dict[str, str] = {
    "td_speakerbeam": "espnet2.enh.extractor.td_speakerbeam_extractor:TDSpeakerBeamExtractor",
    "spex_plus": "espnet_tse_gen.discriminative.spex_plus:SpExPlusExtractor",
    "mc_spex": "espnet_tse_gen.discriminative.mc_spex:MCSpExExtractor",
}
"""Between an encoder and a decoder."""

WAVEFORM_EXTRACTORS: dict[str, str] = {"dual_path": "espnet_tse_gen.dual_path.network:DualPathExtractor"}
"""In plain PyTorch, without encoder and decoder."""

DECODERS: dict[str, str] = {
    "ms_conv": "espnet_tse_gen.discriminative.coding:MultiScaleConvDecoder",
    "conv": "espnet2.enh.decoder.conv_decoder:ConvDecoder",
    "stft": "espnet2.enh.decoder.stft_decoder:STFTDecoder",
    "same": "espnet2.enh.decoder.null_decoder:NullDecoder",
}


def is_discriminative(config: Mapping[str, Any]) -> bool:
    """Return whether a training configuration (a file of conf/train, or a ``config.yaml``) is one of these extractors."""
    return config.get("extractor") in EXTRACTORS | WAVEFORM_EXTRACTORS


def task_of(path: str | Path, sample_rate: int | None = None) -> str:
    """Return the task of a training configuration: ``tse`` (discriminative) or ``tse_gen`` (masked generative).

    Raises:
        UserError: If the extractor is unknown, or the configuration is for another rate.
    """
    config = read_yaml(path)
    discriminative = is_discriminative(config)
    if not discriminative and config.get("extractor", "masked") != "masked":
        valid = (*EXTRACTORS, *WAVEFORM_EXTRACTORS, "masked")
        raise UserError(f"{path}: {unknown_name('extractor', str(config['extractor']), valid)}")
    rate = config.get("sample_rate")
    if discriminative and rate and sample_rate and rate != sample_rate:
        raise UserError(
            f"{path}: is for recordings at {rate} Hz (sample_rate), but these have {sample_rate} Hz; take the"
            " configuration for that rate, or correct --fs"
        )
    return "tse" if discriminative else "tse_gen"
