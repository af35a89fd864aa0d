"""Classes by name: a registry maps a name to ``module:Class``, which is imported when the name is chosen."""

import importlib
import warnings
from collections.abc import Mapping
from typing import Any

from espnet_tse_gen.utils.errors import UserError, check_options, naming_extra, unknown_name

FORMER = {
    "num_levels": "num_codebooks",
    "envelope_levels": "envelope_codebooks",
    "level_dropout": "codebook_dropout",
    "level_distribution": "codebook_distribution",
    "masking: level": "masking: codebook",
}
"""Keys of configurations, or keys with their values, as they were called before, and their names now."""


def imported(location: str, what: str = "this") -> Any:
    """Import and return what ``module:attribute`` names.

    Raises:
        UserError: If a package behind it is not installed; ``what`` says what needs it, and an extra how to install it.
    """
    module, _, attribute = location.partition(":")
    with naming_extra(what):
        return getattr(importlib.import_module(module), attribute)


def chosen(kind: str, name: str, registry: Mapping[str, str]) -> Any:
    """Import and return the class that a registry has under ``name``; ``kind`` is what is chosen, for the message.

    Raises:
        UserError: If the name is unknown (it names the nearest), or a package that the class needs is not installed.
    """
    if name not in registry:
        raise unknown_name(kind, str(name), registry)
    return imported(registry[name], f"{kind} '{name}'")


def built(what: str, cls: Any, conf: Mapping[str, Any], errors: type[Exception] = ValueError, **given: Any) -> Any:
    """Return ``cls(**conf, **given)``; ``given`` is not the user's to set.

    Args:
        what: What it is, for the message ("codec 'mel'").
        errors: What a value that cannot be used may raise, beside ``TypeError``.

    Raises:
        UserError: If an option is unknown (it names the nearest), a value cannot be used, or a package is missing.
    """
    conf = dict(_current(str(name), value, what) for name, value in conf.items())
    check_options(f"option of {what}", conf, cls, given)
    try:
        with naming_extra(what):
            return cls(**conf, **given)
    except UserError:
        raise
    except (TypeError, errors) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{what}: cannot be built from its options ({reason[:300]})") from error


def _current(name: str, value: Any, what: str) -> tuple[str, Any]:
    for before in (name, f"{name}: {value}"):
        if before in FORMER:
            warnings.warn(f"{what}: '{before}' is called '{FORMER[before]}' now", FutureWarning, stacklevel=4)
            name, _, text = FORMER[before].partition(": ")
            value = text or value
    return name, value
