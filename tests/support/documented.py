"""Commands in documents, and whether the programs that they name have their options."""

import functools
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
from programs import ROOT

from espnet_tse_gen.cli import main
from espnet_tse_gen.discriminative.registry import task_of

NOT_RUN = {
    "ffmpeg": "needs ffmpeg",
    "network": "fetches from the web",
    "own": "is about files that the reader writes",
}
"""Why a block can be neither run nor checked in full; what of it calls a program of the repository is checked all the same."""
RUN = "run"
COMMANDS = ("check", "doctor", "extract", "info", "models", "pack", "resynth")
"""Commands of ``tse-gen`` that are run."""
CHECKED = {
    "tse-gen codec": "weights from the web, or fitting; tests/codec does both in small",
    "tse-gen report": "needs a decoded set, as tests/report makes one",
    "tse-gen score": "likewise, tests/bin",
    "./run.sh": "trains for hours; tests/recipe runs recipes and their local/*.sh at a tiny size",
    "python -m": "programs of stages, which tests/bin and tests/recipe run",
    "python benchmarks": "minutes and more; tests/test_benchmarks.py runs them at a tiny size",
    "make": "installs, or runs all tests",
    "pip": "installs",
    "pytest": "would start the tests again",
    "tse-gen serve": "does not end by itself; tests/serve use it",
}
"""Commands whose options are checked, and that are not run here."""

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]
PAGES += sorted([*ROOT.glob("egs2/*/*/README.md"), *ROOT.glob("espnet_tse_gen/pretrained/*/README.md")])
RECIPES = sorted(path.parent for path in ROOT.glob("egs2/*/*/run.sh"))
PYTHON = ("python", "python3")
PASSED_ON = {
    "local_data_opts": "local/data.sh",
    "tse_args": "training",
    "codec_args": "codec_prepare",
    "token_args": "codec_tokenize",
    "inference_args": "tse_gen_inference",
    "scoring_args": "score",
    "train_args": "codec_train",
}
"""Options of recipes that hold options of a program."""


class Block(NamedTuple):
    """A block of code."""

    place: str  # file:line
    language: str
    text: str
    marker: str | None  # why it is not run


def blocks(page: Path) -> Iterator[Block]:
    """Yield the blocks between fences, and paragraphs that are indented."""
    language, lines, start, marker, before = None, [], 0, None, ""
    for number, line in enumerate([*page.read_text().splitlines(), ""], 1):
        if language is None and (fence := re.match("```(.*)", line)):
            language, lines, start = fence[1], [], number
            assert language in ("sh", "python", "yaml", "json", "text"), f"{page}:{number}: language '{language}'"
        elif language is None and line.startswith("    ") and not before:
            language, lines, start = "", [line[4:]], number
        elif (language and line != "```") or (language == "" and line.startswith("    ")):
            lines.append(line if language else line[4:])
        elif language is not None:
            guessed = "python" if re.search("^(from|import) ", "\n".join(lines), re.MULTILINE) else "sh"
            yield Block(f"{page.relative_to(ROOT)}:{start}", language or guessed, "\n".join(lines), marker)
            language, marker = None, None
        elif found := re.fullmatch("<!-- not run: (.*) -->", line):
            marker = found[1]
            assert marker in NOT_RUN, f"{page}:{number}: '{marker}' is none of {', '.join(NOT_RUN)}"
        elif line:
            marker = None
        before = "code" if language else line.strip()


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words of each command of a shell script, without what stands for further options."""
    waiting = ""
    for line in text.replace("\\\n", "").splitlines():
        lexer = shlex.shlex(waiting + line, posix=True, punctuation_chars="|&;")
        lexer.whitespace_split = True
        try:
            found = [*lexer, ";"]
        except ValueError:
            # A quotation that goes on in the next line.
            waiting += f"{line}\n"
            continue
        waiting, words = "", []
        for word in found:
            if not re.fullmatch("[|&;]+", word):
                words.append(word)
            elif words:
                yield [one for one in words if one != "..."]
                words = []
    assert not waiting, f"a quotation without an end: {waiting}"


def script_options(script: Path) -> dict[str, str]:
    """Return the options of a script of a recipe with their values."""
    own = script.read_text().split("utils/parse_options.sh")[0]
    options = {name: value.split("#")[0].strip() for name, value in re.findall(r"^([a-z]\w*)=(.*)", own, re.MULTILINE)}
    if script.name == "run.sh" or "declare -a given" in own:
        stages = next(script.parents[script.parent.name == "local"].glob("*_gen.sh"), None)
        options |= script_options(stages or script.with_name("codec.sh"))
    return options | {"config": "", "help": "false"}


@functools.cache
def training_parser(task: str) -> Any:
    """Return ESPnet's parser of a training."""
    if task == "codec_train":
        from espnet_tse_gen.training.codec_task import CodecTask as Task
    elif task == "tse":
        from espnet_tse_gen.training.tse_task import TSETask as Task
    else:
        from espnet_tse_gen.training.tse_gen_task import TSEGenTask as Task
    return Task.get_parser()


def check_options(program: click.Command | str, words: list[str], whole: bool = False) -> None:
    """Hold options against the parser of a program; ``whole``: they are all that it needs."""
    if isinstance(program, str) and program in ("tse", "tse_gen", "codec_train"):
        _, unknown = training_parser(program).parse_known_args([*words, "--output_dir", "exp"])
        assert not unknown, f"unknown: {unknown}"
        return
    if isinstance(program, str):
        program = importlib.import_module(f"espnet_tse_gen.bin.{program}").main
    if whole:
        program.make_context("", list(words))
    else:
        # As the program reads them, but for what it requires.
        program.make_parser(click.Context(program)).parse_args(list(words))


def check_script(script: Path, words: list[str], own: bool) -> None:
    """Hold options against those of a script of a recipe, and those in them against the programs that they are for."""
    options = script_options(script)
    recipe = script.parents[script.parent.name == "local"]
    given = {}
    pairs = iter(words)
    for word in pairs:
        assert word.startswith("--"), f"{script}: '{word}'"
        name, equals, value = word[2:].partition("=")
        assert name in options, f"{script.relative_to(ROOT)}: no option --{name}"
        given[name] = value if equals or name == "help" else next(pairs)
    for name, value in given.items():
        assert options[name] not in ("true", "false") or value in ("true", "false", ""), f"--{name} {value}"
        for file in value.split() if not own else ():
            assert not file.startswith("conf/") or (ROOT / file).is_file(), f"--{name} {file}: no such file"
        if inside := PASSED_ON.get(name):
            value_words = [one for one in shlex.split(value) if one != "..."]
            if inside == "local/data.sh":
                check_script(recipe / inside, value_words, own)
            elif inside == "training":
                config = given.get("tse_config", "")
                check_options(task_of(ROOT / config) if config and not own else "tse_gen", value_words)
            else:
                check_options(inside, value_words)


def check(words: list[str], folder: Path | None, own: bool) -> str:
    """Check one command, in ``folder`` of a recipe if that is known; return which of ``RUN`` and ``CHECKED`` it is, or ""."""
    program, arguments = words[0], words[1:]
    if program in ("cd", "source"):
        return RUN
    if program == "tse-gen":
        command = main.get_command(click.Context(main), arguments[0])
        assert command is not None, f"no command '{arguments[0]}'"
        check_options(command, arguments[1:], whole=True)
        return RUN if arguments[0] in COMMANDS else f"tse-gen {arguments[0]}"
    if program == "./run.sh" or program.startswith("local/"):
        faults = []
        for recipe in [folder] if folder else RECIPES:
            try:
                check_script(recipe / program, arguments, own)
                return "./run.sh"
            except (AssertionError, OSError, SystemExit, click.UsageError) as error:
                faults.append(str(error))
        raise AssertionError("; ".join(faults))
    if program in PYTHON and arguments[0] == "-c":
        return RUN
    if program in PYTHON and arguments[0] == "-m":
        check_options(arguments[1].removeprefix("espnet_tse_gen.bin."), arguments[2:], whole=True)
        return "python -m"
    if program in PYTHON:
        # What all benchmarks share, and those of a few.
        names = (Path(arguments[0]).name, "common.py", "robustness.py")
        known = "".join((ROOT / "benchmarks" / name).read_text() for name in names)
        for word in arguments[1:]:
            assert not word.startswith("--") or f'"{word}"' in known, f"{arguments[0]}: no option {word}"
        return "python benchmarks"
    if program == "make":
        targets = re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(arguments) <= set(targets), words
        return program
    if program == "pip":
        for before, word in zip(words, arguments, strict=False):
            assert before != "-c" or (ROOT / word).is_file(), word
            extras = re.fullmatch(r"[\w.]*\[(.*)\]", word)
            for extra in extras[1].split(",") if extras else ():
                assert f'"{extra}": ' in (ROOT / "setup.py").read_text(), f"no extra '{extra}'"
        return program
    if program == "pytest":
        assert all((ROOT / word).exists() for word in arguments if word.startswith("tests/")), words
        return program
    return ""
