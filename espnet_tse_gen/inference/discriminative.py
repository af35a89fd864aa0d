"""Extract a voice with a discriminative model: TD-SpeakerBeam, SpEx+ or MC-SpEx, from waveform to waveform.

    extractor = DiscriminativeExtractor.from_pretrained("exp/my_spex_plus")
    voice = extractor(mixture, enroll, sample_rate=16000)        # float32, as long and as loud as in the mixture

A recording of any length, rate and level goes in. An enrolment is embedded once and the embedding kept, across the segments
of a long recording and across recordings. What training by SI-SDR leaves open, the level of the output, is chosen here.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from espnet_tse_gen.audio.segments import Joiner, SegmentOptions, plan_segments
from espnet_tse_gen.discriminative.halves import halves_of, shortest_samples
from espnet_tse_gen.discriminative.speaker import MIN_FRAMES
from espnet_tse_gen.inference.base import DTYPES, AbsInference, Extraction, Request
from espnet_tse_gen.inference.loading import CONFIG, DECODE, find_checkpoint
from espnet_tse_gen.utils.errors import UserError, unknown_name

if TYPE_CHECKING:
    from espnet_tse_gen.discriminative.network import ExtractionNetwork

MAX_ENROLL_SECONDS = 60.0
CACHED_EMBEDDINGS = 256

SegmentChoice = SegmentOptions | Mapping[str, Any] | str | Path | None


class DiscriminativeExtractor(AbsInference):
    """A trained discriminative model with its options.

    Use :meth:`from_pretrained`; the constructor takes a model that is built already.

    Args:
        model: In evaluation mode, on its device, with ``sample_rate`` set.
        decode: Options: ``segments`` or None for the defaults, a yaml file, or a mapping.
        dtype: ``float32`` whatever the model was trained in, ``float64``, or ``bfloat16``: faster where processor or GPU
            compute in it, and less exact.

    Raises:
        UserError: If the options are not usable, or the model takes something else than an enrolment's recording.
    """

    model: ExtractionNetwork

    def __init__(self, model: ExtractionNetwork, decode: SegmentChoice = None, dtype: str = "float32") -> None:
        if dtype not in DTYPES:
            raise unknown_name("dtype", str(dtype), DTYPES)
        self.options = decode
        self.model = model.eval().to(DTYPES[dtype])
        self.dtype = dtype
        self._halves = halves_of(model.extractor)
        if not model.share_encoder:
            raise UserError(
                "model_conf 'share_encoder': extraction encodes the enrolment with the mixture's encoder; use a model "
                "trained with share_encoder: true"
            )
        self._embeddings: OrderedDict[bytes, Tensor] = OrderedDict()
        self._window, self._hop = shortest_samples(model.encoder)

    @classmethod
    def from_directory(
        cls, directory: Path, device: str, model_file: str | Path | None, decode: SegmentChoice, dtype: str
    ) -> DiscriminativeExtractor:
        """Load the model in an open directory; arguments and errors as for :meth:`from_pretrained`."""
        from espnet_tse_gen.discriminative.build import load_model

        if decode is None and (directory / DECODE).is_file():
            decode = directory / DECODE
        options = SegmentOptions.resolve(decode)
        model = load_model(directory / CONFIG, find_checkpoint(directory, model_file), device)
        return cls(model, options, dtype)

    @property
    def options(self) -> SegmentOptions:
        """The options; whatever ``decode`` takes can be assigned."""
        return self._options

    @options.setter
    def options(self, decode: SegmentChoice) -> None:
        self._options = SegmentOptions.resolve(decode)

    @property
    def sample_rate(self) -> int:
        """The rate of the training recordings in Hz; other rates are resampled to it and back."""
        return self.model.sample_rate

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    @property
    def passes(self) -> int:
        """Calls of the network per segment: one."""
        return 1

    @property
    def shortest_seconds(self) -> tuple[float, float]:
        """Least duration of a mixture and of an enrolment: one window of the encoder, and what the speaker encoder pools."""
        frames = MIN_FRAMES if self._halves.padding_exact else 1
        return self._window / self.sample_rate, (self._window + (frames - 1) * self._hop) / self.sample_rate

    @property
    def shortest_names(self) -> tuple[str, str]:
        """What these durations are, in errors."""
        return "one window of the encoder", "one statistic of the speaker encoder"

    @property
    def max_enroll_seconds(self) -> float:
        """What is used of an enrolment; the rest is cut off, which bounds memory."""
        return MAX_ENROLL_SECONDS

    @torch.inference_mode()
    def extract(self, requests: Sequence[Request]) -> list[Extraction]:
        """Extract from checked requests, ``options.batch_size`` segments at a time.

        Segments and recordings of one length are processed together; those of different lengths too, where the network's
        norms leave padding out. Memory beside the recordings themselves is that of ``batch_size`` segments.
        """
        results = [Extraction(np.zeros(request.size, np.float32)) for request in requests]
        voiced = [n for n, request in enumerate(requests) if request.gain > 0]
        embeddings = dict(zip(voiced, self._embed([requests[n].enroll for n in voiced]), strict=True))
        segment, overlap = self.options.lengths(self.sample_rate, self._hop)
        plans = {n: plan_segments(len(requests[n].mixture), segment, overlap, self._hop) for n in voiced}
        joiners = {n: Joiner(len(requests[n].mixture), plan, overlap) for n, plan in plans.items()}
        parts = [(n, number) for n, plan in plans.items() for number in range(len(plan))]
        for batch in self._batches([plans[n][number].end - plans[n][number].start for n, number in parts]):
            chosen = [parts[place] for place in batch]
            signals = [requests[n].mixture[plans[n][k].start : plans[n][k].end] for n, k in chosen]
            outputs = self._run(signals, torch.stack([embeddings[n] for n, _ in chosen]))
            for (n, number), output in zip(chosen, outputs, strict=True):
                joiners[n].add(number, output)
        for n, joiner in joiners.items():
            samples = joiner.samples * scale_factor(joiner.samples, requests[n].mixture, self.options.scale)
            results[n] = Extraction(requests[n].to_input(samples, self.sample_rate))
        return results

    def _run(self, signals: Sequence[np.ndarray], embedding: Tensor) -> list[np.ndarray]:
        """Return what the network makes of signals, each of its signal's length, from embeddings ``[B, D]``."""
        padded, lengths = self._padded(signals)
        with self._precision():
            features, frames = self.model.encoder(padded, lengths)
            masked = self._halves.extract(features, frames, embedding)
            outputs = self.model.decoder(masked, lengths)[0].float().cpu().numpy()
        return [output[: len(signal)] for output, signal in zip(outputs, signals, strict=True)]

    def _embed(self, enrolls: Sequence[np.ndarray]) -> list[Tensor]:
        """Return the embeddings ``[D]`` of enrolments; those that are not kept from earlier are computed, once each."""
        keys = [hashlib.blake2b(enroll.tobytes(), digest_size=16).digest() for enroll in enrolls]
        known = {key: self._embeddings[key] for key in keys if key in self._embeddings}
        missing = {key: enroll for key, enroll in zip(keys, enrolls, strict=True) if key not in known}
        signals = [*missing.items()]
        for batch in self._batches([len(enroll) for _, enroll in signals]):
            padded, lengths = self._padded([signals[place][1] for place in batch])
            with self._precision():
                embeddings = self._halves.embed(*self.model.encoder(padded, lengths))
            known.update({signals[place][0]: row for place, row in zip(batch, embeddings, strict=True)})
        for key in keys:
            self._embeddings[key] = known[key]
            self._embeddings.move_to_end(key)
        while len(self._embeddings) > CACHED_EMBEDDINGS:
            self._embeddings.popitem(last=False)
        return [known[key] for key in keys]

    def _batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """Yield the places of signals that are processed together: of one length, or of similar length where that is exact."""
        batch: list[int] = []
        for place in sorted(range(len(lengths)), key=lambda place: (lengths[place], place)):
            fits = not batch or self._halves.padding_exact or lengths[place] == lengths[batch[0]]
            if batch and (len(batch) == self.options.batch_size or not fits):
                yield batch
                batch = []
            batch.append(place)
        if batch:
            yield batch

    def _padded(self, signals: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
        """Return signals as ``[B, L]``, padded with zeros, on the device, and their lengths ``[B]``, on the CPU.

        Lengths are looked at by the network's Python code; on a GPU each look would wait for all that is under way.
        """
        lengths = torch.tensor([len(signal) for signal in signals])
        padded = torch.zeros(len(signals), int(lengths.max()))
        for row, signal in zip(padded, signals, strict=True):
            row[: len(signal)] = torch.from_numpy(signal)
        return padded.to(self.device, DTYPES[self.dtype]), lengths

    def _precision(self) -> torch.autocast:
        # Entered in every case, so that an autocast of the caller changes nothing.
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.dtype == "bfloat16")


def scale_factor(output: np.ndarray, mixture: np.ndarray, scale: str) -> float:
    """Return the factor that gives a network's output its level.

    Args:
        output: float ``[L]``, of a whole recording: a factor for each segment would raise what is left of others where
            the target is silent.
        mixture: float ``[L]``.
        scale: ``mixture``: least squares fit to the mixture, which gives the target its own level where the others are
            uncorrelated with it, and the sign it has in the mixture; ``peak``: the mixture's peak; ``none``: 1.
    """
    if scale == "none" or not output.any():
        return 1.0
    if scale == "peak":
        return float(np.abs(mixture).max() / np.abs(output).max())
    wide = output.astype(np.float64)
    return float(np.dot(wide, mixture) / np.dot(wide, wide))
