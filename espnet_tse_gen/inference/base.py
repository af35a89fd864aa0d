"""Extract a voice from arrays: what every extractor does alike, whatever model is behind it.

    extractor = TargetSpeakerExtractor.from_pretrained("exp/my_model")
    voice = extractor(mixture, enroll, sample_rate=16000)        # float32, as long and as loud as in the mixture

:class:`TargetSpeakerExtractor` is the interface that the recipe, the command line and Python callers use: it checks recordings
and brings them to the model's rate and level. A subclass says what its model needs and extracts checked requests.
"""

import abc
import hashlib
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from espnet_tse_gen.audio.level import mixture_gain, rms
from espnet_tse_gen.audio.recordings import resample
from espnet_tse_gen.inference.checks import checked_rate, checked_signal
from espnet_tse_gen.inference.loading import DEFAULT_MODEL, open_model
from espnet_tse_gen.utils.errors import UserError, naming_extra, unknown_name
from espnet_tse_gen.utils.parallel import checked_device, set_threads

SILENT_ENROLL_DBFS = -70.0
SILENCE_RMS = 1e-8
NO_NUMBERS = (
    "the model gives no numbers: its training diverged, or its weights are damaged; take another checkpoint, or train again "
    "with a lower learning rate"
)
DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.float32}
"""Choices of ``dtype`` and the type of the weights: with ``bfloat16`` only the computation is in bfloat16."""

Progress = Callable[[float], object]
"""Called with the share that is done, 0..1, after each batch, segment or chunk."""


@dataclass(frozen=True, eq=False)
class Request:
    """One checked pair of recordings, ready for extraction; made by :meth:`TargetSpeakerExtractor.request`."""

    mixture: np.ndarray  # float32 `[L]` at the model's rate, multiplied by `gain`
    enrolls: list[np.ndarray]  # one or more, float32 `[Le]` at the model's rate, each at the common level
    gain: float  # factor of the level convention; 0 for a mixture of digital silence, from which silence is extracted
    sample_rate: int  # Hz, of the input
    size: int  # samples of the input
    row_id: int | str  # where the noise of stochastic decoding starts from

    @property
    def enroll(self) -> np.ndarray:
        """All enrolments after each other, ``[Le]``, for a model that takes one."""
        return self.enrolls[0] if len(self.enrolls) == 1 else np.concatenate(self.enrolls)

    def to_input(self, samples: np.ndarray, sample_rate: int) -> np.ndarray:
        """Bring an output at the model's rate (float ``[>= L]``) to the input's rate, level and length, float32.

        An array of the input's rate is overwritten, as a long recording should not be held twice.

        Raises:
            UserError: If it holds NaN or infinite values.
        """
        if not np.isfinite(samples).all():
            raise UserError(NO_NUMBERS)
        output = resample(samples[: len(self.mixture)], sample_rate, self.sample_rate)[: self.size]
        output /= self.gain
        return output if len(output) == self.size else np.pad(output, (0, self.size - len(output)))


@dataclass(frozen=True, eq=False)
class Extraction:
    """What was extracted for one :class:`Request`."""

    samples: np.ndarray  # float32 `[size]` at the input's rate and level
    codes: np.ndarray | None = None  # int64 `[K, T]`, the tokens; None where the mixture is silent or there is no codec
    # float32 `[frames]`: how likely the target speaks, frame by frame; None of a model that does not say.
    activity: np.ndarray | None = None
    activity_rate: float = 0.0  # frames of `activity` per second
    # How likely the target is in the mixture, 0..1: that of the likeliest segment; None where nobody asked, or of a model
    # that does not say.
    confidence: float | None = None


class TargetSpeakerExtractor(abc.ABC):
    """A trained model behind the interface of all doors: :meth:`from_pretrained`, calls, batches and requests."""

    model: Any  # in evaluation mode, on its device
    dtype: str  # a key of DTYPES
    options: Any  # a frozen dataclass with `batch_size` among its fields; whatever `decode` takes can be assigned
    sample_rate: int  # the model's, Hz; other rates are resampled to it and back
    max_enroll_seconds: float  # what the model uses of an enrolment; the rest is cut off
    shortest_seconds: tuple[float, float]  # least duration of a mixture and of an enrolment
    shortest_names = ("one frame of the codec",) * 2  # what these durations are, in errors

    @staticmethod
    def from_pretrained(
        where: str | Path = DEFAULT_MODEL,
        device: str = "cpu",
        model_file: str | Path | None = None,
        decode: Any = None,
        dtype: str = "float32",
    ) -> "TargetSpeakerExtractor":
        """Load a model of either kind, masked generative or discriminative.

        Args:
            where: An exp directory, a zip file made by ``pack``, or the name of a model that ships with the package.
            device: ``cpu``, ``cuda`` or ``cuda:N``.
            model_file: Checkpoint in the directory; by default the best average that is there.
            decode: Options of the model's kind: a preset's name, a yaml file, a mapping, or None for the model's own default.
            dtype: ``float32`` whatever the model was trained in; ``float64`` for tokens that no batch and no thread count can
                change; or ``bfloat16``, faster where processor or GPU compute in it, and less exact.

        Raises:
            UserError: If the model, the checkpoint, the device or the options cannot be used.
        """
        checked_device(device)
        if dtype not in DTYPES:
            raise unknown_name("dtype", str(dtype), DTYPES)
        with naming_extra(f"model {where}"), open_model(where) as directory:
            # Each kind is imported when it is wanted: a model of waveforms needs no codec, and the other way round.
            if directory.is_discriminative:
                from espnet_tse_gen.inference.waveform import WaveformInference as Inference
            else:
                from espnet_tse_gen.inference.masked import MaskedInference as Inference  # type: ignore[assignment]
            options = directory.options(decode)
            return Inference(directory.load(model_file, device), options, dtype)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    @property
    def passes(self) -> int:
        """Calls of the network per recording, chunk or segment, at most."""
        return 1

    @abc.abstractmethod
    def extract(
        self, requests: Sequence[Request], confidence: bool = True, progress: Progress | None = None
    ) -> list[Extraction]:
        """Extract from checked requests, in their order; ``confidence`` costs time where the model can tell it."""

    def __call__(self, mixture: Any, enroll: Any, sample_rate: int | None = None) -> np.ndarray:
        """Extract the enrolled speaker's voice.

        Args:
            mixture: ``[L]`` floats in -1..1, or 16- or 32-bit integers.
            enroll: ``[Le]``, likewise: the target speaker alone; or a list of several such recordings.
            sample_rate: Hz of both; None means the model's rate.

        Returns:
            float32 ``[L]`` at the mixture's rate and level.

        Raises:
            UserError: If a recording is empty, not mono, not finite or too short, or the enrolment is silent.
        """
        return self.extract([self.request(mixture, enroll, sample_rate)], confidence=False)[0].samples

    def extract_batch(
        self,
        mixtures: Sequence[Any],
        enrolls: Sequence[Any],
        sample_rate: int | None = None,
        row_ids: Sequence[int | str] | None = None,
    ) -> list[np.ndarray]:
        """Extract from several mixtures, each with its own enrolment; each result is what its own call gives.

        ``row_ids`` are where stochastic decoding draws from, one per mixture; by default what is in the recordings.

        Raises:
            UserError: Naming the number of the mixture or enrolment that cannot be used.
        """
        for name, several in (("mixtures", mixtures), ("enrolls", enrolls)):
            if isinstance(several, str | bytes | Mapping) or not hasattr(several, "__len__"):
                raise UserError(
                    f"extract_batch: {name} is of type {type(several).__name__}, expected a list of recordings"
                )
        ids = [None] * len(mixtures) if row_ids is None else row_ids
        if not len(mixtures) == len(enrolls) == len(ids):
            raise UserError(
                f"extract_batch: {len(mixtures)} mixtures, {len(enrolls)} enrolments and {len(ids)} row ids; expected as many "
                "of each (one enrolment for all: [enroll] * len(mixtures))"
            )
        requests = [
            self.request(
                mixture,
                enroll,
                sample_rate,
                row_id=row_id,
                mixture_name=f"mixture {number}",
                enroll_name=f"enrolment {number}",
            )
            for number, (mixture, enroll, row_id) in enumerate(zip(mixtures, enrolls, ids, strict=True))
        ]
        return [extraction.samples for extraction in self.extract(requests, confidence=False)]

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
            sample_rate: Hz; None means the model's rate.
            enroll_sample_rate: Hz of the enrolment where it differs.
            row_id: Where the noise of stochastic decoding starts from; by default the recordings themselves, so that a
                result does not depend on what else is in a batch.
            mixture_name: What errors call the mixture; ``enroll_name`` the enrolment.

        Raises:
            UserError: If a recording cannot be used.
        """
        rate = checked_rate(self.sample_rate if sample_rate is None else sample_rate, mixture_name)
        enroll_rate = checked_rate(rate if enroll_sample_rate is None else enroll_sample_rate, enroll_name)
        shortest, shortest_enroll = self.shortest_seconds
        what, what_enroll = self.shortest_names
        mixed = checked_signal(mixture, rate, shortest, mixture_name, what)
        # A list of numbers is one recording.
        several = isinstance(enroll, list | tuple) and len(enroll) > 0 and not isinstance(enroll[0], numbers.Number)
        voices = []
        for number, each in enumerate(enroll if several else [enroll], 1):
            name = f"{enroll_name} {number}" if several else enroll_name
            voice = checked_signal(each, enroll_rate, shortest_enroll, name, what_enroll)
            voice = _without_mean(voice[: math.ceil(self.max_enroll_seconds * enroll_rate)])
            if rms(voice) < 10.0 ** (SILENT_ENROLL_DBFS / 20.0):
                raise UserError(
                    f"{name}: is silent (below {SILENT_ENROLL_DBFS:g} dBFS in its first "
                    f"{len(voice) / enroll_rate:.1f} s); give a recording in which the target speaker talks"
                )
            voices.append(voice)
        if row_id is None:
            digest = hashlib.blake2b(mixed.data, digest_size=16)
            for voice in voices:
                digest.update(np.ascontiguousarray(voice).data)
            row_id = digest.hexdigest()
        mixed = _without_mean(mixed)
        gain = mixture_gain(mixed) if rms(mixed) > SILENCE_RMS else 0.0
        return Request(
            mixture=resample(mixed * np.float32(gain), rate, self.sample_rate),
            enrolls=[
                resample(voice * np.float32(mixture_gain(voice)), enroll_rate, self.sample_rate) for voice in voices
            ],
            gain=gain,
            sample_rate=rate,
            size=len(mixed),
            row_id=row_id,
        )


def padded(signals: Sequence[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return signals as ``[B, L]``, padded with zeros, and their lengths ``[B]``."""
    rows = [torch.from_numpy(signal) for signal in signals]
    return pad_sequence(rows, batch_first=True), torch.tensor([len(row) for row in rows])


def _without_mean(samples: np.ndarray) -> np.ndarray:
    """Return float32 ``[L]`` without a constant offset, which is no sound and would decide the level.

    An offset that rounding leaves of a recording without one is none, so that such a recording stays as it is.
    """
    mean = float(np.mean(samples, dtype=np.float64))
    return samples - np.float32(mean) if abs(mean) > 1e-3 * rms(samples) else samples


def open_extractor(
    model: str | Path,
    device: str = "cpu",
    model_file: str | Path | None = None,
    decode: Any = None,
    dtype: str = "float32",
    num_threads: int = 0,
    changes: Mapping[str, Any] | None = None,
) -> TargetSpeakerExtractor:
    """Load a model as a command line names it; arguments up to ``dtype`` as for ``from_pretrained``.

    Args:
        num_threads: CPU threads of this process; 0 leaves it to torch.
        changes: Fields of the decoding options that are replaced.

    Raises:
        UserError: If the model or an option cannot be used.
    """
    set_threads(num_threads)
    extractor = TargetSpeakerExtractor.from_pretrained(model, device, model_file, decode, dtype)
    extractor.options = type(extractor.options).from_dict({**vars(extractor.options), **(changes or {})})
    return extractor
