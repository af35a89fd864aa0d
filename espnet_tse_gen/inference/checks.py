"""What a user may hand to an extractor: arrays and rates, checked before anything is computed with them."""

from typing import Any

import numpy as np
import torch

from espnet_tse_gen.utils.errors import UserError

INTEGER_SCALES = {"int16": 2.0**15, "int32": 2.0**31}
RATES = (1000, 768000)


def checked_signal(value: Any, rate: int, shortest: float, name: str, least: str) -> np.ndarray:
    """Return floats, or 16- or 32-bit integers, ``[L]``, ``[L, 1]`` or ``[1, L]`` at ``rate`` Hz as float32 ``[L]`` in -1..1.

    Args:
        shortest: Least duration in seconds; ``least`` says what it is.
        name: What errors call it.

    Raises:
        UserError: If it is not one channel of numbers, or is empty, not finite or too short.
    """
    samples = _as_array(value, name)
    if samples.ndim == 2 and 1 in samples.shape:
        samples = samples.reshape(-1)
    if samples.ndim != 1:
        raise UserError(f"{name}: has shape {samples.shape}, expected one channel [samples]; mix it down first")
    if samples.size == 0:
        raise UserError(f"{name}: has no samples; replace or remove it")
    if samples.dtype.name in INTEGER_SCALES:
        samples = samples.astype(np.float32) / np.float32(INTEGER_SCALES[samples.dtype.name])
    if not np.issubdtype(samples.dtype, np.floating):
        raise UserError(f"{name}: is of type {samples.dtype}, expected floats in -1..1, int16 or int32; convert it")
    with np.errstate(over="ignore"):
        samples = np.ascontiguousarray(samples, dtype=np.float32)
    if not np.isfinite(samples).all():
        raise UserError(f"{name}: holds NaN or infinite samples; replace or remove it")
    check_length(len(samples), rate, shortest, name, least)
    return samples


def check_length(samples: int, rate: int, shortest: float, name: str, least: str) -> None:
    """Require that so many samples are ``shortest`` seconds; arguments and error as for :func:`checked_signal`."""
    if samples < shortest * rate:
        raise UserError(
            f"{name}: is {1000 * samples / rate:.3g} ms long, expected at least {least} "
            f"({1000 * shortest:g} ms); give a longer recording"
        )


def _as_array(value: Any, name: str) -> np.ndarray:
    try:
        if isinstance(value, torch.Tensor):
            # NumPy has no bfloat16; nothing is lost to float32, which extraction computes in.
            value = value.detach().cpu()
            value = value.float() if value.is_floating_point() else value
        samples = np.asarray(value)
    except (ValueError, TypeError, RuntimeError, NotImplementedError) as error:
        reason = " ".join(str(error).split())[:150]
        raise UserError(f"{name}: cannot be taken as samples ({reason}); expected one array of numbers") from None
    if samples.dtype == object:
        raise UserError(f"{name}: is of type {type(value).__name__}, expected one array of numbers")
    return samples


def checked_rate(rate: Any, name: str) -> int:
    """Return a sampling rate in Hz.

    Raises:
        UserError: If it is not a whole number within :data:`RATES`.
    """
    try:
        whole = int(rate) == rate and not isinstance(rate, bool) and RATES[0] <= rate <= RATES[1]
    except (TypeError, ValueError, OverflowError, RuntimeError):
        whole = False
    if not whole:
        raise UserError(f"{name}: sampling rate {rate!r} is not a whole number of Hz in {RATES[0]}..{RATES[1]}")
    return int(rate)
