"""The interface of extractors that turn waveforms into waveforms, without an encoder and a decoder around them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn


class Voices(NamedTuple):
    """What extraction makes of B segments."""

    waveforms: Tensor
    """``[B, L]``."""
    activity: Tensor | None = None
    """Logits ``[B, T]`` of speaking or not; None of a model that does not say."""
    features: Tensor | None = None
    """``[B, T, ...]``, F numbers a frame: what the network knew of the target; None of a model that does not tell."""


class AbsWaveformExtractor(nn.Module, ABC):
    """Extracts voices, and says when they speak; a constructor takes ``sample_rate`` beside the keys of ``extractor_conf``."""

    sample_rate: int  # Hz
    window: int  # samples of the window in which the loss compares spectra
    hop: int  # samples between frames, the first of which is centred on the first sample
    shortest: tuple[int, int]  # least samples of a mixture and of an enrolment
    feature_width: int = 0  # F of :class:`Voices`; 0 where there are no features

    @abstractmethod
    def forward(self, mixture: Tensor, enrolls: Sequence[Sequence[Tensor]]) -> tuple[Tensor, Tensor]:
        """Extract every target of every mixture, in training.

        Args:
            mixture: ``[B, L]``.
            enrolls: Of each of N targets B recordings ``[Le]``.

        Returns:
            Voices ``[N * B, L]`` at the mixtures' level, and logits of their activity ``[N * B, L // hop + 1]``; all mixtures'
            first targets come first.
        """

    @abstractmethod
    def enroll(self, targets: Sequence[Sequence[Tensor]]) -> list[Any]:
        """Return what is kept of targets, each with one or more enrolments ``[Le]`` of any lengths and levels."""

    @abstractmethod
    def extract_rows(self, mixture: Tensor, enrolments: Sequence[Any]) -> Voices:
        """Return the voices of mixtures ``[B, L]``, each with its own kept enrolment."""

    def presence(self, voices: Tensor, enrolments: Sequence[Any]) -> Tensor | None:
        """Return how likely each of ``voices`` ``[B, L]`` is the kept one, ``[B]`` in 0..1; None of a model that cannot say."""
        return None
