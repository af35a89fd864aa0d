"""Build a discriminative extractor, or load a trained one, without ESPnet's task machinery, which takes seconds to import.

model = load_model("exp/spex_plus/config.yaml", "exp/spex_plus/valid.loss.best.pth")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from espnet2.enh.loss.wrappers.abs_wrapper import AbsLossWrapper

from espnet_tse_gen.discriminative.model import ESPnetTSEModel
from espnet_tse_gen.discriminative.registry import (
    DECODERS,
    ENCODERS,
    EXTRACTORS,
    WAVEFORM_EXTRACTORS,
    is_discriminative,
    part_class,
)
from espnet_tse_gen.discriminative.waveform_model import ESPnetWaveformModel
from espnet_tse_gen.utils.checkpoints import load_checkpoint
from espnet_tse_gen.utils.errors import UserError, check_options
from espnet_tse_gen.utils.fileio import read_yaml


def build_model(
    config: Mapping[str, Any], loss_wrappers: Sequence[AbsLossWrapper] = ()
) -> ESPnetTSEModel | ESPnetWaveformModel:
    """Build an untrained model.

    Args:
        config: ``encoder``, ``extractor``, ``decoder``, each with its ``_conf``, ``model_conf`` and ``sample_rate`` of a training
            configuration.
        loss_wrappers: The losses; none for a model that only extracts.

    Raises:
        UserError: For an unknown name or key, or a value that cannot be used.
    """
    if config.get("extractor") in WAVEFORM_EXTRACTORS:
        return _build_waveform_model(config)
    parts: dict[str, Any] = {}
    for kind, registry in (("encoder", ENCODERS), ("extractor", EXTRACTORS), ("decoder", DECODERS)):
        chosen = part_class(kind, config.get(kind, "td_speakerbeam" if kind == "extractor" else "stft"), registry)
        conf = dict(config.get(f"{kind}_conf") or {})
        given = {"input_dim": parts["encoder"].output_dim} if kind == "extractor" else {}
        check_options(f"key of {kind}_conf", conf, chosen, tuple(given))
        try:
            parts[kind] = chosen(**given, **conf)
        except UserError:
            raise
        except Exception as error:  # ESPnet's constructors raise whatever a wrong value leads to
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UserError(
                f"{kind}_conf: {kind} '{config.get(kind)}' cannot be built from it ({reason[:300]})"
            ) from error
    model_conf = config.get("model_conf") or {}
    check_options("key of model_conf", model_conf, ESPnetTSEModel, (*parts, "loss_wrappers"))
    model = ESPnetTSEModel(**parts, loss_wrappers=list(loss_wrappers), **model_conf)
    model.sample_rate = int(config.get("sample_rate") or 8000)
    return model


def _build_waveform_model(config: Mapping[str, Any]) -> ESPnetWaveformModel:
    chosen = part_class("extractor", str(config["extractor"]), EXTRACTORS)
    conf, model_conf = dict(config.get("extractor_conf") or {}), config.get("model_conf") or {}
    check_options("key of extractor_conf", conf, chosen, ("sample_rate",))
    check_options("key of model_conf", model_conf, ESPnetWaveformModel, ("extractor",))
    try:
        extractor = chosen(sample_rate=int(config.get("sample_rate") or 16000), **conf)
    except (TypeError, ValueError, RuntimeError) as error:  # whatever a wrong value leads to
        raise UserError(f"extractor_conf: cannot be used ({' '.join(str(error).split())[:300]})") from error
    return ESPnetWaveformModel(extractor, **model_conf)


def load_model(
    config_file: str | Path, model_file: str | Path | None, device: str = "cpu"
) -> ESPnetTSEModel | ESPnetWaveformModel:
    """Load a trained model for extraction: every weight and no other, without unpickling code.

    Args:
        config_file: The config.yaml of the training.
        model_file: The checkpoint, also in half precision; None leaves the weights as initialised.
        device: Torch device.

    Raises:
        UserError: If a file is missing, damaged or of another configuration.
    """
    config_path = Path(config_file)
    config = read_yaml(config_path)
    if not is_discriminative(config):
        raise UserError(
            f"{config_path}: is not the configuration of a discriminative extractor ({', '.join(EXTRACTORS)});"
            " give the exp directory of one"
        )
    try:
        model = build_model(config)
    except UserError as error:
        raise UserError(f"{config_path}: {error}") from None
    if model_file is not None:
        load_checkpoint(model, Path(model_file), config_path)
    return model.float().to(device).eval()
