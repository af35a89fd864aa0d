"""Classifier-free guidance: l = l_u + g (l_c - l_u), where g = 1 is the conditional network itself.

Other conventions are converted to this one: papers that write ``(1 + w) l_c - w l_u`` mean ``g = 1 + w``. Where ``g``
is 1 the unconditional network is not called at all, and where it is 0 the conditional one is not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from espnet_tse_gen.utils.errors import UserError

# f(codes [B, K, T] int64, level) -> logits: [B, T, C] for a level, [B, K, T, C] for level None.
Predictor = Callable[[Tensor, int | None], Tensor]


class GuidanceSchedule(Protocol):
    """Guidance scale as a function of the share of positions still masked before a pass."""

    def scale(self, mask_ratio: float) -> float:
        """Return ``g`` for a pass that starts with the share ``mask_ratio`` (1 = all) of positions masked."""
        ...


class ConstantGuidance:
    """The same scale in every pass."""

    def __init__(self, initial: float) -> None:
        self.initial = initial

    def scale(self, mask_ratio: float) -> float:
        """Return the constant."""
        return self.initial


class LinearGuidance(ConstantGuidance):
    """From the initial scale, where all is masked, linearly to 1 with the mask ratio (MAGNeT, Ziv et al. 2024)."""

    def scale(self, mask_ratio: float) -> float:
        """Return ``1 + (initial - 1) * mask_ratio``."""
        return 1.0 + (self.initial - 1.0) * mask_ratio


GUIDANCE_SCHEDULES: dict[str, type[ConstantGuidance]] = {"constant": ConstantGuidance, "linear": LinearGuidance}


def guided_logits(
    conditional: Predictor, unconditional: Predictor | None, codes: Tensor, level: int | None, scale: float
) -> Tensor:
    """Call the network, or both networks, and combine their logits.

    Args:
        conditional: The network with its conditions.
        unconditional: The network with null conditions; only called where ``scale`` is not 1.
        codes: int64 ``[B, K, T]``.
        level: Level to predict, or ``None`` for all.
        scale: Guidance scale g.

    Returns:
        Logits in float32 (float64 where the network computes in float64).

    Raises:
        UserError: If guidance is asked for and there is no unconditional network.
    """
    if scale == 1.0:
        return _at_least_float32(conditional(codes, level))
    if unconditional is None:
        raise UserError(f"guidance {scale:g} needs a model trained with condition dropout; set 'guidance: 1.0'")
    null = _at_least_float32(unconditional(codes, level))
    if scale == 0.0:
        return null
    return null + scale * (_at_least_float32(conditional(codes, level)) - null)


def _at_least_float32(logits: Tensor) -> Tensor:
    return logits if logits.dtype.itemsize >= 4 else logits.float()
