"""Extract a voice from arrays: the one decoding path behind the recipe's stage, the command line and Python.

    extractor = TargetSpeakerExtractor.from_pretrained("exp/my_model", decode="greedy_16")
    voice = extractor(mixture, enroll, sample_rate=16000)        # float32, as long and as loud as in the mixture

A recording goes in at any rate and level. It is brought to the codec's rate and to the common level, decoded from all
masked to all predicted, and its tokens are turned into a waveform once, whose rate, length and level are the input's.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from espnet_tse_gen.codec.recordings import resample
from espnet_tse_gen.data.level import mixture_gain
from espnet_tse_gen.decoding import DecodingOptions, Predictor, Sampler, decode_chunks
from espnet_tse_gen.errors import UserError, unknown_name
from espnet_tse_gen.input_checks import check_device, checked_rate, checked_signal, rms
from espnet_tse_gen.model_dir import CONFIG, DECODE, DEFAULT_MODEL, find_checkpoint, open_model

if TYPE_CHECKING:
    from espnet_tse_gen.codec.abs_codec import AbsCodec
    from espnet_tse_gen.masked.espnet_model import ESPnetMaskedTSEModel

SILENT_ENROLL_DBFS = -70.0
SILENCE_RMS = 1e-8
CONTEXT_SECONDS = 1.0
"""What the mixture encoder sees of a long recording before and after the chunk that is decoded."""
DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.float32}
"""Choices of ``dtype`` and the type of the weights: with ``bfloat16`` only the computation is in bfloat16."""

DecodeChoice = DecodingOptions | Mapping[str, Any] | str | Path | None


@dataclass(frozen=True, eq=False)
class Request:
    """One checked pair of recordings, ready for decoding; made by :meth:`TargetSpeakerExtractor.request`."""

    mixture: np.ndarray
    """float32 ``[L]`` at the codec's rate, multiplied by ``gain``."""
    enroll: np.ndarray
    """float32 ``[Le]`` at the codec's rate and the common level."""
    gain: float
    """Factor of the level convention; 0 for a mixture of digital silence, from which silence is extracted."""
    sample_rate: int
    """Hz, of the input."""
    size: int
    """Samples of the input."""
    row_id: int | str
    """Where the noise of stochastic decoding starts from."""


@dataclass(frozen=True, eq=False)
class Extraction:
    """What was extracted for one :class:`Request`."""

    samples: np.ndarray
    """float32 ``[size]`` at the input's rate and level."""
    codes: np.ndarray | None
    """int64 ``[K, T]``, the predicted tokens; None where the mixture is silent."""


class TargetSpeakerExtractor:
    """A trained model with its codec and decoding options.

    Use :meth:`from_pretrained`; the constructor takes a model that is built already.

    Args:
        model: In evaluation mode, on its device.
        decode: Decoding options: a preset's name, a yaml file, a mapping, or None for the default (greedy).
        dtype: ``float32`` whatever the model was trained in; ``float64`` for tokens that no batch and no thread count can
            change; or ``bfloat16``, faster where processor or GPU compute in it, with slightly different tokens.

    Raises:
        UserError: If the options do not fit the model.
    """

    def __init__(self, model: ESPnetMaskedTSEModel, decode: DecodeChoice = None, dtype: str = "float32") -> None:
        if dtype not in DTYPES:
            raise unknown_name("dtype", str(dtype), DTYPES)
        self.model = model.eval()
        self.dtype = dtype
        self.model.extractor.to(DTYPES[dtype])
        self.model.precision = "bfloat16" if dtype == "bfloat16" else "float32"
        self.options = decode

    @classmethod
    def from_pretrained(
        cls,
        where: str | Path = DEFAULT_MODEL,
        device: str = "cpu",
        model_file: str | Path | None = None,
        decode: DecodeChoice = None,
        dtype: str = "float32",
    ) -> TargetSpeakerExtractor:
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
        from espnet_tse_gen.masked.build import load_model

        with open_model(where) as directory:
            if decode is None and (directory / DECODE).is_file():
                decode = directory / DECODE
            options = DecodingOptions.resolve(decode)
            model = load_model(directory / CONFIG, find_checkpoint(directory, model_file), device)
        return cls(model, options, dtype)

    @property
    def options(self) -> DecodingOptions:
        """The decoding options; whatever ``decode`` takes can be assigned."""
        return self._options

    @options.setter
    def options(self, decode: DecodeChoice) -> None:
        options = DecodingOptions.resolve(decode)
        sampler = Sampler(options, self.codec.num_levels, self.codec.codebook_size)
        if options.reconstruction == "mixture" and not self.codec.supports_mixture:
            raise UserError(
                f"decoding option 'reconstruction': codec '{self.codec.name}' cannot use the mixture; choose 'codec'"
            )
        if options.guidance != 1.0 and self.model.drop_enroll + self.model.drop_both <= 0:
            raise UserError(
                f"decoding option 'guidance': {options.guidance:g} needs a model trained with condition dropout "
                "(model_conf: drop_enroll); choose 1.0"
            )
        self._options, self._sampler = options, sampler

    @property
    def codec(self) -> AbsCodec:
        """The model's codec."""
        return self.model.codec

    @property
    def sample_rate(self) -> int:
        """The codec's rate in Hz; other rates are resampled to it and back."""
        return self.codec.sample_rate

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.codec_fingerprint.device

    @property
    def passes(self) -> int:
        """Calls of the network per recording or chunk, at most."""
        return self._sampler.passes * (1 if self.options.guidance == 1.0 else 2)

    def __call__(self, mixture: Any, enroll: Any, sample_rate: int | None = None) -> np.ndarray:
        """Extract the enrolled speaker's voice.

        Args:
            mixture: ``[L]`` floats in -1..1, or 16- or 32-bit integers.
            enroll: ``[Le]``, likewise: the target speaker alone.
            sample_rate: Hz of both; None means the codec's rate.

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
            sample_rate: Hz of all; None means the codec's rate.
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
        """Check one pair of recordings and bring it to the codec's rate and level.

        Args:
            mixture: As for a call.
            enroll: As for a call.
            sample_rate: Hz; None means the codec's rate.
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
        frame = self.codec.hop / self.sample_rate
        mixed = checked_signal(mixture, rate, frame, mixture_name)
        voice = checked_signal(enroll, enroll_rate, frame, enroll_name)
        voice = voice[: math.ceil(self.model.extractor.max_enroll_seconds * enroll_rate)]
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

    @torch.inference_mode()
    def extract(self, requests: Sequence[Request]) -> list[Extraction]:
        """Decode requests, ``options.batch_size`` of similar length at a time; long ones one by one, in chunks."""
        results: list[Extraction] = [Extraction(np.zeros(request.size, np.float32), None) for request in requests]
        frames = [self.codec.num_frames(len(request.mixture)) for request in requests]
        voiced = sorted((n for n, request in enumerate(requests) if request.gain > 0), key=lambda n: (frames[n], n))
        chunk, _ = self.options.chunk_frames(self.codec.frame_rate)
        short = [n for n in voiced if not chunk or frames[n] <= chunk]
        size = self.options.batch_size
        batches = [short[first : first + size] for first in range(0, len(short), size)]
        for batch in batches + [[n] for n in voiced if chunk and frames[n] > chunk]:
            rows = [requests[n] for n in batch]
            codes = self._decode_long(rows[0]) if frames[batch[0]] > chunk > 0 else self._decode(rows)
            for n, extraction in zip(batch, self._reconstruct(rows, codes), strict=True):
                results[n] = extraction
        return results

    def _decode(self, requests: Sequence[Request]) -> Tensor:
        """Return codes ``[B, K, T]`` of requests that each fit a chunk."""
        mixture, lengths = self._padded([request.mixture for request in requests])
        enroll, enroll_lengths = self._padded([request.enroll for request in requests])
        embedding = self._embedding(requests)
        conditional, unconditional = self._predictors(mixture, lengths, enroll, enroll_lengths, embedding)
        frames = torch.tensor([self.codec.num_frames(int(length)) for length in lengths], device=self.device)
        valid = torch.arange(int(frames.max()), device=self.device) < frames[:, None]
        row_ids = [request.row_id for request in requests]
        return self._sampler.decode(conditional, valid, row_ids=row_ids, unconditional=unconditional)

    def _decode_long(self, request: Request) -> Tensor:
        """Return codes ``[1, K, T]`` of a long request; memory is that of one chunk, whatever its length."""
        hop, rate = self.codec.hop, self.codec.frame_rate
        enroll, enroll_lengths = self._padded([request.enroll])
        embedding = self._embedding([request])
        context = round(CONTEXT_SECONDS * rate)

        def predictors(start: int, end: int) -> tuple[Predictor, Predictor | None]:
            first = max(0, start - context)
            mixture, lengths = self._padded([request.mixture[first * hop : (end + context) * hop]])
            frames = slice(start - first, end - first)
            return self._predictors(mixture, lengths, enroll, enroll_lengths, embedding, frames)

        chunk, carry = self.options.chunk_frames(rate)
        frames = self.codec.num_frames(len(request.mixture))
        return decode_chunks(self._sampler, predictors, frames, chunk, carry, (request.row_id,), self.device)

    def _predictors(
        self,
        mixture: Tensor,
        lengths: Tensor,
        enroll: Tensor,
        enroll_lengths: Tensor,
        embedding: Tensor | None = None,
        frames: slice | None = None,
    ) -> tuple[Predictor, Predictor | None]:
        """Prepare the network for a batch, and its unconditional twin where guidance needs it."""

        def predictor(drop_enroll: bool) -> Predictor:
            conditions = self.model.prepare(mixture, lengths, enroll, enroll_lengths, drop_enroll, embedding)
            if frames is not None:
                conditions = conditions.frames(frames.start, frames.stop)
            return self.model.predictor(conditions)

        return predictor(False), None if self.options.guidance == 1.0 else predictor(True)

    def _embedding(self, requests: Sequence[Request]) -> Tensor | None:
        """Return the speaker embeddings of the enrolments, ``[B, E]``, for an extractor that takes them."""
        if not self.model.extractor.speaker_embedding:
            return None
        from espnet_tse_gen.data.embeddings import embed

        rows = [torch.from_numpy(embed(request.enroll, self.sample_rate)) for request in requests]
        return torch.stack(rows).to(self.device)

    def _reconstruct(self, requests: Sequence[Request], codes: Tensor) -> list[Extraction]:
        mixture = self._padded([request.mixture for request in requests])[0]
        frames = [self.codec.num_frames(len(request.mixture)) for request in requests]
        guide = mixture if self.options.reconstruction != "codec" and self.codec.supports_mixture else None
        wavs = self.codec.decode(codes, torch.tensor(frames), guide).cpu().numpy()
        tokens = codes.cpu().numpy()
        extractions = []
        for request, wav, row, length in zip(requests, wavs, tokens, frames, strict=True):
            samples = resample(wav[: len(request.mixture)], self.sample_rate, request.sample_rate) / request.gain
            samples = samples[: request.size]
            samples = np.pad(samples, (0, request.size - len(samples))).astype(np.float32)
            extractions.append(Extraction(samples, row[:, :length].copy()))
        return extractions

    def _padded(self, signals: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
        """Return signals as ``[B, L]``, padded with zeros, and their lengths ``[B]``, on the device."""
        lengths = torch.tensor([len(signal) for signal in signals])
        padded = torch.zeros(len(signals), int(lengths.max()))
        for row, signal in zip(padded, signals, strict=True):
            row[: len(signal)] = torch.from_numpy(signal)
        return padded.to(self.device), lengths.to(self.device)


def with_changes(options: DecodingOptions, changes: Mapping[str, Any]) -> DecodingOptions:
    """Return ``options`` with the given fields replaced, checked.

    Raises:
        UserError: For an unknown option or value.
    """
    known = options.__dataclass_fields__
    for name in changes:
        if name not in known:
            raise unknown_name("decoding option", name, known)
    return replace(options, **changes)
