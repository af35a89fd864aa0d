"""What a user can choose about decoding: one frozen dataclass, read from a small yaml file and checked once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.options import FROM_0, FROM_1, PROBABILITY, Options, option, require


def _steps(name: str, value: Any) -> tuple[int, ...] | int:
    numbers = list(value) if isinstance(value, list | tuple) else [value]
    plain = all(isinstance(number, int) and not isinstance(number, bool) and number >= 1 for number in numbers)
    require(bool(numbers) and plain, name, "a number of steps from 1, or a list of them, one per codebook", value)
    return tuple(numbers) if isinstance(value, list | tuple) else numbers[0]


@dataclass(frozen=True)
class DecodingOptions(Options):
    """Options of iterative masked decoding, the keys of a ``conf/decode/*.yaml``; the constructor checks them all."""

    models: ClassVar[str] = "masked generative"
    former: ClassVar[Mapping[str, str]] = {"carry_seconds": "chunk_overlap_seconds"}

    steps: tuple[int, ...] | int = option(
        (8, 2),
        "steps of every codebook; a list, as [8,2]: of the first codebooks, the others take 1; with joint: over all",
        read=_steps,
    )
    joint: bool = option(False, "all codebooks at once instead of codebook after codebook")
    temperature: float = option(0.0, "sampling temperature of tokens; 0 takes the most probable one", FROM_0)
    choice_temperature: float = option(0.0, "noise on the confidence that decides which tokens are kept", FROM_0)
    anneal: bool = option(True, "both temperatures fall linearly to 0 at the last step")
    top_k: float = option(
        0.0,
        "keep that many most probable tokens; below 1 a share of the codebook; 0 is off",
        ("0, a share below 1, or a whole number", lambda value: value >= 0 and (value < 1 or value.is_integer())),
    )
    top_p: float = option(0.0, "keep the most probable tokens up to this total probability; 0 is off", PROBABILITY)
    order: str = option("confidence", "which tokens are kept first", choices=("confidence", "random", "halton"))
    coarse_first: float = option(0.0, "joint decoding: lower the confidence by this much per codebook")
    guidance: float = option(1.0, "scale of classifier-free guidance; 1 is off and costs nothing", FROM_0)
    guidance_schedule: str = option(
        "constant", "linear: guidance falls to 1 with the share of masked positions", choices=("constant", "linear")
    )
    remask: str = option(
        "none", "whether committed tokens are masked again", choices=("none", "rescore", "remdm_cap", "remdm_rescale")
    )
    rescore_fraction: float = option(
        0.15,
        "remask rescore: share of least certain tokens predicted again",
        ("a share above 0, up to 1", lambda value: 0 < value <= 1),
    )
    rescore_rounds: int = option(1, "remask rescore: extra steps per codebook", FROM_1)
    remdm_eta: float = option(
        0.1, "remask remdm_*: largest probability per step that a committed token is masked again", PROBABILITY
    )
    seed: int = option(0, "of what is drawn", FROM_0)
    chunk_seconds: float = option(
        10.0, "longer input is decoded in chunks of this length; 0 decodes any length at once", FROM_0
    )
    chunk_overlap_seconds: float = option(2.0, "overlap of chunks, whose codes the next chunk is given", FROM_0)
    reconstruction: str = option(
        "auto",
        "what lends the phase, where the codec can use it: auto and mixture, the mixture; estimate, the front end's; or codec",
        choices=("auto", "codec", "mixture", "estimate"),
    )
    start: float = option(
        0.0,
        "share of the tokens that begin as those of the front end's estimate, the ones that the network finds likeliest",
        PROBABILITY,
    )
    soft: bool = option(False, "what becomes a waveform is the mean of what was predicted for a token, not the token")
    batch_size: int = option(1, "recordings decoded together; more pays on a GPU, not on a CPU", FROM_1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.joint and not isinstance(self.steps, int):
            require(len(self.steps) == 1, "steps", "one number where joint is true", list(self.steps))
            object.__setattr__(self, "steps", self.steps[0])
        require(self.chunk_seconds == 0 or self.chunk_overlap_seconds < self.chunk_seconds, "chunk_overlap_seconds",
                f"less than chunk_seconds ({self.chunk_seconds:g})", self.chunk_overlap_seconds)  # fmt: skip

    def codebook_steps(self, num_codebooks: int) -> tuple[int, ...]:
        """Return the steps of every codebook, or the one number of joint decoding.

        Raises:
            UserError: If ``steps`` lists more codebooks than there are.
        """
        if isinstance(self.steps, int):
            return (self.steps,) if self.joint else (self.steps,) * num_codebooks
        if len(self.steps) > num_codebooks:
            raise UserError(f"decoding option 'steps' lists {len(self.steps)} codebooks, the codec has {num_codebooks}")
        return self.steps + (1,) * (num_codebooks - len(self.steps))

    def top_k_count(self, codebook_size: int) -> int:
        """Return how many tokens ``top_k`` keeps of a codebook; 0 where it is off."""
        if 0 < self.top_k < 1:
            return max(1, round(self.top_k * codebook_size))
        return min(int(self.top_k), codebook_size)

    def chunk_frames(self, frame_rate: float) -> tuple[int, int]:
        """Return (chunk, overlap) in frames for a codec of ``frame_rate`` frames per second; chunk 0 means no chunks.

        A chunk is at least one frame longer than what it is given, so that every chunk adds something.
        """
        if self.chunk_seconds == 0:
            return 0, 0
        overlap = round(self.chunk_overlap_seconds * frame_rate)
        return max(round(self.chunk_seconds * frame_rate), overlap + 1), overlap
