"""Choosing classes and their options by name, with errors that name the nearest valid one."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Mapping
from typing import NoReturn

from espnet2.train.class_choices import ClassChoices

from espnet_tse_gen.utils.errors import UserError, unknown_name
from espnet_tse_gen.utils.registry import chosen


class LazyClassChoices(ClassChoices):
    """ESPnet's ClassChoices over ``"module:Class"`` strings, imported when chosen.

    A codec family whose library is not installed does not keep the others from working.
    """

    def __init__(self, name: str, classes: Mapping[str, str], default: str) -> None:
        super().__init__(name, {}, default=default)
        self.optional = False
        self.locations = dict(classes)

    def choices(self) -> tuple[str | None, ...]:
        """Return the valid names."""
        return tuple(self.locations)

    def get_class(self, name: str | None) -> type:
        """Import and return the class called ``name``.

        Raises:
            UserError: If there is no such name.
        """
        return chosen(self.name, str(name).lower(), self.locations)


def one_line_errors(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Make ``parser`` report a mistake as one :class:`UserError` that suggests the nearest valid name."""

    def error(message: str) -> NoReturn:
        raise UserError(_with_suggestion(parser, " ".join(message.split())))

    parser.error = error  # type: ignore[method-assign]
    return parser


def _with_suggestion(parser: argparse.ArgumentParser, message: str) -> str:
    unrecognized = re.match(r"unrecognized arguments: (\S+)(.*)", message)
    if unrecognized:
        name = unrecognized[1].split("=")[0]
        names = [flag.lstrip("-") for action in parser._actions for flag in action.option_strings]
        near = difflib.get_close_matches(name.lstrip("-"), names, n=1, cutoff=0.4)
        hint = f"did you mean '--{near[0]}'?" if near else "see --help for the valid ones"
        return f"unknown option '{name}'{unrecognized[2]}: {hint}"
    choice = re.match(r"argument (\S+): invalid choice: '?([^' ]+)'? \(choose from (.*)\)", message)
    if choice:
        valid = [name.strip(" '\"") for name in choice[3].split(",")]
        return str(unknown_name(f"value of {choice[1]}", choice[2], valid))
    return message
