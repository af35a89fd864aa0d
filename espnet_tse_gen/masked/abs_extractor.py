"""The interface between the ESPnet model and a masked-token extractor.

A constructor takes ``codec`` by name, and ``front_end_width``, the width of a front end's features, where there are any.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class Signal:
    """One batch of recordings as the codec sees them."""

    wav: Tensor  # `[B, L]` at the codec's rate, zero beyond each item's length
    codes: Tensor  # `[B, K, T]` int64
    latents: Tensor  # `[B, D, T]`, the codec encoder's output before quantization
    valid: Tensor  # `[B, T]` bool
    embedding: Tensor | None = None  # `[B, E]`, a speaker embedding of an enrolment, where the extractor takes one
    features: Tensor | None = None  # `[B, T, F]`, a front end's, at the codec's frames; where the extractor takes them

    def rows(self, index: Tensor) -> "Signal":
        """Return the rows ``index`` of the batch."""
        return Signal(**{name: value[index] for name, value in vars(self).items() if value is not None})


class AbsMaskedExtractor(nn.Module, ABC):
    """Predicts hidden target tokens from visible ones, the mixture and the enrolment."""

    num_codebooks: int
    codebook_size: int
    max_enroll_seconds: float  # what is longer of an enrolment is not looked at
    speaker_embedding: int = 0  # E, the width of the speaker embedding that it takes; 0 for none
    takes_estimate: bool = False  # whether it takes the estimate of a front end

    @abstractmethod
    def encode_conditions(
        self,
        mixture: Signal,
        enroll: Signal,
        drop_enroll: Tensor | None = None,
        drop_mixture: Tensor | None = None,
        estimate: Signal | None = None,
        drop_estimate: Tensor | None = None,
    ) -> Any:
        """Do everything that does not depend on the target's tokens, once per utterance.

        What is returned has ``frames(start, end)``, its part for these target frames: long recordings are decoded in chunks.

        Args:
            mixture: The recording of several speakers, frame-synchronous with the target.
            enroll: The target speaker alone.
            drop_enroll: ``[B]`` bool, rows whose enrolment is replaced by the learned null.
            drop_mixture: ``[B]`` bool, likewise for the mixture, and with it the estimate.
            estimate: A front end's estimate of the target, for an extractor that takes one; it may be missing where the
                enrolment of every row is dropped.
            drop_estimate: ``[B]`` bool, rows whose estimate is left out. So are those of ``drop_enroll``: the estimate tells
                who is wanted.
        """

    @abstractmethod
    def forward(self, codes: Tensor, conditions: Any) -> Tensor:
        """Return hidden states ``[B, T, d]`` for ``codes [B, K, T]`` in which the id C stands for a hidden token."""

    @abstractmethod
    def logits(self, hidden: Tensor, codebook: int) -> Tensor:
        """Map hidden states ``[..., d]`` to logits ``[..., C]`` of one codebook."""

    def estimate_logits(self, conditions: Any, codebook: int) -> Tensor | None:
        """Return the logits ``[B, T, C]`` that the estimate alone gives, for an extractor whose heads see it; None for others."""
        return None

    @abstractmethod
    def predict_latents(self, hidden: Tensor) -> Tensor | None:
        """Map hidden states ``[B, T, d]`` to the target's codec latents ``[B, D, T]``; None without such a head."""
