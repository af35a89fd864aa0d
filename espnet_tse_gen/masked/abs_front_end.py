"""A trained extractor in front of the generative one: its estimate of the target is one more condition, frame by frame.

A discriminative extractor keeps what was said more reliably than a generative one, which in turn sounds cleaner.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from espnet_tse_gen.utils.checkpoints import state_digest


class Estimate(NamedTuple):
    """What a front end makes of B mixtures."""

    waveform: Tensor  # `[B, L]`
    features: Tensor | None = None  # `[B, T, F]` at `feature_rate`; None of a front end that has none


class AbsFrontEnd(nn.Module, ABC):
    """A trained extractor, frozen unless it is trained along.

    Contract, for every kind:

    - **Rate**: everything goes in and comes out at ``sample_rate``, which is the codec's.
    - **Level**: the estimate is as loud as it is in the mixture, whatever level the network gives it.
    - **Batch**: samples beyond a row's length are never looked at, and the estimate is silent there.
    - **Frozen**: always in evaluation mode; no gradients unless :meth:`train_along` was called.
    """

    sample_rate: int  # Hz of what goes in and comes out
    feature_width: int = 0  # F; 0 where there are no features
    feature_rate: float = 0.0  # features per second, the first of which stands at time 0
    learning_rate_scale: float = 0.0  # of its weights beside the other ones' learning rate; 0: frozen

    def freeze(self) -> None:
        """Switch gradients off; a constructor ends with it."""
        self._trained = [weight for weight in self.parameters() if weight.requires_grad]
        self.requires_grad_(False)
        self.eval()

    def train_along(self, scale: float) -> None:
        """Give its weights gradients, through the features, and ``scale`` times the learning rate of the others."""
        self.learning_rate_scale = scale
        for weight in self._trained:
            weight.requires_grad_(True)

    def train(self, mode: bool = True) -> "AbsFrontEnd":
        """Stay in evaluation mode, whatever ``mode``."""
        super().train(False)
        return self

    def forward(
        self,
        mixture: Tensor,
        lengths: Tensor,
        enroll: Tensor,
        enroll_lengths: Tensor,
        precision: str = "float32",
    ) -> Estimate:
        """Return the estimate of the target, as loud as in ``mixture [B, L]`` and silent beyond ``lengths [B]`` samples.

        ``enroll [B, Le]`` is the target speaker alone; products are computed in ``precision``.
        """
        bfloat16 = torch.autocast(mixture.device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.learning_rate_scale > 0), bfloat16:
            dtype = next((value.dtype for value in self.parameters()), torch.float32)
            mixed, enrolled = (
                (wav * _within(sizes, wav.shape[1])).to(dtype)
                for wav, sizes in ((mixture, lengths), (enroll, enroll_lengths))
            )
            made, features = self.estimate(mixed, lengths, enrolled, enroll_lengths)
            estimate = made[:, : mixture.shape[1]].to(dtype)
            estimate = nn.functional.pad(estimate, (0, mixture.shape[1] - estimate.shape[1]))
            estimate = estimate * _within(lengths, mixture.shape[1])
            # Losses such as SI-SDR leave scale and sign open; those with which it explains most of the mixture are taken.
            energy = estimate.square().sum(dim=1, keepdim=True)
            scale = (mixed * estimate).sum(dim=1, keepdim=True) / energy.clamp_min(torch.finfo(dtype).tiny)
            return Estimate(torch.where(energy > 0, scale * estimate, torch.zeros_like(estimate)), features)

    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) of configuration and weights; a checkpoint is refused with any other front end."""
        return state_digest([self.sample_rate, self.conf()], self.state_dict())

    @abstractmethod
    def conf(self) -> Mapping[str, Any]:
        """Return what, beside the weights, decides what the front end computes; must be representable in JSON."""

    @abstractmethod
    def estimate(self, mixture: Tensor, lengths: Tensor, enroll: Tensor, enroll_lengths: Tensor) -> Estimate:
        """Return an estimate ``[B, about L]`` at any level, and the features; recordings are zero beyond their lengths.

        See :meth:`forward` for the arguments. Called in the type of the weights.
        """


def _within(lengths: Tensor, size: int) -> Tensor:
    """Return ``[B, size]`` bool, true before each row's length."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]
