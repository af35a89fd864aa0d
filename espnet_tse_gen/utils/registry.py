"""Classes by name: a registry maps a name to ``module:Class``, which is imported when the name is chosen."""

import importlib
import warnings
from collections.abc import Mapping
from typing import Any

from espnet_tse_gen.utils.errors import UserError, check_options, naming_extra, reason_of, unknown_name

FORMER = {
    "num_levels": "num_codebooks",
    "envelope_levels": "envelope_codebooks",
    "level_dropout": "codebook_dropout",
    "level_distribution": "codebook_distribution",
    "masking: level": "masking: codebook",
}
"""Keys of configurations, or keys with their values, as they were called before, and their names now."""


def imported(location: str, what: str = "this") -> Any:
    """Import and return what ``module:attribute`` names; a package that ``what`` lacks for it is a :class:`UserError`."""
    module, _, attribute = location.partition(":")
    with naming_extra(what):
        return getattr(importlib.import_module(module), attribute)


def chosen(kind: str, name: str, registry: Mapping[str, str]) -> Any:
    """Import and return the class of ``kind`` that a registry has under ``name``; an unknown one is a :class:`UserError`."""
    if name not in registry:
        raise unknown_name(kind, str(name), registry)
    return imported(registry[name], f"{kind} '{name}'")


def built(what: str, cls: Any, conf: Mapping[str, Any], errors: type[Exception] = ValueError, **given: Any) -> Any:
    """Return ``cls(**conf, **given)``; ``what`` is it ("codec 'mel'"), and ``given`` is not the user's to set.

    An unknown option, a missing package or a value that cannot be used (``TypeError`` or ``errors``) is a :class:`UserError`.
    """
    conf = dict(_current(str(name), value, what) for name, value in conf.items())
    check_options(f"option of {what}", conf, cls, given)
    try:
        with naming_extra(what):
            return cls(**conf, **given)
    except UserError:
        raise
    except (TypeError, errors) as error:
        raise UserError(f"{what}: cannot be built from its options ({reason_of(error)})") from error


def _current(name: str, value: Any, what: str) -> tuple[str, Any]:
    for before in (name, f"{name}: {value}"):
        if before in FORMER:
            warnings.warn(f"{what}: '{before}' is called '{FORMER[before]}' now", FutureWarning, stacklevel=4)
            name, _, text = FORMER[before].partition(": ")
            value = text or value
    return name, value
