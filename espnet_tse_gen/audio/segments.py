"""Long recordings in overlapping segments, for models that turn a waveform into a waveform: plan and joining.

A recording that fits one segment is processed whole. All segments of a longer one have the same length (they are
spread evenly), so that none is short of context and they can be processed together. In the middle of what two
neighbours share, the earlier one fades out as the later one fades in, and the weights of every sample sum to 1.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


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
    """Joins the outputs of the segments of a recording of ``length`` samples, which may come in any order."""

    def __init__(self, length: int, segments: Sequence[Segment], overlap: int) -> None:
        self.samples = np.zeros(length, np.float32)
        self._segments = segments
        # A raised cosine; with its reverse it sums to 1.
        self._rise = (0.5 - 0.5 * np.cos(np.pi * (np.arange(overlap) + 0.5) / max(overlap, 1))).astype(np.float32)

    def add(self, number: int, output: np.ndarray) -> None:
        """Add the output (float ``[end - start]``) of segment ``number``."""
        start, end, fade = self._segments[number]
        overlap, is_last = len(self._rise), number + 1 == len(self._segments)
        if not is_last:
            end = self._segments[number + 1].fade + overlap
        part = output[fade - start : end - start].astype(np.float32)
        if number:
            part[:overlap] *= self._rise
        if overlap and not is_last:
            part[-overlap:] *= 1.0 - self._rise
        self.samples[fade:end] += part
