"""What every extractor does alike, whatever model is behind it: checking recordings, their rate and level, and batches.

:class:`AbsInference` is the interface that the recipe, the command line and Python callers use. A subclass says what its
model needs (rate, shortest recording) and extracts checked requests.
"""

from __future__ import annotations

import abc
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from typing_extensions import Self

from espnet_tse_gen.audio.level import mixture_gain
from espnet_tse_gen.audio.recordings import resample
from espnet_tse_gen.inference.checks import check_device, checked_rate, checked_signal, rms
from espnet_tse_gen.inference.loading import DEFAULT_MODEL, open_model
from espnet_tse_gen.utils.errors import UserError, naming_extra

SILENT_ENROLL_DBFS = -70.0
SILENCE_RMS = 1e-8
DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.float32}
"""Choices of ``dtype`` and the type of the weights: with ``bfloat16`` only the computation is in bfloat16."""


@dataclass(frozen=True, eq=False)
class Request:
    """One checked pair of recordings, ready for extraction; made by :meth:`AbsInference.request`."""

    mixture: np.ndarray
    """float32 ``[L]`` at the model's rate, multiplied by ``gain``."""
    enroll: np.ndarray
    """float32 ``[Le]`` at the model's rate and the common level."""
    gain: float
    """Factor of the level convention; 0 for a mixture of digital silence, from which silence is extracted."""
    sample_rate: int
    """Hz, of the input."""
    size: int
    """Samples of the input."""
    row_id: int | str
    """Where the noise of stochastic decoding starts from."""

    def to_input(self, samples: np.ndarray, sample_rate: int) -> np.ndarray:
        """Bring an output at the model's rate (float ``[>= L]``) to the input's rate, level and length, float32."""
        output = resample(samples[: len(self.mixture)], sample_rate, self.sample_rate) / self.gain
        output = output[: self.size]
        return np.pad(output, (0, self.size - len(output))).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Extraction:
    """What was extracted for one :class:`Request`."""

    samples: np.ndarray
    """float32 ``[size]`` at the input's rate and level."""
    codes: np.ndarray | None = None
    """int64 ``[K, T]``, the predicted tokens; None where the mixture is silent or the model has no codec."""


class AbsInference(abc.ABC):
    """A trained model behind the interface of all doors: :meth:`from_pretrained`, calls, batches and requests."""

    model: torch.nn.Module
    """In evaluation mode, on its device."""
    dtype: str
    """A key of :data:`DTYPES`."""
    options: Any
    """A frozen dataclass with ``batch_size`` among its fields; whatever ``decode`` takes can be assigned."""

    @classmethod
    def from_pretrained(
        cls,
        where: str | Path = DEFAULT_MODEL,
        device: str = "cpu",
        model_file: str | Path | None = None,
        decode: Any = None,
        dtype: str = "float32",
    ) -> Self:
        """Load a model.

        Args:
            where: An exp directory, a zip file made by ``pack``, or the name of a model that ships with the package.
            device: ``cpu``, ``cuda`` or ``cuda:N``.
            model_file: Checkpoint in the directory; by default the best average that is there.
            decode: Decoding options: a preset's name, a yaml file, a mapping, or None for the model's own default.
            dtype: ``float32``, ``float64`` or ``bfloat16``.

        Raises:
            UserError: If the model, the checkpoint, the device or the options cannot be used.
        """
        check_device(device)
        with naming_extra(f"model {where}"), open_model(where) as directory:
            return cls.from_directory(directory, device, model_file, decode, dtype)

    @classmethod
    @abc.abstractmethod
    def from_directory(
        cls, directory: Path, device: str, model_file: str | Path | None, decode: Any, dtype: str
    ) -> Self:
        """Load the model in an open directory; arguments and errors as for :meth:`from_pretrained`."""

    @property
    @abc.abstractmethod
    def sample_rate(self) -> int:
        """The model's rate in Hz; other rates are resampled to it and back."""

    @property
    @abc.abstractmethod
    def device(self) -> torch.device:
        """Where the model is."""

    @property
    @abc.abstractmethod
    def passes(self) -> int:
        """Calls of the network per recording, chunk or segment, at most."""

    @property
    @abc.abstractmethod
    def shortest_seconds(self) -> tuple[float, float]:
        """Least duration of a mixture and of an enrolment."""

    @property
    def shortest_names(self) -> tuple[str, str]:
        """What these durations are, in errors."""
        return "one frame of the codec", "one frame of the codec"

    @property
    @abc.abstractmethod
    def max_enroll_seconds(self) -> float:
        """What the model uses of an enrolment; the rest is cut off."""

    @abc.abstractmethod
    def extract(self, requests: Sequence[Request]) -> list[Extraction]:
        """Extract from checked requests, in their order."""

    def __call__(self, mixture: Any, enroll: Any, sample_rate: int | None = None) -> np.ndarray:
        """Extract the enrolled speaker's voice.

        Args:
            mixture: ``[L]`` floats in -1..1, or 16- or 32-bit integers.
            enroll: ``[Le]``, likewise: the target speaker alone.
            sample_rate: Hz of both; None means the model's rate.

        Returns:
            float32 ``[L]`` at the mixture's rate and level.

        Raises:
            UserError: If a recording is empty, not mono, not finite or too short, or the enrolment is silent.
        """
        return self.extract([self.request(mixture, enroll, sample_rate)])[0].samples

    def extract_batch(
        self,
        mixtures: Sequence[Any],
        enrolls: Sequence[Any],
        sample_rate: int | None = None,
        row_ids: Sequence[int | str] | None = None,
    ) -> list[np.ndarray]:
        """Extract from several mixtures; each result is what its own call gives.

        Args:
            mixtures: Arrays as for a single call, of any lengths.
            enrolls: One enrolment for each mixture.
            sample_rate: Hz of all; None means the model's rate.
            row_ids: One id per mixture, from which stochastic decoding draws; by default what is in the recordings.

        Raises:
            UserError: Naming the number of the mixture or enrolment that cannot be used.
        """
        if len(mixtures) != len(enrolls) or (row_ids is not None and len(row_ids) != len(mixtures)):
            raise UserError(
                f"extract_batch: {len(mixtures)} mixtures, {len(enrolls)} enrolments and "
                f"{len(mixtures) if row_ids is None else len(row_ids)} row ids; expected as many of each"
            )
        requests = [
            self.request(
                mixture,
                enroll,
                sample_rate,
                row_id=None if row_ids is None else row_ids[number],
                mixture_name=f"mixture {number}",
                enroll_name=f"enrolment {number}",
            )
            for number, (mixture, enroll) in enumerate(zip(mixtures, enrolls, strict=True))
        ]
        return [extraction.samples for extraction in self.extract(requests)]

    def request(
        self,
        mixture: Any,
        enroll: Any,
        sample_rate: int | None = None,
        *,
        enroll_sample_rate: int | None = None,
        row_id: int | str | None = None,
        mixture_name: str = "mixture",
        enroll_name: str = "enrolment",
    ) -> Request:
        """Check one pair of recordings and bring it to the model's rate and level.

        Args:
            mixture: As for a call.
            enroll: As for a call.
            sample_rate: Hz; None means the model's rate.
            enroll_sample_rate: Hz of the enrolment where it differs.
            row_id: Where the noise of stochastic decoding starts from; by default the recordings themselves, so that a
                result does not depend on what else is in a batch.
            mixture_name: What errors call the mixture.
            enroll_name: What errors call the enrolment.

        Raises:
            UserError: If a recording cannot be used.
        """
        rate = checked_rate(self.sample_rate if sample_rate is None else sample_rate, mixture_name)
        enroll_rate = checked_rate(rate if enroll_sample_rate is None else enroll_sample_rate, enroll_name)
        shortest, shortest_enroll = self.shortest_seconds
        what, what_enroll = self.shortest_names
        mixed = checked_signal(mixture, rate, shortest, mixture_name, what)
        voice = checked_signal(enroll, enroll_rate, shortest_enroll, enroll_name, what_enroll)
        voice = voice[: math.ceil(self.max_enroll_seconds * enroll_rate)]
        loudness = rms(voice)
        if loudness < 10.0 ** (SILENT_ENROLL_DBFS / 20.0):
            raise UserError(
                f"{enroll_name}: is silent (below {SILENT_ENROLL_DBFS:g} dBFS in its first "
                f"{len(voice) / enroll_rate:.1f} s); give a recording in which the target speaker talks"
            )
        if row_id is None:
            digest = hashlib.blake2b(mixed.tobytes(), digest_size=16)
            digest.update(voice.tobytes())
            row_id = digest.hexdigest()
        gain = mixture_gain(mixed) if rms(mixed) > SILENCE_RMS else 0.0
        return Request(
            mixture=resample(mixed * np.float32(gain), rate, self.sample_rate),
            enroll=resample(voice * np.float32(mixture_gain(voice)), enroll_rate, self.sample_rate),
            gain=gain,
            sample_rate=rate,
            size=len(mixed),
            row_id=row_id,
        )
