"""Extract a voice from arrays: what every extractor does alike, whatever model is behind it.

:class:`TargetSpeakerExtractor` is the interface that the recipe, the command line and Python callers use: it checks recordings
and brings them to the model's rate and level. A subclass says what its model needs and extracts checked requests.
"""

import abc
import contextlib
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

from espnet_tse_gen.audio.files import MEAN, AudioFile, read_audio
from espnet_tse_gen.audio.level import Level, mixture_gain, rms
from espnet_tse_gen.audio.recordings import Resampler, resample, resampled, resampled_length
from espnet_tse_gen.audio.segments import Forward
from espnet_tse_gen.inference.loading import DEFAULT_MODEL, open_model
from espnet_tse_gen.utils.errors import UserError, naming_extra, unknown_name
from espnet_tse_gen.utils.parallel import checked_device, set_threads

SILENT_ENROLL_DBFS = -70.0
INTEGER_SCALES = {"int16": 2.0**15, "int32": 2.0**31}
RATES = (1000, 768000)  # Hz
NO_NUMBERS = (
    "the model gives no numbers: its training diverged, or its weights are damaged; take another checkpoint, or train again "
    "with a lower learning rate"
)
DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.float32}
"""Choices of ``dtype`` and the type of the weights: with ``bfloat16`` only the computation is in bfloat16."""

Progress = Callable[[float], object]
"""Called with the share that is done, 0..1, after each batch, segment or chunk."""
Write = Callable[[np.ndarray], object]
"""Called with what comes out, part by part, float32 ``[L_i]`` at the input's rate and level."""
_BLOCK = 2**20


@dataclass(frozen=True, eq=False)
class Request:
    """One checked pair of recordings, ready for extraction; made by :meth:`TargetSpeakerExtractor.request`."""

    mixture: np.ndarray | Forward  # float32 `[L]` at the model's rate, multiplied by `gain`; of a file, read in slices
    enrolls: list[np.ndarray]  # one or more, float32 `[Le]` at the model's rate, each at the common level
    gain: float  # factor of the level convention; 0 for a mixture of digital silence, from which silence is extracted
    sample_rate: int  # Hz, of the input
    size: int  # samples of the input
    row_id: int | str  # where the noise of stochastic decoding starts from

    @property
    def enroll(self) -> np.ndarray:
        """All enrolments after each other, ``[Le]``, for a model that takes one."""
        return self.enrolls[0] if len(self.enrolls) == 1 else np.concatenate(self.enrolls)


class Output:
    """What a model makes of a request, on its way to the input's rate, level and length: kept, or given to ``write``."""

    def __init__(self, request: Request, sample_rate: int, write: Write | None = None) -> None:
        self._request, self._write, self._done = request, write, 0
        self._samples = np.zeros(0 if write else request.size, np.float32)
        self._resampler = Resampler(sample_rate, request.sample_rate)

    def add(self, part: np.ndarray, last: bool = False) -> None:
        """Go on with ``part``, float ``[L_i]`` at the model's rate; :class:`UserError` if it holds NaN or infinite values."""
        if not np.isfinite(part).all():
            raise UserError(NO_NUMBERS)
        made = self._resampler(part.astype(np.float32, copy=False), last)[: self._request.size - self._done]
        if len(made):
            self._give(made / self._request.gain)

    def end(self) -> np.ndarray:
        """Make up what is missing, all of a silent mixture, and return what was kept, float32 ``[size]`` or ``[0]``."""
        if self._request.gain > 0:
            self.add(np.zeros(0, np.float32), last=True)
        while self._done < self._request.size:
            self._give(np.zeros(min(_BLOCK, self._request.size - self._done), np.float32))
        return self._samples

    def _give(self, part: np.ndarray) -> None:
        if self._write:
            self._write(part)
        else:
            self._samples[self._done : self._done + len(part)] = part
        self._done += len(part)


@dataclass(frozen=True, eq=False)
class Extraction:
    """What was extracted for one :class:`Request`."""

    samples: np.ndarray  # float32 `[size]` at the input's rate and level; empty where they were given to `write`
    sample_rate: int  # Hz, of the samples
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
    passes: int  # calls of the network per recording, chunk or segment, at most
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
            where: An exp directory, a zip file made by ``pack``, the name of a model that ships with the package, or
                ``ORG/NAME`` or ``ORG/NAME@REVISION`` of the Hugging Face hub.
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

    @abc.abstractmethod
    def extract(
        self,
        requests: Sequence[Request],
        confidence: bool = True,
        progress: Progress | None = None,
        write: Write | None = None,
    ) -> list[Extraction]:
        """Extract from checked requests, in their order.

        Args:
            confidence: Whether it is wanted; it costs time where the model can tell it.
            write: Of one request: takes the voice part by part, as it is done where the model works in segments.
        """

    def __call__(self, mixture: Any, enroll: Any, sample_rate: int | None = None) -> np.ndarray:
        """Extract the enrolled speaker's voice, float32 ``[L]`` at the mixture's rate and level; threads may call at once.

        Args:
            mixture: ``[L]`` floats in -1..1, or 16- or 32-bit integers; or the path of a recording.
            enroll: ``[Le]`` or a path, likewise: the target speaker alone; or a list of several such recordings.
            sample_rate: Hz of the arrays; None means the model's rate. A file has its own.

        Raises:
            UserError: If a recording cannot be read, is empty, not mono (of a file the mean of all channels is taken), not
                finite or too short, or the enrolment is silent.
        """
        return self.extract_one(mixture, enroll, sample_rate, confidence=False).samples

    def extract_one(
        self, mixture: Any, enroll: Any, sample_rate: int | None = None, confidence: bool = True
    ) -> Extraction:
        """Extract as a call does, and return with the voice its rate and what else the model says."""
        return self.extract([self.request(mixture, enroll, sample_rate)], confidence)[0]

    def extract_batch(
        self,
        mixtures: Sequence[Any],
        enrolls: Sequence[Any],
        sample_rate: int | None = None,
    ) -> list[np.ndarray]:
        """Extract from several mixtures, each with its own enrolment; each result is what its own call gives.

        Raises:
            UserError: Naming the number of the mixture or enrolment that cannot be used.
        """
        for name, several in (("mixtures", mixtures), ("enrolls", enrolls)):
            if isinstance(several, str | bytes | Mapping) or not hasattr(several, "__len__"):
                raise UserError(
                    f"extract_batch: {name} is of type {type(several).__name__}, expected a list of recordings"
                )
        if len(mixtures) != len(enrolls):
            raise UserError(
                f"extract_batch: {len(mixtures)} mixtures and {len(enrolls)} enrolments; expected as many of each (one "
                "enrolment for all: [enroll] * len(mixtures))"
            )
        requests = [
            self.request(*pair, sample_rate, mixture_name=f"mixture {n}", enroll_name=f"enrolment {n}")
            for n, pair in enumerate(zip(mixtures, enrolls, strict=True))
        ]
        return [extraction.samples for extraction in self.extract(requests, confidence=False)]

    def request(
        self,
        mixture: Any,
        enroll: Any,
        sample_rate: int | None = None,
        *,
        enroll_sample_rate: int | Sequence[int] | None = None,
        row_id: int | str | None = None,
        mixture_name: str = "mixture",
        enroll_name: str = "enrolment",
    ) -> Request:
        """Check one pair of recordings and bring it to the model's rate and level.

        Args:
            mixture: What a call takes, or an :class:`AudioFile`; of a file no more is held than is needed at a time.
            enroll: What a call takes, as ``sample_rate``.
            enroll_sample_rate: Hz of the enrolment where it differs; of several, also that of each.
            row_id: Where the noise of stochastic decoding starts from; by default the recordings themselves, so that a
                result does not depend on what else is in a batch.
            mixture_name: What errors call the mixture; ``enroll_name`` the enrolment.

        Raises:
            UserError: If a recording cannot be used.
        """
        rate = checked_rate(self.sample_rate if sample_rate is None else sample_rate, mixture_name)
        (shortest, shortest_enroll), (what, what_enroll) = self.shortest_seconds, self.shortest_names
        mixed = AudioFile(mixture, channel=MEAN) if isinstance(mixture, str | Path) else mixture
        if isinstance(mixed, AudioFile):
            rate, mixture_name = checked_rate(mixed.rate, str(mixed.path)), str(mixed.path)
            check_length(len(mixed), rate, shortest, mixture_name, what)
            level, digest = mixed.level, mixed.hash.copy()
        else:
            mixed = checked_signal(mixed, rate, shortest, mixture_name, what)
            level, digest = Level([mixed]), hashlib.blake2b(mixed.data, digest_size=16)
        # A list of numbers is one recording.
        several = isinstance(enroll, list | tuple) and len(enroll) > 0 and not isinstance(enroll[0], numbers.Number)
        voices, enrolls = enroll if several else [enroll], []
        given = rate if enroll_sample_rate is None else enroll_sample_rate
        rates = given if isinstance(given, Sequence) else [given] * len(voices)
        if len(rates) != len(voices):
            raise UserError(
                f"enroll_sample_rate: {len(rates)} rates for {len(voices)} enrolments; give one for all, or one of each"
            )
        for number, (voice, own_rate) in enumerate(zip(voices, rates, strict=True), 1):
            name = f"{enroll_name} {number}" if several else enroll_name
            if isinstance(voice, str | Path):
                name = str(voice)
                voice, own_rate = read_audio(voice, channel=MEAN)
            own_rate = checked_rate(own_rate, name)
            voice = checked_signal(voice, own_rate, shortest_enroll, name, what_enroll)
            voice = voice[: math.ceil(self.max_enroll_seconds * own_rate)]
            voice = voice - np.float32(Level([voice]).offset)
            if rms(voice) < 10.0 ** (SILENT_ENROLL_DBFS / 20.0):
                raise UserError(
                    f"{name}: is silent (below {SILENT_ENROLL_DBFS:g} dBFS in its first "
                    f"{len(voice) / own_rate:.1f} s); give a recording in which the target speaker talks"
                )
            digest.update(voice.data)
            enrolls.append(resample(voice * np.float32(mixture_gain(voice)), own_rate, self.sample_rate))
        offset, factor = np.float32(level.offset), np.float32(level.gain)
        if isinstance(mixed, AudioFile):
            signal: np.ndarray | Forward = Forward(
                lambda: resampled(((part - offset) * factor for part in mixed.parts()), rate, self.sample_rate),
                resampled_length(len(mixed), rate, self.sample_rate),
            )
        else:
            scaled = mixed - offset
            scaled *= factor  # in place: long mixtures are not held once more
            signal = resample(scaled, rate, self.sample_rate)
        row_id = digest.hexdigest() if row_id is None else row_id
        return Request(signal, enrolls, level.gain, rate, len(mixed), row_id)


def checked_signal(value: Any, rate: int, shortest: float, name: str, least: str) -> np.ndarray:
    """Return floats, or 16- or 32-bit integers, ``[L]``, ``[L, 1]`` or ``[1, L]`` at ``rate`` Hz as float32 ``[L]`` in -1..1.

    It is to last ``shortest`` seconds, which are ``least``; errors call it ``name``.

    Raises:
        UserError: If it is not one channel of numbers, or is empty, not finite or too short.
    """
    try:
        if isinstance(value, torch.Tensor):
            # NumPy has no bfloat16; nothing is lost to float32, which extraction computes in.
            value = value.detach().cpu()
            value = value.float() if value.is_floating_point() else value
        samples = np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:150]
        raise UserError(f"{name}: cannot be taken as samples ({reason}); expected one array of numbers") from None
    if samples.dtype == object:
        raise UserError(f"{name}: is of type {type(value).__name__}, expected one array of numbers")
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


def checked_rate(rate: Any, name: str) -> int:
    """Return a sampling rate in Hz; :class:`UserError` if it is not a whole number within :data:`RATES`."""
    with contextlib.suppress(TypeError, ValueError, OverflowError, RuntimeError):
        if int(rate) == rate and not isinstance(rate, bool) and RATES[0] <= rate <= RATES[1]:
            return int(rate)
    raise UserError(f"{name}: sampling rate {rate!r} is not a whole number of Hz in {RATES[0]}..{RATES[1]}")


def padded(signals: Sequence[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return signals as ``[B, L]``, padded with zeros, and their lengths ``[B]``."""
    rows = [torch.from_numpy(signal) for signal in signals]
    return pad_sequence(rows, batch_first=True), torch.tensor([len(row) for row in rows])


def open_extractor(
    model: str | Path,
    device: str = "cpu",
    model_file: str | Path | None = None,
    decode: Any = None,
    dtype: str = "float32",
    num_threads: int = 0,
    changes: Mapping[str, Any] | None = None,
) -> TargetSpeakerExtractor:
    """Load a model as a command line names it; arguments up to ``dtype``, and errors, as for ``from_pretrained``.

    Args:
        num_threads: CPU threads of this process; 0 leaves it to torch.
        changes: Fields of the decoding options that are replaced.
    """
    set_threads(num_threads)
    extractor = TargetSpeakerExtractor.from_pretrained(model, device, model_file, decode, dtype)
    extractor.options = type(extractor.options).from_dict({**vars(extractor.options), **(changes or {})})
    return extractor
