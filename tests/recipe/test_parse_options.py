"""The option parser of the shell scripts, by example scripts that source it."""

import subprocess
from pathlib import Path

import pytest
from programs import ROOT, output_of, refused_in, start

UTILS = ROOT / "egs2" / "TEMPLATE" / "tse_gen1" / "utils"
SCRIPT = f"""#!/usr/bin/env bash
# Does this
#   and that.
set -euo pipefail

# What to do
stage=1          # first stage
test_sets="a b"
skip_train=false # the training,
#   all of it
# Further
empty=           # nothing
. {UTILS / "parse_options.sh"}
later=1
printf '%s|' "$stage" "$test_sets" "$skip_train" "$empty" "$@"
"""


HELP = """\
Usage: script.sh [--option value ...]

Does this
  and that.

Options, with their values:
  What to do
    --stage       first stage (7)
    --test_sets   (a b)
    --skip_train  the training,
                  all of it (false)
  Further
    --empty       nothing
    --config      file of lines 'option=value' that is read before the command line
    --help        this text
"""


def run(folder: Path, *arguments: str, script_text: str = SCRIPT) -> subprocess.CompletedProcess[str]:
    script = folder / "script.sh"
    script.write_text(script_text)
    return start("bash", script, *arguments, folder=folder)


@pytest.mark.parametrize(
    "arguments, expected",
    [
        ([], "1|a b|false||"),
        (["--stage", "3"], "3|a b|false||"),
        (["--stage=3", "--test-sets", "x y"], "3|x y|false||"),
        (["--skip_train", "true", "--test_sets="], "1||true||"),
        (["--empty", "--dash a=b"], "1|a b|false|--dash a=b|"),
        (["--stage", "2", "--stage", "4"], "4|a b|false||"),
        (["--stage", "2", "rest", "--stage", "4"], "2|a b|false||rest|--stage|4|"),
        (["--", "--stage"], "1|a b|false||--stage|"),
        # By its default, an option may hold any text, whatever it was given before.
        (["--empty", "true", "--empty", "x"], "1|a b|false|x|"),
    ],
)
def test_values(tmp_path: Path, arguments: list[str], expected: str) -> None:
    assert output_of(run(tmp_path, *arguments)) in (expected, expected + "|")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--stge", "3"], "unknown option '--stge'; did you mean '--stage'?"),
        (["--skip_trian=true"], "unknown option '--skip_trian'; did you mean '--skip_train'?"),
        (["--PATH", "/"], "unknown option '--PATH'"),
        (["--later", "2"], "unknown option '--later'"),
        (["-s", "2"], "unknown option '-s'"),
        (["--stage"], "option '--stage' needs a value"),
        (["--stge"], "did you mean '--stage'?"),
        (["--skip_train", "yes"], "option '--skip_train' takes true or false, not 'yes'"),
        (["--config", "none.conf"], "none.conf cannot be read"),
        (["--config"], "option '--config' needs a value"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    result = run(tmp_path, *arguments)
    refused_in(result, message)
    assert result.stderr.startswith("script.sh: error: ") and not result.stdout


def test_options_of_another_script_are_handed_on(tmp_path: Path) -> None:
    handing_on = SCRIPT.replace("empty=", "declare -a given=()\nempty=") + "printf '<%s>' \"${given[@]}\"\n"
    (tmp_path / "some.conf").write_text("stage=7\nnj=8\n")
    words = ["--config", "some.conf", "--local_data_opts", "--a b", "--empty=x", "--skip-eval=true", "rest"]
    result = run(tmp_path, *words, script_text=handing_on)
    assert result.stdout == "7|a b|false|x|rest|<--nj=8><--local_data_opts=--a b><--skip_eval=true>", result.stderr
    for arguments, message in (
        (["--nj"], "option '--nj' needs a value"),
        (["--skip_train", "no"], "takes true or false"),
    ):
        refused_in(run(tmp_path, *arguments, script_text=handing_on), message)
    assert run(tmp_path, "--stage", "7", "--help", script_text=handing_on).stdout == HELP


def test_help(tmp_path: Path) -> None:
    result = run(tmp_path, "--stage", "7", "--help")
    assert (result.returncode, result.stdout) == (0, HELP)


def test_the_command_line_wins_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "some.conf").write_text('# defaults\nstage=7  # seventh\ntest-sets="x y"\n\n')
    assert run(tmp_path, "--config", "some.conf").stdout.startswith("7|x y|")
    assert run(tmp_path, "--stage", "2", "--config=some.conf").stdout.startswith("2|x y|")


@pytest.mark.parametrize("line, message", [("stge=1", "did you mean '--stage'?"), ("what", "expected lines")])
def test_mistakes_in_the_file(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "some.conf").write_text(f"{line}\n")
    result = run(tmp_path, "--config", "some.conf")
    refused_in(result, message)
    assert "some.conf: " in result.stderr
