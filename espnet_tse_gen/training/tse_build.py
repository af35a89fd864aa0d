"""Build a discriminative extractor as ESPnet trains it, with losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from espnet2.enh.loss.wrappers.abs_wrapper import AbsLossWrapper

from espnet_tse_gen.discriminative.build import build_parts, load_built, rate_of
from espnet_tse_gen.discriminative.registry import WAVEFORM_EXTRACTORS
from espnet_tse_gen.training.tse_model import ESPnetTSEModel
from espnet_tse_gen.training.waveform_model import ESPnetWaveformModel
from espnet_tse_gen.utils.errors import check_options


def build_model(
    config: Mapping[str, Any], loss_wrappers: Sequence[AbsLossWrapper] = ()
) -> ESPnetTSEModel | ESPnetWaveformModel:
    """Build an untrained model to train with ESPnet.

    Args:
        config: ``encoder``, ``extractor``, ``decoder``, each with its ``_conf``, ``model_conf`` and ``sample_rate`` of a training
            configuration.
        loss_wrappers: The losses; none for a model that only extracts, or has a loss of its own.

    Raises:
        UserError: For an unknown name or key, or a value that cannot be used.
    """
    parts = build_parts(config)
    model_conf = config.get("model_conf") or {}
    if config.get("extractor") in WAVEFORM_EXTRACTORS:
        check_options("key of model_conf", model_conf, ESPnetWaveformModel, ("extractor",))
        return ESPnetWaveformModel(parts["extractor"], **model_conf)
    check_options("key of model_conf", model_conf, ESPnetTSEModel, (*parts, "loss_wrappers"))
    model = ESPnetTSEModel(**parts, loss_wrappers=list(loss_wrappers), **model_conf)
    model.sample_rate = rate_of(config)
    return model


def load_training_model(
    config_file: str | Path, model_file: str | Path | None, device: str = "cpu"
) -> ESPnetTSEModel | ESPnetWaveformModel:
    """Load a trained model as ESPnet's, without losses; as :func:`load_model` in all else."""
    return load_built(build_model, Path(config_file), model_file, device)
