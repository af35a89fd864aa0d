"""A command line whose mistakes end in one line that names the nearest valid option, also below subcommands.

Imports nothing heavy, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import re
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from espnet_tse_gen.utils.errors import UserError, unknown_name

TRUE, FALSE = ("true", "yes", "1"), ("false", "no", "0")


class OneLineParser(argparse.ArgumentParser):
    """An :class:`argparse.ArgumentParser` that raises :class:`UserError` instead of printing its usage, and takes no
    abbreviated options, which would change their meaning when an option is added.
    """

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(**kwargs)

    def error(self, message: str) -> NoReturn:
        """Raise the mistake as one line.

        Raises:
            UserError: Always.
        """
        raise UserError(_with_suggestion(self, " ".join(message.split())))


def boolean(text: str) -> bool:
    """Read ``true`` or ``false`` as ESPnet's options write them (an argparse ``type``)."""
    if text.lower() in TRUE:
        return True
    if text.lower() in FALSE:
        return False
    raise argparse.ArgumentTypeError(f"expected true or false, found '{text}'")


def at_least(least: int) -> Callable[[str], int]:
    """Return an argparse ``type`` that takes whole numbers from ``least`` on."""

    def read(text: str) -> int:
        if not text.lstrip("-").isdigit() or int(text) < least:
            raise argparse.ArgumentTypeError(f"expected at least {least}, got {text}")
        return int(text)

    return read


def positive(text: str) -> float:
    """Read a number above 0 (an argparse ``type``)."""
    with contextlib.suppress(ValueError):
        if float(text) > 0:
            return float(text)
    raise argparse.ArgumentTypeError(f"expected more than 0, got {text}")


def _with_suggestion(parser: argparse.ArgumentParser, message: str) -> str:
    unrecognized = re.match(r"unrecognized arguments: (\S+)", message)
    if unrecognized:
        name = unrecognized[1].split("=")[0]
        if not name.startswith("-"):
            return f"unexpected argument '{name}'; see --help"
        near = difflib.get_close_matches(name.lstrip("-"), sorted(set(_option_names(parser))), n=1, cutoff=0.4)
        hint = f"did you mean '--{near[0]}'?" if near else "see --help for the valid ones"
        return f"unknown option '{name}': {hint}"
    choice = re.match(r"argument (.+): invalid choice: '?([^' ]+)'? \(choose from (.*)\)", message)
    if choice:
        kind = "command" if choice[1] in ("command", "COMMAND") else f"value of {choice[1]}"
        return str(unknown_name(kind, choice[2], [name.strip(" '\"") for name in choice[3].split(",")]))
    required = re.match(r"the following arguments are required: (.*)", message)
    return f"{required[1]}: required; see --help" if required else message


def _option_names(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        yield from (flag[2:] for flag in action.option_strings if flag.startswith("--"))
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from _option_names(below)
