"""What a user can choose about decoding: one frozen dataclass, read from a small yaml file and checked once.

options = DecodingOptions.from_yaml("conf/decode/greedy_16.yaml")
options = DecodingOptions.preset("stochastic", seed=7)
options = dataclasses.replace(options, guidance=1.5)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from espnet_tse_gen.utils.errors import UserError, unknown_name
from espnet_tse_gen.utils.files import read_yaml

CHOICES: dict[str, tuple[str, ...]] = {
    "order": ("confidence", "random", "halton"),
    "remask": ("none", "rescore", "remdm_cap", "remdm_rescale"),
    "guidance_schedule": ("constant", "linear"),
    "reconstruction": ("auto", "codec", "mixture"),
}

PRESETS: dict[str, dict[str, Any]] = {
    "one_pass": {"joint": True, "steps": 1},
    "one_step_per_level": {"steps": 1},
    "greedy_16": {"steps": (8, 2)},
    "joint_16": {"joint": True, "steps": 16},
    "stochastic": {"steps": (8, 2), "temperature": 1.0, "choice_temperature": 1.0, "top_k": 0.1},
    # One token per pass in random order at full temperature samples the network's own distribution.
    "ancestral": {"joint": True, "steps": 1_000_000, "temperature": 1.0, "anneal": False, "order": "random"},
}


@dataclass(frozen=True)
class DecodingOptions:
    """Options of iterative masked decoding. Every field is a key of a ``conf/decode/*.yaml``.

    Raises:
        UserError: From the constructor, naming the option and what it takes.
    """

    # Passes. A list gives the passes of the first levels and 1 to the others; one number is for every level. With
    # `joint`: one number, the passes over all levels together.
    steps: tuple[int, ...] | int = (8, 2)
    joint: bool = False  # all levels at once instead of level after level
    temperature: float = 0.0  # sampling temperature of tokens; 0 takes the most probable one
    choice_temperature: float = 0.0  # noise on the confidence that decides which tokens are kept
    anneal: bool = True  # both temperatures fall linearly to 0 at the last pass
    top_k: float = 0  # keep that many most probable tokens; below 1 a share of the codebook; 0 is off
    top_p: float = 0.0  # keep the most probable tokens up to this total probability; 0 is off
    order: str = "confidence"  # which tokens are kept first
    coarse_first: float = 0.0  # joint decoding: lower the confidence by this much per level
    guidance: float = 1.0  # scale g of classifier-free guidance; 1 is off and costs nothing
    guidance_schedule: str = "constant"  # or linear: falls to 1 with the share of masked positions
    remask: str = "none"  # whether committed tokens are masked again
    rescore_fraction: float = 0.15  # remask rescore: share of least certain tokens predicted again
    rescore_rounds: int = 1  # remask rescore: extra passes per level
    remdm_eta: float = 0.1  # remask remdm_*: largest probability per pass that a committed token is masked again
    seed: int = 0
    chunk_seconds: float = 10.0  # longer input is decoded in chunks of this length; 0 decodes any length at once
    carry_seconds: float = 2.0  # overlap of chunks, whose tokens the next chunk is given
    reconstruction: str = "auto"  # the mixture's phase where the codec can use it; or codec, or mixture
    batch_size: int = 1  # recordings decoded together; more pays on a GPU, not on a CPU

    def __post_init__(self) -> None:
        kinds = {"bool": _boolean, "float": _number, "int": _integer, "str": _text, "tuple[int, ...] | int": _steps}
        for field in fields(self):
            value = kinds[str(field.type)](field.name, getattr(self, field.name))
            object.__setattr__(self, field.name, value)
        for name, names in CHOICES.items():
            if getattr(self, name) not in names:
                raise unknown_name(f"value of decoding option '{name}'", getattr(self, name), names)
        if self.joint and not isinstance(self.steps, int):
            _require(len(self.steps) == 1, "steps", "one number where joint is true", list(self.steps))
            object.__setattr__(self, "steps", self.steps[0])
        for name in ("temperature", "choice_temperature", "guidance", "chunk_seconds", "carry_seconds", "seed"):
            _require(getattr(self, name) >= 0, name, "0 or more", getattr(self, name))
        _require(self.top_k >= 0 and (self.top_k < 1 or float(self.top_k).is_integer()), "top_k",
                 "0, a share below 1, or a whole number", self.top_k)  # fmt: skip
        _require(0 <= self.top_p <= 1, "top_p", "a probability in 0..1", self.top_p)
        _require(0 < self.rescore_fraction <= 1, "rescore_fraction", "a share above 0, up to 1", self.rescore_fraction)
        _require(0 <= self.remdm_eta <= 1, "remdm_eta", "a probability in 0..1", self.remdm_eta)
        _require(self.rescore_rounds >= 1, "rescore_rounds", "1 or more", self.rescore_rounds)
        _require(self.batch_size >= 1, "batch_size", "1 or more", self.batch_size)
        _require(self.chunk_seconds == 0 or self.carry_seconds < self.chunk_seconds, "carry_seconds",
                 f"less than chunk_seconds ({self.chunk_seconds:g})", self.carry_seconds)  # fmt: skip

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], source: str = "decoding options") -> DecodingOptions:
        """Make options from a mapping.

        Args:
            values: Option names and values.
            source: Where they come from, for the error message.

        Raises:
            UserError: If a name is unknown or a value is not usable.
        """
        names = [field.name for field in fields(cls)]
        for name in values:
            if name not in names:
                raise unknown_name(f"option in {source}", str(name), names)
        try:
            return cls(**values)
        except UserError as error:
            raise UserError(f"{source}: {error}") from None

    @classmethod
    def from_yaml(cls, path: str | Path) -> DecodingOptions:
        """Read options from a yaml file; errors name the file."""
        return cls.from_dict(read_yaml(path), str(path))

    @classmethod
    def preset(cls, name: str, **changes: Any) -> DecodingOptions:
        """Return the options of a preset (a key of ``PRESETS``; ``conf/decode`` holds the same), with ``changes``."""
        if name not in PRESETS:
            raise unknown_name("decoding preset", name, PRESETS)
        return cls.from_dict({**PRESETS[name], **changes}, f"decoding preset '{name}'")

    @classmethod
    def resolve(cls, value: DecodingOptions | Mapping[str, Any] | str | Path | None) -> DecodingOptions:
        """Make options from whatever a user gives: nothing (defaults), a mapping, a yaml file, or a preset's name."""
        if value is None:
            return cls()
        if isinstance(value, DecodingOptions):
            return value
        if isinstance(value, Mapping):
            return cls.from_dict(value)
        if str(value) in PRESETS or not (isinstance(value, Path) or Path(value).suffix or Path(value).exists()):
            return cls.preset(str(value))
        return cls.from_yaml(value)

    def level_steps(self, num_levels: int) -> tuple[int, ...]:
        """Return the passes of every level (``num_levels`` numbers), or the one number of joint decoding.

        Raises:
            UserError: If ``steps`` lists more levels than there are.
        """
        if isinstance(self.steps, int):
            return (self.steps,) if self.joint else (self.steps,) * num_levels
        if len(self.steps) > num_levels:
            raise UserError(
                f"decoding option 'steps' lists {len(self.steps)} levels, the codec has {num_levels}; shorten the list"
            )
        return self.steps + (1,) * (num_levels - len(self.steps))

    def top_k_count(self, codebook_size: int) -> int:
        """Return how many tokens ``top_k`` keeps of a codebook; 0 where it is off."""
        if 0 < self.top_k < 1:
            return max(1, round(self.top_k * codebook_size))
        return min(int(self.top_k), codebook_size)

    def chunk_frames(self, frame_rate: float) -> tuple[int, int]:
        """Return (chunk, carry) in frames for a codec of ``frame_rate`` frames per second; chunk 0 means no chunks.

        A chunk is at least one frame longer than what it is given, so that every chunk adds something.
        """
        if self.chunk_seconds == 0:
            return 0, 0
        carry = round(self.carry_seconds * frame_rate)
        return max(round(self.chunk_seconds * frame_rate), carry + 1), carry


def _require(condition: bool, name: str, expected: str, value: object) -> None:
    if not condition:
        raise UserError(f"decoding option '{name}': expected {expected}, found {value!r}")


def _boolean(name: str, value: Any) -> bool:
    _require(isinstance(value, bool), name, "true or false", value)
    return bool(value)


def _integer(name: str, value: Any) -> int:
    _require(isinstance(value, int) and not isinstance(value, bool), name, "a whole number", value)
    return int(value)


def _number(name: str, value: Any) -> float:
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    _require(plain and math.isfinite(value), name, "a number", value)
    return float(value)


def _text(name: str, value: Any) -> str:
    _require(isinstance(value, str), name, f"one of {', '.join(CHOICES[name])}", value)
    return str(value)


def _steps(name: str, value: Any) -> tuple[int, ...] | int:
    numbers = list(value) if isinstance(value, list | tuple) else [value]
    plain = all(isinstance(number, int) and not isinstance(number, bool) and number >= 1 for number in numbers)
    _require(bool(numbers) and plain, name, "a number of passes from 1, or a list of them, one per level", value)
    return tuple(numbers) if isinstance(value, list | tuple) else numbers[0]
