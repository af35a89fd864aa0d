"""Build a discriminative extractor, or load a trained one, without ESPnet where only extraction is asked for.

model = load_model("exp/spex_plus/config.yaml", "exp/spex_plus/valid.loss.best.pth")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from espnet_tse_gen.discriminative.network import ExtractionNetwork
from espnet_tse_gen.discriminative.registry import (
    DECODERS,
    ENCODERS,
    EXTRACTORS,
    WAVEFORM_EXTRACTORS,
    is_discriminative,
)
from espnet_tse_gen.utils.checkpoints import load_checkpoint
from espnet_tse_gen.utils.errors import UserError, check_options
from espnet_tse_gen.utils.files import read_yaml
from espnet_tse_gen.utils.registry import chosen

DEFAULT_RATE = 8000
"""Hz, where a configuration names no rate."""
Model = TypeVar("Model", bound=nn.Module)


def build_parts(config: Mapping[str, Any]) -> dict[str, Any]:
    """Build encoder, extractor and decoder, untrained; an extractor of waveforms has neither of the others.

    Args:
        config: ``encoder``, ``extractor``, ``decoder``, each with its ``_conf``, of a training configuration.

    Raises:
        UserError: For an unknown name or key, or a value that cannot be used.
    """
    if config.get("extractor") in WAVEFORM_EXTRACTORS:
        return {"encoder": None, "extractor": _build_waveform_extractor(config), "decoder": None}
    parts: dict[str, Any] = {}
    for kind, registry in (
        ("encoder", ENCODERS),
        ("extractor", EXTRACTORS | WAVEFORM_EXTRACTORS),
        ("decoder", DECODERS),
    ):
        cls = chosen(kind, config.get(kind, "td_speakerbeam" if kind == "extractor" else "stft"), registry)
        conf = dict(config.get(f"{kind}_conf") or {})
        given = {"input_dim": parts["encoder"].output_dim} if kind == "extractor" else {}
        check_options(f"key of {kind}_conf", conf, cls, tuple(given))
        try:
            parts[kind] = cls(**given, **conf)
        except UserError:
            raise
        except Exception as error:  # ESPnet's constructors raise whatever a wrong value leads to
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UserError(
                f"{kind}_conf: {kind} '{config.get(kind)}' cannot be built from it ({reason[:300]})"
            ) from error
    return parts


def _build_waveform_extractor(config: Mapping[str, Any]) -> nn.Module:
    cls = chosen("extractor", str(config["extractor"]), WAVEFORM_EXTRACTORS)
    conf = dict(config.get("extractor_conf") or {})
    check_options("key of extractor_conf", conf, cls, ("sample_rate",))
    try:
        return cls(sample_rate=rate_of(config), **conf)
    except (TypeError, ValueError, RuntimeError) as error:  # whatever a wrong value leads to
        raise UserError(f"extractor_conf: cannot be used ({' '.join(str(error).split())[:300]})") from error


def build_network(config: Mapping[str, Any]) -> ExtractionNetwork:
    """Build an untrained model that only extracts.

    Args:
        config: ``encoder``, ``extractor``, ``decoder``, each with its ``_conf``, ``model_conf`` and ``sample_rate`` of a training
            configuration.

    Raises:
        UserError: For an unknown name or key, or a value that cannot be used.
    """
    share_encoder = bool((config.get("model_conf") or {}).get("share_encoder", True))
    return ExtractionNetwork(**build_parts(config), sample_rate=rate_of(config), share_encoder=share_encoder)


def rate_of(config: Mapping[str, Any]) -> int:
    """Return the sampling rate of a configuration, Hz."""
    return int(config.get("sample_rate") or DEFAULT_RATE)


def load_model(config_file: str | Path, model_file: str | Path | None, device: str = "cpu") -> ExtractionNetwork:
    """Load a trained model for extraction: every weight and no other, without unpickling code.

    Args:
        config_file: The config.yaml of the training.
        model_file: The checkpoint, also in half precision; None leaves the weights as initialised.

    Raises:
        UserError: If a file is missing, damaged or of another configuration.
    """
    return load_built(build_network, Path(config_file), model_file, device)


def load_built(
    build: Callable[[Mapping[str, Any]], Model], config_path: Path, model_file: str | Path | None, device: str
) -> Model:
    """Load a trained model that ``build`` builds from its configuration; arguments and errors as for :func:`load_model`."""
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
