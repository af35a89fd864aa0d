"""Build a trained extractor from its exp directory's files, without ESPnet's task machinery.

ESPnet's tasks take many seconds to import; this door serves the command-line tool and the Python class without them.

    model = load_model("exp/my_model/config.yaml", "exp/my_model/valid.loss.ave.pth")
"""

from __future__ import annotations

import datetime
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from espnet_tse_gen.codec.abs_codec import AbsCodec
from espnet_tse_gen.codec.registry import build_codec, check_options, load_codec
from espnet_tse_gen.errors import UserError, unknown_name
from espnet_tse_gen.fileio import read_yaml
from espnet_tse_gen.masked.abs_extractor import AbsMaskedExtractor
from espnet_tse_gen.masked.espnet_model import ESPnetMaskedTSEModel

EXTRACTORS: dict[str, str] = {"masked": "espnet_tse_gen.masked.extractor:MaskedExtractor"}
"""Registry: name to ``module:Class``."""


def extractor_class(name: str) -> type[AbsMaskedExtractor]:
    """Return the class of a registered extractor.

    Raises:
        UserError: If the name is unknown.
    """
    if name not in EXTRACTORS:
        raise unknown_name("extractor", str(name), EXTRACTORS)
    module, _, attribute = EXTRACTORS[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def build_model(codec: AbsCodec, config: Mapping[str, Any]) -> ESPnetMaskedTSEModel:
    """Build an untrained model around ``codec``.

    Args:
        codec: Loaded or fitted.
        config: ``extractor``, ``extractor_conf`` and ``model_conf`` of a training configuration.

    Raises:
        UserError: For an unknown name or key.
    """
    chosen = extractor_class(config.get("extractor", "masked"))
    extractor_conf, model_conf = config.get("extractor_conf") or {}, config.get("model_conf") or {}
    check_options("key of extractor_conf", extractor_conf, chosen, ("codec",))
    check_options("key of model_conf", model_conf, ESPnetMaskedTSEModel, ("codec", "extractor"))
    return ESPnetMaskedTSEModel(codec, chosen(codec, **extractor_conf), **model_conf)


def load_model(config_file: str | Path, model_file: str | Path | None, device: str = "cpu") -> ESPnetMaskedTSEModel:
    """Load a trained model for evaluation.

    Args:
        config_file: The config.yaml of the training. A directory ``codec`` beside it is the model's codec.
        model_file: The checkpoint; None leaves the weights as initialised.
        device: Torch device.

    Raises:
        UserError: If a file is missing, damaged, of another configuration, or of another codec.
    """
    config_path = Path(config_file)
    config = read_yaml(config_path)
    if "model_conf" not in config or not ("codec" in config or "codec_dir" in config):
        raise UserError(f"{config_path}: is not the configuration of a tse_gen training; give its exp directory")
    beside = config_path.parent / "codec"
    if beside.is_dir():
        codec = load_codec(beside)
    elif config.get("codec_dir"):
        codec = load_codec(config["codec_dir"])
    else:
        codec = build_codec(config["codec"], config.get("codec_conf") or {})
    try:
        model = build_model(codec, config)
    except UserError as error:
        raise UserError(f"{config_path}: {error}") from None
    if model_file is not None:
        load_checkpoint(model, Path(model_file), config_path)
    return model.to(device).eval()


def load_checkpoint(model: torch.nn.Module, path: Path, config_path: Path) -> None:
    """Load a checkpoint into ``model``: every weight and no other, without unpickling code.

    Takes a state dictionary (also in half precision) or ESPnet's ``checkpoint.pth``.

    Raises:
        UserError: If the file is missing, damaged, holds NaN, or does not fit ``config_path`` or the codec.
    """
    state = read_checkpoint(path)
    try:
        model.load_state_dict(state, strict=True)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{path}: does not fit the configuration {config_path} ({reason})") from None
    check_finite(state, path)


def check_finite(state: Mapping[str, torch.Tensor], path: Path) -> None:
    """Require that the weights read from ``path`` are numbers.

    Raises:
        UserError: Naming the first that is not.
    """
    for name, value in state.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise UserError(f"{path}: weight '{name}' holds NaN or infinite values; take another checkpoint")


def read_checkpoint(path: Path) -> dict[str, torch.Tensor]:
    """Return the weights in a checkpoint, on the CPU.

    Raises:
        UserError: If the file is missing or is not a checkpoint.
    """
    scalar = np.float64(0.0).__reduce__()[0]
    # What the trainer's reporter keeps beside the weights: figures and times.
    harmless = [scalar, np.dtype, *{type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8")}, datetime.timedelta]
    try:
        with torch.serialization.safe_globals(harmless):
            state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such checkpoint; train first or name another") from None
    except Exception as error:  # torch.load raises many types for a damaged file
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise UserError(f"{path}: is not a readable checkpoint ({reason}); copy it again") from None
    if isinstance(state, dict) and "model" in state and "optimizers" in state:
        state = state["model"]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise UserError(f"{path}: is not a checkpoint of weights; name a .pth file of the exp directory")
    return state
