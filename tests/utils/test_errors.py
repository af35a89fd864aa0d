"""A user's mistake is one line and status 2; a defect keeps its traceback."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import espnet_tse_gen.bin
from espnet_tse_gen.utils.errors import EXTRAS, UserError, naming_extra, run_main, unknown_name

BIN = Path(espnet_tse_gen.bin.__file__).parent


def without_extras(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(Path(__file__).parents[1] / "without_extras.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


class Broken(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> int:
        raise UserError("a.wav (key 'k'): has no samples; replace or remove it")


def raise_error(error: BaseException) -> int:
    raise error


def outcome(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, main: object) -> tuple[object, str]:
    monkeypatch.setattr(sys, "argv", ["/somewhere/tool.py"])
    with pytest.raises(SystemExit) as caught:
        run_main(main)  # type: ignore[arg-type]
    return caught.value.code, capsys.readouterr().err


def test_a_users_mistake_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    result = outcome(capsys, monkeypatch, lambda: raise_error(UserError("x.scp: is empty")))
    assert result == (2, "tool: error: x.scp: is empty\n")


def test_a_mistake_met_by_a_workers_process_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    result = outcome(capsys, monkeypatch, lambda: list(torch.utils.data.DataLoader(Broken(), num_workers=1)))
    assert result == (2, "tool: error: a.wav (key 'k'): has no samples; replace or remove it\n")


def test_a_message_of_several_lines_is_joined(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert outcome(capsys, monkeypatch, lambda: raise_error(UserError("one\ntwo")))[1] == "tool: error: one two\n"


@pytest.mark.parametrize(
    ("main", "status"),
    [
        (lambda: None, 0),
        (lambda: 3, 3),
        (lambda: raise_error(KeyboardInterrupt()), 130),
        (lambda: raise_error(BrokenPipeError()), 1),
        (lambda: sys.exit(4), 4),
    ],
)
def test_the_exit_status(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, main: object, status: int
) -> None:
    assert outcome(capsys, monkeypatch, main)[0] == status


def test_a_defect_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run_main(lambda: 1 // 0)


def test_an_unknown_name_gets_the_nearest_valid_one() -> None:
    error = str(unknown_name("codec", "encodek", ["mel", "encodec"]))
    assert error == "unknown codec 'encodek': did you mean 'encodec'? valid: encodec, mel"
    assert str(unknown_name("codec", "qqqq", ["mel"])) == "unknown codec 'qqqq': valid: mel"


def test_a_users_mistake_is_a_value_error() -> None:
    assert issubclass(UserError, ValueError)


def test_a_missing_package_of_an_extra_is_one_line_with_the_pip_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "espnet2", None)
    result = outcome(capsys, monkeypatch, lambda: importlib.import_module("espnet2"))
    command = "pip install 'espnet_tse_gen[espnet]'"
    assert result == (
        2,
        f"tool: error: this command needs the package 'espnet2', which is not installed; run: {command}\n",
    )
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
    done = without_extras(f"espnet_tse_gen.bin.{name}", "--help")
    assert done.returncode == 0 or (done.returncode == 2 and "pip install" in done.stderr), done.stderr
    assert len(done.stderr.splitlines()) <= 1
