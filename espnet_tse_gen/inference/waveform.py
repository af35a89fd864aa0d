"""Extraction with a model that turns waveforms into waveforms: the dual-path extractor, TD-SpeakerBeam, SpEx+ or MC-SpEx.

An enrolment is embedded once and what was made of it kept, across the segments of a long recording and across recordings.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from espnet_tse_gen.audio.segments import Joiner, Segment, plan_segments
from espnet_tse_gen.discriminative.abs_waveform_extractor import AbsWaveformExtractor, Voices
from espnet_tse_gen.discriminative.build import ExtractionNetwork
from espnet_tse_gen.discriminative.halves import Halves, halves_of
from espnet_tse_gen.inference.base import (
    DTYPES,
    Extraction,
    Output,
    Progress,
    Request,
    TargetSpeakerExtractor,
    Write,
    padded,
)
from espnet_tse_gen.inference.options import SegmentOptions

MAX_ENROLL_SECONDS = 60.0
KEPT_ENROLL_SECONDS = 240.0
"""What is kept of enrolments, the last ones: the dual-path extractor's frames take 1.5 MB a second."""
AUGMENTATIONS = ((0.0, 1), (0.5, -1), (0.25, 1), (0.75, -1))
"""Copies of a mixture, of which the option takes the first so many: frames by which it is delayed, and its sign."""

SegmentChoice = SegmentOptions | Mapping[str, Any] | str | Path | None


class WaveformInference(TargetSpeakerExtractor):
    """A trained discriminative model with its options; the constructor takes one in evaluation mode, on its device.

    Raises:
        UserError: If the options are not usable, or the model takes something else than an enrolment's recording.
    """

    max_enroll_seconds = MAX_ENROLL_SECONDS
    shortest_names = ("one window of the encoder", "one statistic of the speaker encoder")

    def __init__(self, model: ExtractionNetwork, decode: SegmentChoice = None, dtype: str = "float32") -> None:
        self.options = decode
        self.model = model.eval().to(DTYPES[dtype])
        self.dtype, self.sample_rate = dtype, model.sample_rate
        self._halves: Halves = halves_of(model)
        mixture, enroll = self._halves.shortest
        self.shortest_seconds = mixture / self.sample_rate, enroll / self.sample_rate
        self._enrolments: OrderedDict[bytes, tuple[float, Any]] = OrderedDict()
        self._enrolling = threading.Lock()

    @property
    def options(self) -> SegmentOptions:
        """The options; whatever ``decode`` takes can be assigned."""
        return self._options

    @options.setter
    def options(self, decode: SegmentChoice) -> None:
        self._options = SegmentOptions.resolve(decode)
        self.passes = self._options.augmentations

    @torch.inference_mode()
    def extract(
        self,
        requests: Sequence[Request],
        confidence: bool = True,
        progress: Progress | None = None,
        write: Write | None = None,
    ) -> list[Extraction]:
        """Extract from checked requests; memory beside the recordings is that of ``options.batch_size`` segments.

        Where the output's level is fitted to the mixture, the voice is held, too, and given to ``write`` at the end.
        """
        voiced = [n for n, request in enumerate(requests) if request.gain > 0]
        enrolments = {n: self._enrolment(requests[n].enrolls) for n in voiced}
        hop = self._halves.hop
        segment, overlap = self.options.lengths(self.sample_rate, hop)
        plans = {n: plan_segments(len(requests[n].mixture), segment, overlap, hop) for n in voiced}
        joiners = {n: Joiner(plan, overlap) for n, plan in plans.items()}
        scale = self.options.scale
        if scale == "auto":
            scale = "none" if self._halves.keeps_level else "mixture"
        scales = {n: Scale(scale) for n in voiced}
        outputs = [Output(request, self.sample_rate, write) for request in requests]
        voices: dict[int, list[np.ndarray]] = {n: [] for n in voiced}
        activities: dict[int, list[tuple[Segment, np.ndarray]]] = {n: [] for n in voiced}
        presences: dict[int, list[float]] = {n: [] for n in voiced}
        parts = [(n, number) for n, plan in plans.items() for number in range(len(plan))]
        done = 0
        for batch in self._batches([plans[n][number].end - plans[n][number].start for n, number in parts]):
            chosen = [parts[place] for place in batch]
            signals = [requests[n].mixture[plans[n][k].start : plans[n][k].end] for n, k in chosen]
            made, presence = self._run(signals, [enrolments[n] for n, _ in chosen], confidence)
            for row, (n, number) in enumerate(chosen):
                place = joiners[n].next_part()
                part = joiners[n].add(made.waveforms[row, : len(signals[row])].numpy())
                if scale == "none":
                    outputs[n].add(part)
                else:
                    scales[n].add(part, signals[row][place])
                    voices[n].append(part)
                if made.activity is not None:
                    activity = made.activity[row, : len(signals[row]) // hop + 1].sigmoid().numpy()
                    activities[n].append((plans[n][number], activity))
                if presence is not None:
                    presences[n].append(float(presence[row]))
            done += len(batch)
            if progress:
                progress(done / len(parts))
        for n, kept in voices.items():
            for part in kept:
                outputs[n].add(part * np.float32(scales[n].factor))
        return [
            Extraction(
                outputs[n].end(),
                request.sample_rate,
                activity=_joined(activities[n], hop) if activities.get(n) else None,
                activity_rate=self.sample_rate / hop,
                confidence=max(presences.get(n, ()), default=None),
            )
            for n, request in enumerate(requests)
        ]

    def _run(
        self, signals: Sequence[np.ndarray], enrolments: Sequence[Any], confidence: bool
    ) -> tuple[Voices, Tensor | None]:
        """Return what the network makes of signals ``[L_i]`` with their kept enrolments, float32 on the CPU, and who is there."""
        rows, lengths = padded(signals)
        # Lengths stay on the CPU: the network's Python code looks at them, and on a GPU each look would wait for all that is
        # under way.
        with self._precision():
            made = self._averaged(rows.to(self.device, DTYPES[self.dtype]), lengths, enrolments)
            asked = confidence and isinstance(self.model.extractor, AbsWaveformExtractor)
            presence = self.model.extractor.presence(made.waveforms, enrolments) if asked else None
        return Voices._make(each if each is None else each.float().cpu() for each in made), presence

    def _averaged(self, mixture: Tensor, lengths: Tensor, enrolments: Sequence[Any]) -> Voices:
        """Extract from mixtures ``[B, L]`` and their copies, and average the waveforms; the rest is the mixture's own."""
        made, size = self._halves.extract(mixture, lengths, enrolments), mixture.shape[1]
        total = made.waveforms[:, :size]
        for frames, sign in AUGMENTATIONS[1 : self.options.augmentations]:
            delay = round(frames * self._halves.hop)
            copy = pad(sign * mixture, (delay, 0))
            again = self._halves.extract(copy, lengths + delay, enrolments).waveforms[:, delay : delay + size]
            total = total + sign * again
        return made._replace(waveforms=total / self.options.augmentations)

    def _enrolment(self, enrolls: Sequence[np.ndarray]) -> Any:
        """Return what the network keeps of a target's enrolments, made once for the same ones."""
        content = b"".join(len(enroll).to_bytes(8, "little") + enroll.tobytes() for enroll in enrolls)
        key, kept = hashlib.blake2b(content, digest_size=16).digest(), self._enrolments
        with self._enrolling:
            if key not in kept:
                with self._precision():
                    tensors = [torch.from_numpy(enroll).to(self.device, DTYPES[self.dtype]) for enroll in enrolls]
                    seconds = sum(map(len, enrolls)) / self.sample_rate
                    kept[key] = seconds, self._halves.enroll([tensors])[0]
            kept.move_to_end(key)
            while len(kept) > 1 and sum(seconds for seconds, _ in kept.values()) > KEPT_ENROLL_SECONDS:
                kept.popitem(last=False)
            return kept[key][1]

    def _batches(self, lengths: Sequence[int]) -> list[list[int]]:
        """Return the places of signals that are processed together: of one length, or of similar length where that is exact."""
        order, size = sorted(range(len(lengths)), key=lengths.__getitem__), self.options.batch_size
        groups = [order] if self._halves.padding_exact else [[*own] for _, own in groupby(order, lengths.__getitem__)]
        return [group[first : first + size] for group in groups for first in range(0, len(group), size)]

    def _precision(self) -> torch.autocast:
        # Entered in every case, so that an autocast of the caller changes nothing.
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.dtype == "bfloat16")


def _joined(parts: Sequence[tuple[Segment, np.ndarray]], hop: int) -> np.ndarray:
    """Return the activity of a recording from that of its segments, in order, each from where it fades in."""
    last, frames = parts[-1]
    joined = np.zeros(last.start // hop + len(frames), np.float32)
    for segment, frames in parts:
        first, begin = (segment.fade - segment.start) // hop, segment.start // hop
        joined[begin + first : begin + len(frames)] = frames[first:]
    return joined


class Scale:
    """The factor that gives a network's output its level, one for all parts of a recording, as :class:`SegmentOptions` has it.

    The least squares fit gives the target its own level where the others are uncorrelated with it, and the sign it has in the
    mixture. One factor for each segment would raise what is left of others where the target is silent.
    """

    def __init__(self, scale: str) -> None:
        self._scale, self._mixture, self._output = scale, 0.0, 0.0

    def add(self, output: np.ndarray, mixture: np.ndarray) -> None:
        """Take in a part of both, float ``[L_i]``."""
        if self._scale == "peak":
            self._mixture = max(self._mixture, float(np.abs(mixture).max()))
            self._output = max(self._output, float(np.abs(output).max()))
        elif self._scale == "mixture":
            wide = output.astype(np.float64)
            self._mixture += float(np.dot(wide, mixture))
            self._output += float(np.dot(wide, wide))

    @property
    def factor(self) -> float:
        """1 where nothing came out."""
        return self._mixture / self._output if self._output else 1.0
