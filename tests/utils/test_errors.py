"""A user's mistake is one line and status 2; a defect keeps its traceback."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from programs import ROOT, start

import espnet_tse_gen.bin
from espnet_tse_gen.utils.errors import EXTRAS, UserError, naming_extra, run_main, unknown_name

BIN = Path(espnet_tse_gen.bin.__file__).parent


class Broken(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> int:
        raise UserError("a.wav: has no samples")


def raise_error(error: BaseException) -> int:
    raise error


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[[Any], tuple[object, str]]:
    """Return what runs a command: its exit status, and what it says on stderr."""

    def outcome(main: Any) -> tuple[object, str]:
        with pytest.raises(SystemExit) as caught:
            run_main(main, "tool")
        return caught.value.code, capsys.readouterr().err

    return outcome


@pytest.mark.parametrize(
    ("main", "status", "line"),
    [
        (lambda: None, 0, ""),
        (lambda: 3, 3, ""),
        (lambda: sys.exit(4), 4, ""),
        (lambda: raise_error(BrokenPipeError()), 1, ""),
        (lambda: raise_error(KeyboardInterrupt()), 130, "tool: interrupted\n"),
        (lambda: raise_error(UserError("one\ntwo")), 2, "tool: error: one two\n"),
        # In a process of its own, whose traceback comes with it.
        (lambda: [*torch.utils.data.DataLoader(Broken(), num_workers=1)], 2, "tool: error: a.wav: has no samples\n"),
    ],
)
def test_a_command_ends_with_its_status_and_at_most_one_line(run: Any, main: object, status: int, line: str) -> None:
    assert run(main) == (status, line)


def test_a_defect_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run_main(lambda: 1 // 0)


def test_an_unknown_name_gets_the_nearest_valid_one() -> None:
    error = unknown_name("codec", "encodek", ["mel", "encodec"])
    assert str(error) == "unknown codec 'encodek': did you mean 'encodec'? valid: encodec, mel"
    assert str(unknown_name("codec", "qqqq", ["mel"])) == "unknown codec 'qqqq': valid: mel"


def test_a_missing_package_of_an_extra_is_one_line_with_the_pip_command(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "espnet2", None)
    needs = "tool: error: this command needs the package 'espnet2', which is not installed; run: pip install "
    assert run(lambda: importlib.import_module("espnet2")) == (2, f"{needs}'espnet_tse_gen[espnet]'\n")
    wanted = r"DNSMOS needs .*\[espnet\]', or leave it out$"
    with pytest.raises(UserError, match=wanted), naming_extra("DNSMOS", "leave it out"):
        importlib.import_module("espnet2")


@pytest.mark.parametrize("module", ["espnet_tse_gen.no_such_part", "espnet2.no_such_part", "no_such_package"])
def test_other_missing_modules_are_defects(module: str) -> None:
    with pytest.raises(ModuleNotFoundError), naming_extra():
        importlib.import_module(module)


def test_every_extra_that_is_named_is_one_of_setup_py(repository: Path) -> None:
    setup = (repository / "setup.py").read_text()
    assert all(f'"{extra}": ' in setup for extra in EXTRAS.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.stem for path in BIN.glob("[a-z]*.py")))
def test_every_command_shows_its_help_or_the_pip_command_without_the_extras(name: str) -> None:
    done = start(sys.executable, ROOT / "tests/without_extras.py", f"espnet_tse_gen.bin.{name}", "--help")
    assert done.returncode == 0 or (done.returncode == 2 and "pip install" in done.stderr), done.stderr
    assert len(done.stderr.splitlines()) <= 1
