"""Long recordings in overlapping segments, for models that turn a waveform into a waveform: plan, reading and joining.

A recording that fits one segment is processed whole. All segments of a longer one have the same length (they are
spread evenly), so that none is short of context and they can be processed together. In the middle of what two
neighbours share, the earlier one fades out as the later one fades in, and the weights of every sample sum to 1.
"""

import math
from collections.abc import Callable, Iterator, Sequence
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


class Forward:
    """A recording that is read as it is needed: slices of it are taken as of an array, float32.

    What lies before a slice is let go; one that begins earlier reads from the start again. ``parts`` gives the recording anew
    at each call, float32 ``[L_i]``; what is missing of ``length`` samples is 0.
    """

    def __init__(self, parts: Callable[[], Iterator[np.ndarray]], length: int) -> None:
        self._open, self._length = parts, length
        self._parts: Iterator[np.ndarray] = iter(())
        self._first, self._held = length, np.zeros(0, np.float32)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, wanted: slice) -> np.ndarray:
        start, end, _ = wanted.indices(self._length)
        end = max(start, end)
        if start < self._first:
            self._parts, self._first, self._held = self._open(), 0, self._held[:0]
        held, last = [self._held], self._first + len(self._held)
        while last < end:
            part = next(self._parts, None)
            part = np.zeros(end - last, np.float32) if part is None else part
            last += len(part)
            if last - len(part) <= start:
                held.clear()
            held.append(part)
        samples = held[0] if len(held) == 1 else np.concatenate(held)
        self._held, self._first = samples[len(samples) - (last - start) :], start
        return self._held[: end - start]


class Joiner:
    """Joins the outputs of the segments of a recording, which come in their order."""

    def __init__(self, segments: Sequence[Segment], overlap: int) -> None:
        self._segments, self._number = segments, 0
        # A raised cosine; with its reverse it sums to 1.
        self._rise = (0.5 - 0.5 * np.cos(np.pi * (np.arange(overlap) + 0.5) / max(overlap, 1))).astype(np.float32)
        self._fading = np.zeros(overlap, np.float32)

    def next_part(self) -> slice:
        """Return which samples of the next segment are done once its output is there."""
        start, end, fade = self._segments[self._number]
        is_last = self._number + 1 == len(self._segments)
        return slice(fade - start, (end if is_last else self._segments[self._number + 1].fade) - start)

    def add(self, output: np.ndarray) -> np.ndarray:
        """Take the output (float ``[end - start]``) of the next segment, and return what is done with it, float32."""
        done, overlap = self.next_part(), len(self._rise)
        part = output[done.start : done.stop + overlap].astype(np.float32)
        if self._number:
            part[:overlap] *= self._rise
            part[:overlap] += self._fading
        self._number += 1
        if self._number < len(self._segments):
            self._fading = part[len(part) - overlap :] * (1.0 - self._rise)
        return part[: done.stop - done.start]
