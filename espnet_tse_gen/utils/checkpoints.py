"""Checkpoints from wherever they come: every weight and no other, numbers only, and without unpickling code."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from espnet_tse_gen.utils.errors import UserError


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
