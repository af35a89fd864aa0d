"""Build a discriminative extractor, or load a trained one, without ESPnet where only extraction is asked for."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from espnet_tse_gen.discriminative.registry import (
    DECODERS,
    ENCODERS,
    EXTRACTORS,
    WAVEFORM_EXTRACTORS,
    is_discriminative,
)
from espnet_tse_gen.utils.checkpoints import load_checkpoint
from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.files import read_yaml
from espnet_tse_gen.utils.registry import built, chosen

Model = TypeVar("Model", bound=nn.Module)


class ExtractionNetwork(nn.Module):
    """Encoder, extractor and decoder, under the names that they have in a training's checkpoint, without losses."""

    encoder: Any
    decoder: Any

    def __init__(
        self,
        encoder: nn.Module | None,  # None where the extractor takes waveforms
        extractor: nn.Module,
        decoder: nn.Module | None,  # None likewise
        sample_rate: int,  # Hz of the recordings it was trained on
        share_encoder: bool = True,  # whether the encoder also encodes the enrolment
    ) -> None:
        super().__init__()
        self.encoder, self.extractor, self.decoder = encoder, extractor, decoder
        self.sample_rate, self.share_encoder = sample_rate, share_encoder


def build_parts(config: Mapping[str, Any]) -> dict[str, Any]:
    """Build encoder, extractor and decoder of a training configuration; of the others, an extractor of waveforms has None.

    Raises:
        UserError: For an unknown name or key, or a value that cannot be used.
    """

    def part(kind: str, registry: Mapping[str, str], default: str, **given: Any) -> Any:
        name = config.get(kind, default)
        cls = chosen(kind, name, registry)
        # ESPnet's constructors raise whatever a wrong value leads to.
        return built(f"{kind} '{name}' ({kind}_conf)", cls, config.get(f"{kind}_conf") or {}, Exception, **given)

    if config.get("extractor") in WAVEFORM_EXTRACTORS:
        extractor = part("extractor", WAVEFORM_EXTRACTORS, "", sample_rate=rate_of(config))
        return {"encoder": None, "extractor": extractor, "decoder": None}
    encoder = part("encoder", ENCODERS, "stft")
    extractor = part("extractor", EXTRACTORS | WAVEFORM_EXTRACTORS, "td_speakerbeam", input_dim=encoder.output_dim)
    return {"encoder": encoder, "extractor": extractor, "decoder": part("decoder", DECODERS, "stft")}


def build_network(config: Mapping[str, Any]) -> ExtractionNetwork:
    """Build an untrained model that only extracts from a training configuration."""
    share_encoder = bool((config.get("model_conf") or {}).get("share_encoder", True))
    return ExtractionNetwork(**build_parts(config), sample_rate=rate_of(config), share_encoder=share_encoder)


def rate_of(config: Mapping[str, Any]) -> int:
    """Return the sampling rate of a configuration, Hz; 8000 where it names none."""
    return int(config.get("sample_rate") or 8000)


def load_model(config_file: str | Path, model_file: str | Path | None, device: str = "cpu") -> ExtractionNetwork:
    """Load a trained model for extraction from a training's config.yaml and a checkpoint; None leaves it untrained.

    Raises:
        UserError: If a file is missing, damaged or of another configuration.
    """
    return load_built(build_network, Path(config_file), model_file, device)


def load_built(
    build: Callable[[Mapping[str, Any]], Model], config_path: Path, model_file: str | Path | None, device: str
) -> Model:
    """Load a trained model as :func:`load_model` does, by ``build``."""
    config = read_yaml(config_path)
    if not is_discriminative(config):
        valid = ", ".join(EXTRACTORS | WAVEFORM_EXTRACTORS)
        raise UserError(
            f"{config_path}: is not the configuration of a discriminative extractor ({valid}); give the exp directory of one"
        )
    try:
        model = build(config)
    except UserError as error:
        raise UserError(f"{config_path}: {error}") from None
    if model_file is not None:
        load_checkpoint(model, Path(model_file), config_path)
    return model.float().to(device).eval()
