"""In what numbers a network is computed in training: ``model_conf: precision``."""

import contextlib
from typing import Any

import torch

from espnet_tse_gen.utils.errors import unknown_name

PRECISIONS = ("float32", "bfloat16")


def check_precision(precision: str) -> None:
    """Require a known precision, or it is a :class:`UserError`."""
    if precision not in PRECISIONS:
        raise unknown_name("precision", str(precision), PRECISIONS)


def autocast(precision: str, device: str) -> contextlib.AbstractContextManager[Any]:
    """Return what a network runs under: autocast to bfloat16 on a device ("cpu", "cuda"), with float32 weights, or nothing."""
    # Nothing is entered for float32, so that ESPnet's own --use_amp keeps its say.
    if precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device, dtype=torch.bfloat16)
