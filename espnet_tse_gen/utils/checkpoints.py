"""Checkpoints from wherever they come: every weight and no other, numbers only, and without unpickling code.

What cannot be used is a :class:`UserError`.
"""

import datetime
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from espnet_tse_gen.utils.errors import UserError, reason_of
from espnet_tse_gen.utils.files import is_lfs_pointer

WRAPPERS = ("module.", "_orig_mod.")  # what DistributedDataParallel and torch.compile put before every name


def load_checkpoint(model: torch.nn.Module, path: Path, config_path: Path) -> None:
    """Load a state dictionary (also in half precision) or ESPnet's ``checkpoint.pth``; it must fit ``config_path``, the codec."""
    state = read_checkpoint(path)
    try:
        load_weights(model, state, f"{path}: does not fit the configuration {config_path}")
    except UserError as error:
        raise UserError(str(error) if str(error).startswith(str(path)) else f"{path}: {error}") from None
    check_finite(state, path)


def load_weights(module: torch.nn.Module, state: Mapping[str, torch.Tensor], fault: str) -> None:
    """Load a state dictionary into ``module``; one that does not fit is an error of ``fault`` and the reason."""
    try:
        module.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise UserError(f"{fault} ({reason_of(error)})") from None


def check_finite(state: Mapping[str, torch.Tensor], path: str | Path, prefix: str = "") -> None:
    """Require that the weights read from ``path`` are numbers; ``prefix`` stands before the name of one that is not."""
    for name, value in state.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise UserError(f"{path}: weight '{prefix}{name}' holds NaN or infinite values; take another checkpoint")


def state_digest(described: Any, state: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 (hex) of what JSON can hold and of weights, bit for bit."""
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    for key, value in sorted(state.items()):
        array = value.detach().cpu().contiguous()
        digest.update(f"{key} {array.dtype} {tuple(array.shape)}".encode())
        digest.update(array.numpy().tobytes())
    return digest.hexdigest()


def read_checkpoint(path: str | Path) -> dict[str, torch.Tensor]:
    """Return the weights in a checkpoint, on the CPU, by their names in the model alone."""
    state = read_tensors(path)
    if isinstance(state, dict) and "model" in state and "optimizers" in state:
        state = state["model"]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        tables = state.items() if isinstance(state, dict) else ()
        inside = [f"'{key}'" for key, value in tables if isinstance(value, dict)]
        further = f"; it has {', '.join(inside[:3])}: save what is in there by itself" if inside else ""
        raise UserError(f"{path}: is not a checkpoint of weights; name a model's .pth or .safetensors file{further}")
    for prefix in WRAPPERS:
        if state and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def read_tensors(path: str | Path) -> Any:
    """Return what ``torch.save`` put into a file, on the CPU, as long as it is tensors, numbers and names; or safetensors."""
    if is_lfs_pointer(path):
        raise UserError(f"{path}: is a pointer of Git LFS in the place of the checkpoint; run 'git lfs pull'")
    scalar = np.float64(0.0).__reduce__()[0]
    # What the trainer's reporter keeps beside the weights: figures and times.
    harmless = [scalar, np.dtype, *{type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8")}, datetime.timedelta]
    try:
        # The format of packed models, which cannot hold code.
        if Path(path).suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        with torch.serialization.safe_globals(harmless):
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such checkpoint; train first or name another") from None
    except Exception as error:  # Both raise many types for a damaged file.
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise UserError(f"{path}: is not a readable checkpoint ({reason}); copy it again") from None
