"""What a user can choose about extraction with a model that turns a waveform into a waveform."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from espnet_tse_gen.utils.options import FROM_0, FROM_1, Options, option, require

MOST_AUGMENTATIONS = 4
SHORTEST_SEGMENT = 0.1
"""Seconds; what is shorter than a few windows of an encoder is no use."""


@dataclass(frozen=True)
class SegmentOptions(Options):
    """Options of extraction with a discriminative model. Every field is a key of ``conf/decode/segments.yaml``.

    ``augmentations`` are those of the test: what the network makes of a copy that means the same differs a little, and the
    errors average out.

    Training by SI-SDR leaves the output's level open: ``scale: mixture`` fits it to the mixture by least squares, ``peak`` gives
    it the mixture's peak (what the authors of SpEx+ do when decoding), ``none`` leaves it as the network gives it. ``auto`` is
    ``none`` for the dual-path extractor, which gives the target its own level, and ``mixture`` for the others.
    """

    models: ClassVar[str] = "discriminative"

    segment_seconds: float = option(
        10.0, "longer recordings are processed in segments of this length; 0 takes any length whole", FROM_0
    )
    overlap_seconds: float = option(1.0, "in which one segment fades into the next", FROM_0)
    scale: str = option("auto", "level of the output", choices=("auto", "mixture", "peak", "none"))
    batch_size: int = option(1, "segments processed together; more pays on a GPU", FROM_1)
    augmentations: int = option(
        1,
        "extractions that are averaged, of the mixture and of shifted and inverted copies; 2 take twice the time",
        (f"1 to {MOST_AUGMENTATIONS}", lambda value: 1 <= value <= MOST_AUGMENTATIONS),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.segment_seconds == 0 or self.segment_seconds >= SHORTEST_SEGMENT, "segment_seconds",
                f"0, or at least {SHORTEST_SEGMENT:g} s", self.segment_seconds)  # fmt: skip
        require(self.segment_seconds == 0 or 3 * self.overlap_seconds < 1.001 * self.segment_seconds, "overlap_seconds",
                f"at most a third of segment_seconds ({self.segment_seconds:g})", self.overlap_seconds)  # fmt: skip

    def lengths(self, sample_rate: int, hop: int) -> tuple[int, int]:
        """Return (segment, overlap) in samples for an encoder of ``hop``; segment 0 means that recordings are taken whole."""
        segment = round(self.segment_seconds * sample_rate)
        return segment, max(0, min(round(self.overlap_seconds * sample_rate), segment // 3 - hop))
