"""Options of decoding as frozen dataclasses, whose fields say all there is to say of an option, once.

Checks, options of command lines and presets (the files of ``conf/decode``) are made of them. What cannot be used is a
:class:`UserError` that names the option and what it takes.
"""

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from espnet_tse_gen.utils.errors import UserError, unknown_name
from espnet_tse_gen.utils.files import read_yaml

if TYPE_CHECKING:
    from typing_extensions import Self

CONF = Path(__file__).resolve().parents[1] / "conf"
"""The configurations that ship."""
Check = tuple[str, Callable[[Any], bool]]
"""What is expected, and whether a value of the field's type is so."""
FROM_0: Check = ("0 or more", lambda value: value >= 0)
FROM_1: Check = ("1 or more", lambda value: value >= 1)
PROBABILITY: Check = ("a probability in 0..1", lambda value: 0 <= value <= 1)
_TYPES: dict[str, tuple[str, Callable[[Any], bool], type]] = {
    "bool": ("true or false", lambda value: type(value) is bool, bool),
    "int": ("a whole number", lambda value: type(value) is int, int),
    "float": (
        "a number",
        lambda value: (isinstance(value, float) or type(value) is int) and math.isfinite(value),
        float,
    ),
}


def option(
    default: Any, meaning: str, check: Check | None = None, *, choices: tuple[str, ...] = (), read: Any = None
) -> Any:
    """Return a field of a class of options, with its ``meaning``, a line for people, and a ``check`` of its values.

    These are bool, int, float, one of the texts ``choices``, or what ``read(name, value)`` makes of them.
    """
    return field(default=default, metadata={"meaning": meaning, "check": check, "choices": choices, "read": read})


def require(condition: bool, name: str, expected: str, value: object) -> None:
    """Require something of option ``name``, or name it, what was ``expected``, and the value."""
    if not condition:
        raise UserError(f"decoding option '{name}': expected {expected}, found {value!r}")


def presets() -> dict[str, Path]:
    """Return the files of ``conf/decode`` by name."""
    return {path.stem: path for path in sorted(CONF.glob("decode/*.yaml"))}


@dataclass(frozen=True)
class Options:
    """Base of the classes of options; their fields are made by :func:`option`."""

    models: ClassVar[str] = ""  # which models they are for
    former: ClassVar[Mapping[str, str]] = {}  # names that options had in earlier versions, and their names now

    def __post_init__(self) -> None:
        for known in fields(self):
            name, value, choices = known.name, getattr(self, known.name), known.metadata["choices"]
            if choices:
                require(isinstance(value, str), name, f"one of {', '.join(choices)}", value)
                if value not in choices:
                    raise unknown_name(f"value of decoding option '{name}'", value, choices)
            elif known.metadata["read"]:
                value = known.metadata["read"](name, value)
            else:
                # A text where the class's module postpones annotations.
                expected, fits, kind = _TYPES[known.type if isinstance(known.type, str) else known.type.__name__]
                require(fits(value), name, expected, value)
                value = kind(value)
            if known.metadata["check"]:
                expected, fits = known.metadata["check"]
                require(fits(value), name, expected, value)
            object.__setattr__(self, name, value)

    @classmethod
    def names(cls) -> list[str]:
        """Return the names of the options."""
        return [known.name for known in fields(cls)]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], source: str = "") -> "Self":
        """Make options from a mapping; ``source`` says where it comes from, for the error message."""
        at = f"{source}: " if source else ""
        for old in values.keys() & cls.former.keys():
            warnings.warn(f"{at}decoding option '{old}' is called '{cls.former[old]}' now", FutureWarning, stacklevel=3)
        values = {cls.former.get(str(name), str(name)): value for name, value in values.items()}
        for name in values:
            if name not in cls.names():
                others = [kind.models for kind in Options.__subclasses__() if name in kind.names()]
                if not others:
                    raise UserError(f"{at}{unknown_name('decoding option', name, cls.names())}")
                raise UserError(
                    f"{at}decoding option '{name}' is for {others[0]} models, and this one is {cls.models}; its options are "
                    f"{', '.join(cls.names())}"
                )
        try:
            return cls(**values)
        except UserError as error:
            raise UserError(f"{at}{error}") from None

    @classmethod
    def preset(cls, name: str, **changes: Any) -> "Self":
        """Return the options of a preset (the name of a file of ``conf/decode``), with ``changes``."""
        contents = {known: read_yaml(path) for known, path in presets().items()}
        own = [known for known, content in contents.items() if content.keys() <= set(cls.names())]
        if name in contents and name not in own:
            raise UserError(
                f"decoding preset '{name}': is for other models, and this one is {cls.models}; leave it out, or choose "
                f"{', '.join(own)} or a yaml file"
            )
        if name not in own:
            raise unknown_name(f"decoding preset of {cls.models} models", name, own)
        return cls.from_dict({**contents[name], **changes}, f"decoding preset '{name}'")

    @classmethod
    def resolve(cls, value: "Self | Mapping[str, Any] | str | Path | None") -> "Self":
        """Make options from whatever a user gives: nothing (defaults), a mapping, a yaml file, or a preset's name."""
        if value is None:
            return cls()
        if isinstance(value, cls):
            return value
        if isinstance(value, Mapping):
            return cls.from_dict(value)
        path = Path(str(value))
        if str(value) not in presets() and (isinstance(value, Path) or path.suffix or path.exists()):
            return cls.from_dict(read_yaml(path), str(path))
        return cls.preset(str(value))
