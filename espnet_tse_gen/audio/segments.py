"""Long recordings in overlapping segments, for models that turn a waveform into a waveform: options, plan and joining.

A recording that fits one segment is processed whole. All segments of a longer one have the same length (they are
spread evenly), so that none is short of context and they can be processed together. In the middle of what two
neighbours share, the earlier one fades out as the later one fades in, and the weights of every sample sum to 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from espnet_tse_gen.utils.errors import UserError, unknown_name
from espnet_tse_gen.utils.files import read_yaml

PRESET = "segments"
"""Name of the default options; ``conf/decode/segments.yaml`` holds the same."""
SCALES = ("auto", "mixture", "peak", "none")
SHORTEST_SEGMENT = 0.1
"""Seconds; what is shorter than a few windows of an encoder is no use."""


@dataclass(frozen=True)
class SegmentOptions:
    """Options of extraction with a discriminative model. Every field is a key of ``conf/decode/segments.yaml``.

    Raises:
        UserError: From the constructor, naming the option and what it takes.
    """

    segment_seconds: float = (
        10.0  # longer recordings are processed in segments of this length; 0 takes any length whole
    )
    overlap_seconds: float = 1.0  # in which one segment fades into the next
    # Level of the output, which training by SI-SDR leaves open: `mixture` fits it to the mixture by least squares, `peak`
    # gives it the mixture's peak (what the authors of SpEx+ do when decoding), `none` leaves it as the network gives it.
    # `auto` is `none` for the dual-path extractor, which gives the target its own level, and `mixture` for the others.
    scale: str = "auto"
    batch_size: int = 1  # segments processed together; more pays on a GPU

    def __post_init__(self) -> None:
        for name in ("segment_seconds", "overlap_seconds"):
            value = getattr(self, name)
            plain = isinstance(value, int | float) and not isinstance(value, bool)
            _require(plain and math.isfinite(value) and value >= 0, name, "a number of seconds, 0 or more", value)
            object.__setattr__(self, name, float(value))
        whole = isinstance(self.batch_size, int) and not isinstance(self.batch_size, bool)
        _require(whole and self.batch_size >= 1, "batch_size", "a whole number from 1", self.batch_size)
        if self.scale not in SCALES:
            raise unknown_name("value of decoding option 'scale'", str(self.scale), SCALES)
        _require(self.segment_seconds == 0 or self.segment_seconds >= SHORTEST_SEGMENT, "segment_seconds",
                 f"0, or at least {SHORTEST_SEGMENT:g} s", self.segment_seconds)  # fmt: skip
        _require(self.segment_seconds == 0 or 3 * self.overlap_seconds < 1.001 * self.segment_seconds, "overlap_seconds",
                 f"at most a third of segment_seconds ({self.segment_seconds:g})", self.overlap_seconds)  # fmt: skip

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], source: str = "") -> SegmentOptions:
        """Make options from a mapping.

        Args:
            values: Option names and values.
            source: Where they come from, for the error message.

        Raises:
            UserError: If a name is unknown, is an option of masked generative decoding, or a value is not usable.
        """
        names = [field.name for field in fields(cls)]
        at = f"{source}: " if source else ""
        for name in values:
            if name not in names:
                raise UserError(f"{at}{_not_ours(str(name), names)}")
        try:
            return cls(**values)
        except UserError as error:
            raise UserError(f"{at}{error}") from None

    @classmethod
    def resolve(cls, value: SegmentOptions | Mapping[str, Any] | str | Path | None) -> SegmentOptions:
        """Make options from whatever a user gives: nothing (defaults), a mapping, a yaml file, or ``segments``."""
        if value is None or str(value) == PRESET:
            return cls()
        if isinstance(value, SegmentOptions):
            return value
        if isinstance(value, Mapping):
            return cls.from_dict(value)
        if isinstance(value, Path) or Path(value).suffix or Path(value).exists():
            return cls.from_dict(read_yaml(value), str(value))
        from espnet_tse_gen.decoding.options import PRESETS

        if value in PRESETS:
            raise UserError(
                f"decoding preset '{value}': is for masked generative models, and this one is discriminative; leave it "
                f"out, or choose '{PRESET}' or a yaml file of its options"
            )
        raise unknown_name("decoding preset of discriminative models", str(value), [PRESET])

    def lengths(self, sample_rate: int, hop: int = 1) -> tuple[int, int]:
        """Return (segment, overlap) in samples for an encoder of ``hop``; segment 0 means that recordings are taken whole."""
        segment = round(self.segment_seconds * sample_rate)
        return segment, max(0, min(round(self.overlap_seconds * sample_rate), segment // 3 - hop))


class Segment(NamedTuple):
    """Samples ``start`` to ``end`` (excluded); the segment's output counts from ``fade`` on, where it fades in."""

    start: int
    end: int
    fade: int


def plan_segments(length: int, segment: int, overlap: int, hop: int = 1) -> list[Segment]:
    """Return the segments of a recording, in order.

    Args:
        length: Samples of the recording.
        segment: Samples of a segment; 0 puts everything into one.
        overlap: Samples over which one segment fades into the next; neighbours share at least as many.
        hop: All segments but the last start at a multiple of it: at the frames that the whole recording has.

    Raises:
        ValueError: If ``overlap`` is negative or more than about a third of ``segment``: fades could meet.
    """
    if segment and not 0 <= 3 * (overlap + hop - 1) <= segment:
        raise ValueError(f"segments of {segment} samples cannot overlap by {overlap} at a hop of {hop}")
    if not segment or length <= segment:
        return [Segment(0, length, 0)]
    # As few as cover the recording, spread evenly, so that none lies almost on top of another.
    count = 1 + math.ceil((length - segment) / (segment - overlap - hop + 1))
    starts = [n * (length - segment) // (count - 1) // hop * hop for n in range(count - 1)] + [length - segment]
    plan = [Segment(0, segment, 0)]
    for start in starts[1:]:
        shared = plan[-1].end - start
        plan.append(Segment(start, start + segment, start + (shared - overlap) // 2))
    return plan


class Joiner:
    """Joins the outputs of segments, which may come in any order.

    Args:
        length: Samples of the recording.
        segments: Its plan.
        overlap: What the plan was made with.
    """

    def __init__(self, length: int, segments: Sequence[Segment], overlap: int) -> None:
        self.samples = np.zeros(length, np.float32)
        self._segments = segments
        # A raised cosine; with its reverse it sums to 1.
        self._rise = (0.5 - 0.5 * np.cos(np.pi * (np.arange(overlap) + 0.5) / max(overlap, 1))).astype(np.float32)

    def add(self, number: int, output: np.ndarray) -> None:
        """Add the output (float ``[end - start]``) of segment ``number``."""
        start, end, fade = self._segments[number]
        overlap = len(self._rise)
        if number + 1 < len(self._segments):
            end = self._segments[number + 1].fade + overlap
        part = output[fade - start : end - start].astype(np.float32)
        if overlap and number:
            part[:overlap] *= self._rise
        if overlap and number + 1 < len(self._segments):
            part[-overlap:] *= 1.0 - self._rise
        self.samples[fade:end] += part


def _not_ours(name: str, names: list[str]) -> str:
    """Return the message for an option that discriminative models do not have."""
    from espnet_tse_gen.decoding.options import DecodingOptions

    if name in DecodingOptions.__dataclass_fields__:
        return (
            f"decoding option '{name}' is for masked generative models, and this one is discriminative; its options are "
            f"{', '.join(names)}"
        )
    return str(unknown_name("decoding option", name, names))


def _require(condition: bool, name: str, expected: str, value: object) -> None:
    if not condition:
        raise UserError(f"decoding option '{name}': expected {expected}, found {value!r}")
