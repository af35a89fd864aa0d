"""Command lines by click: a mistake is one :class:`UserError` that names the nearest valid option or command.

Imports nothing heavy, so that ``--help`` answers at once.
"""

import dataclasses
import difflib
import importlib
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from espnet_tse_gen.utils.errors import DEBUG, UserError, run_main, unknown_name
from espnet_tse_gen.utils.options import Options

PATH = click.Path(path_type=Path)
AT_LEAST_0, AT_LEAST_1 = click.IntRange(min=0), click.IntRange(min=1)


class _OneLine(click.Command):
    """A command whose mistakes are a :class:`UserError`; called with words, or with none for those of the process."""

    def main(self, args: Sequence[str] | None = None, *more: Any, **extra: Any) -> Any:
        """Run the command."""
        try:
            return super().main(args, *more, **{**extra, "standalone_mode": False})
        except click.UsageError as error:
            raise UserError(_one_line(error)) from None
        except click.Abort as abort:
            # click's word for Ctrl-C and for the end of a file; run_main knows the one, and the other is a defect.
            raise abort.__cause__ or abort from None


class Command(_OneLine):
    """A command, some of whose options take all words that follow, up to the next option; see :func:`several`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the words."""
        greedy = {name for option in self.params if isinstance(option, _Several) for name in option.opts}
        words: list[str] = []
        for word in args:
            # `--systems a b` becomes `--systems a --systems b`.
            if len(words) > 1 and words[-2] in greedy and not word.startswith("-"):
                words.append(words[-2])
            words.append(word)
        return super().parse_args(ctx, words)


class Group(_OneLine, click.Group):
    """Commands, those in ``lazy`` (name to the module whose ``main`` it is) imported when they are wanted."""

    def __init__(self, *, lazy: dict[str, str], **settings: Any) -> None:
        super().__init__(no_args_is_help=False, **settings)
        self.lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return [*self.commands, *self.lazy]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, or None where there is no such one."""
        if cmd_name in self.lazy:
            return importlib.import_module(self.lazy[cmd_name]).main
        return super().get_command(ctx, cmd_name)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Find the command that the first word names; an unknown one is a :class:`UserError`."""
        if not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            raise unknown_name("command", args[0], self.list_commands(ctx))
        return super().resolve_command(ctx, args)


class _Several(click.Option):
    pass


def command(function: Callable[..., Any]) -> Command:
    """Make a function, under click's options, the command of a program; its docstring is the command's help."""
    settings = {"show_default": True, "help_option_names": ["-h", "--help"]}
    return click.command(cls=Command, context_settings=settings)(debug_option(function))


def program(function: Callable[..., Any]) -> Command:
    """Make a function the :func:`command` of a module that holds nothing else, and run it where ``python -m`` starts that."""
    made = command(function)
    if function.__module__ == "__main__":
        run_main(made)
    return made


def debug_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``--debug``, with which :func:`run_main` shows the traceback of a user's error."""
    settings: dict[str, Any] = {"is_flag": True, "is_eager": True, "expose_value": False, "show_default": False}
    return click.option("--debug", callback=_set_debug, help="show the traceback of an error", **settings)(function)


def _set_debug(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        # For the processes that this one starts, too.
        os.environ[DEBUG] = "1"


def several(name: str, **settings: Any) -> Callable[..., Any]:
    """Return an option that takes one or more words, also when it is repeated: ``--sets dev test``."""
    return click.option(name, cls=_Several, multiple=True, **settings)


def boolean(name: str, meaning: str, default: bool = False) -> Callable[..., Any]:
    """Return an option that takes ``true`` or ``false``, as ESPnet's options do."""
    return click.option(name, type=click.BOOL, default=default, metavar="BOOL", help=meaning)


def decoding_options(*kinds: type[Options], only: Sequence[str] = ()) -> Callable[..., Any]:
    """Give a command an option for every field of ``kinds`` (or ``only`` some); its argument ``changes`` gets them."""
    meanings: dict[str, list[str]] = {}
    for kind in kinds:
        of = "" if kind is kinds[0] else f"of {kind.models} models: "
        for known in dataclasses.fields(kind):
            choices = known.metadata["choices"]
            meaning = of + known.metadata["meaning"] + (f" ({', '.join(choices)})" if choices else "")
            meanings.setdefault(known.name, []).append(meaning)
        # Read by its old name, too, but not shown.
        meanings.update({old: [] for old in kind.former})

    def decorate(function: Any) -> Any:
        for name, texts in reversed(meanings.items()):
            if not only or name in only:
                settings: dict[str, Any] = {"callback": _read_yaml, "expose_value": False, "hidden": not texts}
                function = click.option(f"--{name}", metavar="VALUE", help="; ".join(texts), **settings)(function)
        return function

    return decorate


def pairs(option: str, texts: Sequence[str], expected: str) -> dict[str, str]:
    """Read words ``NAME=VALUE``; one of another form is an error that names ``option`` and what was ``expected``."""
    found = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not (name and separator and value):
            raise UserError(f"{option} {text}: expected {expected}")
        found[name] = value
    return found


def seconds_range(option: str, text: str) -> tuple[float, float]:
    """Read a part of a recording, ``START-END`` in seconds; what is none is an error that names ``option``."""
    found = re.fullmatch(r"(\d+\.?\d*)-(\d+\.?\d*)", text.strip())
    start, end = map(float, found.groups()) if found else (0.0, 0.0)
    if start >= end:
        fault = "ends before it begins; " if found else ""
        raise UserError(f"{option} {text}: {fault}expected START-END in seconds, as 12.5-18.0")
    return start, end


def _read_yaml(ctx: click.Context, param: click.Parameter, text: str | None) -> None:
    changes = ctx.params.setdefault("changes", {})
    if text is not None:
        import yaml

        try:
            changes[param.name] = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError):  # a ValueError is that of a date that is none
            raise UserError(f"--{param.name}: cannot read the value '{text}'") from None


def _one_line(error: click.UsageError) -> str:
    ctx = error.ctx
    if isinstance(error, click.NoSuchOption) and ctx is not None:
        valid = [name for param in ctx.command.get_params(ctx) for name in (*param.opts, *param.secondary_opts)]
        near = difflib.get_close_matches(error.option_name, valid, n=1, cutoff=0.4)
        hint = f"did you mean '{near[0]}'?" if near else "see --help for the valid ones"
        return f"unknown option '{error.option_name}': {hint}"
    if isinstance(error, click.MissingParameter) and ctx is not None:
        # Those that were given have been read before the first that is missing.
        missing = [param for param in ctx.command.get_params(ctx) if param.required and param.name not in ctx.params]
        return f"{', '.join(_name(param) for param in missing)}: required; see --help"
    if isinstance(error, click.BadParameter) and error.param is not None:
        return f"{_name(error.param)}: {error.message}"
    return f"{error.format_message().rstrip('.')}; see --help"


def _name(param: click.Parameter) -> str:
    return "/".join(param.opts) if isinstance(param, click.Option) else param.human_readable_name
