"""Extraction with a masked generative model: from all masked to all predicted, and the tokens to a waveform once."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from espnet_tse_gen.decoding.options import DecodingOptions
from espnet_tse_gen.decoding.sampler import DecodingError, Means, Sampler, decode_chunks
from espnet_tse_gen.decoding.strategies import Predictor
from espnet_tse_gen.inference.base import (
    DTYPES,
    NO_NUMBERS,
    Extraction,
    Output,
    Progress,
    Request,
    TargetSpeakerExtractor,
    Write,
    padded,
)
from espnet_tse_gen.masked.abs_extractor import Signal
from espnet_tse_gen.masked.model import MaskedTSEModel
from espnet_tse_gen.utils.errors import UserError

CONTEXT_SECONDS = 1.0
"""What the mixture encoder sees of a long recording before and after the chunk that is decoded."""

DecodeChoice = DecodingOptions | Mapping[str, Any] | str | Path | None


class MaskedInference(TargetSpeakerExtractor):
    """A trained masked generative model with its codec and decoding options; the constructor takes one on its device.

    Raises:
        UserError: If the options do not fit the model.
    """

    def __init__(self, model: MaskedTSEModel, decode: DecodeChoice = None, dtype: str = "float32") -> None:
        self.model = model.eval()
        self.dtype = dtype
        self.codec, self.sample_rate = model.codec, model.codec.sample_rate
        self.shortest_seconds = (self.codec.hop / self.sample_rate,) * 2
        self.max_enroll_seconds = model.extractor.max_enroll_seconds
        self.model.extractor.to(DTYPES[dtype])
        if self.model.front_end is not None:
            self.model.front_end.to(DTYPES[dtype])
        self.model.precision = "bfloat16" if dtype == "bfloat16" else "float32"
        self.options = decode
        self._kept: tuple[list[np.ndarray], tuple[Signal, Tensor]] | None = None

    @property
    def options(self) -> DecodingOptions:
        """The decoding options; whatever ``decode`` takes can be assigned."""
        return self._options

    @options.setter
    def options(self, decode: DecodeChoice) -> None:
        options = DecodingOptions.resolve(decode)
        sampler = Sampler(options, self.codec.num_codebooks, self.codec.codebook_size)
        if options.reconstruction in ("mixture", "estimate") and not self.codec.supports_mixture:
            raise UserError(
                f"decoding option 'reconstruction': codec '{self.codec.name}' cannot use the {options.reconstruction}; choose"
                " 'codec'"
            )
        if options.reconstruction == "estimate" and self.model.front_end is None:
            raise UserError(
                "decoding option 'reconstruction': the model has no front end that makes an estimate; choose 'mixture'"
            )
        if options.start and self.model.front_end is None:
            raise UserError("decoding option 'start': the model has no front end that makes an estimate; choose 0")
        if options.guidance != 1.0 and self.model.drop_enroll + self.model.drop_both <= 0:
            raise UserError(
                f"decoding option 'guidance': {options.guidance:g} needs a model trained with condition dropout "
                "(model_conf: drop_enroll); choose 1.0"
            )
        if options.soft and self.codec.codebook(0).shape[1] != self.codec.latent_dim:
            raise UserError(
                f"decoding option 'soft': codec '{self.codec.name}' has codebooks of another width than its latents, which have"
                " no mean; choose false"
            )
        self._options, self._sampler = options, sampler
        # That of the start is without guidance.
        self.passes = sampler.passes if options.guidance == 1.0 else 2 * sampler.passes - (options.start > 0)

    @torch.inference_mode()
    def extract(
        self,
        requests: Sequence[Request],
        confidence: bool = True,
        progress: Progress | None = None,
        write: Write | None = None,
    ) -> list[Extraction]:
        """Decode requests, ``options.batch_size`` of similar length at a time; long ones one by one, in chunks.

        Codes become a waveform as a whole, which ``write`` gets in one part.
        """
        outputs = [Output(request, self.sample_rate, write) for request in requests]
        made: dict[int, np.ndarray] = {}
        frames = [self.codec.num_frames(len(request.mixture)) for request in requests]
        voiced = sorted((n for n, request in enumerate(requests) if request.gain > 0), key=lambda n: (frames[n], n))
        chunk, _ = self.options.chunk_frames(self.codec.frame_rate)
        short = [n for n in voiced if not chunk or frames[n] <= chunk]
        size = self.options.batch_size
        batches = [short[first : first + size] for first in range(0, len(short), size)]
        done, total = 0, sum(frames[n] for n in voiced)

        def tell(more: int) -> None:
            if progress:
                progress((done + more) / total)

        for batch in batches + [[n] for n in voiced if chunk and frames[n] > chunk]:
            rows = [requests[n] for n in batch]
            try:
                long = frames[batch[0]] > chunk > 0
                codes, means, guide = self._decode_long(rows[0], tell) if long else self._decode(rows)
            except DecodingError:
                raise UserError(NO_NUMBERS) from None
            for n, wav, row in zip(
                batch, self._reconstruct(rows, codes, means, guide), codes.cpu().numpy(), strict=True
            ):
                outputs[n].add(wav[: len(requests[n].mixture)])
                made[n] = row[:, : frames[n]].copy()
                done += frames[n]
            tell(0)
        return [
            Extraction(output.end(), request.sample_rate, made.get(n))
            for n, (output, request) in enumerate(zip(outputs, requests, strict=True))
        ]

    def _decode(self, requests: Sequence[Request]) -> tuple[Tensor, Means | None, Tensor | None]:
        """Return codes ``[B, K, T]`` of requests that each fit a chunk, their means, and what lends the phase ``[B, L]``."""
        mixtures = [request.mixture[:] for request in requests]
        conditional, unconditional, rest, estimate, guide = self._preparing(requests)(mixtures)
        frames = torch.tensor([self.codec.num_frames(len(request.mixture)) for request in requests], device=self.device)
        valid = torch.arange(int(frames.max()), device=self.device) < frames[:, None]
        row_ids = [request.row_id for request in requests]
        means = self._means(len(valid), valid.shape[1], rest)
        codes = self._sampler.decode(conditional, valid, None, row_ids, unconditional, means, estimate)
        return codes, means, guide

    def _means(self, rows: int, frames: int, rest: Tensor | None = None) -> Means | None:
        if not self.options.soft:
            return None
        codebooks = self.codec.all_codebooks()
        return Means(codebooks, torch.zeros(rows, frames, codebooks.shape[2], device=self.device), rest)

    def _decode_long(
        self, request: Request, progress: Callable[[int], None]
    ) -> tuple[Tensor, Means | None, Tensor | None]:
        """Return what :meth:`_decode` does of a long request; memory is that of one chunk, whatever its length.

        ``progress`` is called with the frames that are done.
        """
        hop, rate = self.codec.hop, self.codec.frame_rate
        prepare, context = self._preparing([request]), round(CONTEXT_SECONDS * rate)
        guides: list[Tensor] = []

        def predictors(start: int, end: int) -> tuple[Predictor, Predictor | None, Tensor | None, Tensor | None]:
            progress(start)
            first = max(0, start - context)
            part, own = [request.mixture[first * hop : (end + context) * hop]], (start - first, end - first)
            conditional, unconditional, rest, estimate, guide = prepare(part, own)
            if guide is not None:
                # The rest of the chunk before is what this one begins with.
                guides.append(guide[:, sum(each.shape[1] for each in guides) - start * hop :])
            return conditional, unconditional, rest, estimate

        chunk, overlap = self.options.chunk_frames(rate)
        frames = self.codec.num_frames(len(request.mixture))
        means = self._means(1, frames)
        codes = decode_chunks(self._sampler, predictors, frames, chunk, overlap, (request.row_id,), self.device, means)
        return codes, means, torch.cat(guides, dim=1) if guides else None

    def _preparing(
        self, requests: Sequence[Request]
    ) -> Callable[..., tuple[Predictor, Predictor | None, Tensor | None, Tensor | None, Tensor | None]]:
        """Return what makes the network for (parts of) the mixtures, and its unconditional twin where guidance needs it.

        It takes signals ``[L_i]`` and, where not all of their frames are to be predicted, the first and the end of those. What
        else it makes is the rest of the means, for soft decoding, the estimate's codes, and what lends these frames their phase,
        ``[B, L]``; each of them may be None.
        """
        source = self.options.reconstruction if self.codec.supports_mixture else "codec"
        enroll, enroll_lengths = self._enrolled(requests)

        def prepare(signals: Sequence[np.ndarray], frames: tuple[int, int] | None = None) -> Any:
            given = self._padded(signals)
            mixed, estimate = self.model.encode(*given), self.model.estimate(*given, enroll.wav, enroll_lengths)

            def conditions(drop_enroll: bool) -> Any:
                made = self.model.conditions(mixed, enroll, drop_enroll, estimate)
                return made.frames(*frames) if frames else made

            told, guide, rest = conditions(False), None if source == "codec" else given[0], None
            if source == "estimate" and estimate is not None:
                guide = estimate.wav
                if self.options.soft:
                    latents = estimate.latents.transpose(1, 2)
                    rest = self.model.rest(told, latents[:, slice(*frames)] if frames else latents)
            if guide is not None and frames:
                guide = guide[:, frames[0] * self.codec.hop : frames[1] * self.codec.hop]
            without = None if self.options.guidance == 1.0 else self.model.predictor(conditions(True))
            codes = None if estimate is None else estimate.codes[..., slice(*frames) if frames else slice(None)]
            return self.model.predictor(told), without, rest, codes, guide

        return prepare

    def _enrolled(self, requests: Sequence[Request]) -> tuple[Signal, Tensor]:
        """Return the enrolments as the codec sees them and their lengths ``[B]``, made once for the same ones in a row."""
        enrolls = [request.enroll for request in requests]
        kept = self._kept
        if kept is None or len(enrolls) != len(kept[0]) or not all(map(np.array_equal, enrolls, kept[0])):
            rows, lengths = self._padded(enrolls)
            embedding = None
            if self.model.extractor.speaker_embedding:
                from espnet_tse_gen.data.enrolment.embeddings import embed

                own = [torch.from_numpy(embed(enroll, self.sample_rate)) for enroll in enrolls]
                embedding = torch.stack(own).to(self.device)
            kept = self._kept = enrolls, (self.model.encode(rows, lengths, embedding), lengths)
        return kept[1]

    def _reconstruct(
        self, requests: Sequence[Request], codes: Tensor, means: Means | None, guide: Tensor | None
    ) -> np.ndarray:
        """Return waveforms ``[B, >= L]`` at the model's rate."""
        frames = torch.tensor([self.codec.num_frames(len(request.mixture)) for request in requests])
        mixture, estimate = (None, guide) if self.options.reconstruction == "estimate" else (guide, None)
        if means is None:
            made = self.codec.decode(codes, frames, mixture, estimate=estimate)
        else:
            made = self.codec.decode_latents(means.latents.transpose(1, 2), frames, mixture, estimate=estimate)
        return made.cpu().numpy()

    def _padded(self, signals: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
        """Return signals as ``[B, L]``, padded with zeros, and their lengths ``[B]``, on the device."""
        rows, lengths = padded(signals)
        return rows.to(self.device), lengths.to(self.device)
