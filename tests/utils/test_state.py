"""Whether an output is current: what changes its state, and the door through which recipes ask."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from programs import ROOT, output_of, start
from refused import refused

import espnet_tse_gen
from espnet_tse_gen.bin import current
from espnet_tse_gen.utils.state import file_state, state_of, words_state

RECIPE = ROOT / "egs2" / "TEMPLATE" / "tse_gen1"
PLAIN = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3))


@given(PLAIN, PLAIN)
def test_equal_values_have_one_state_and_others_another(one: object, other: object) -> None:
    same = json.dumps(one) == json.dumps(other)
    assert (state_of(one) == state_of(other)) == same
    assert state_of(one, other) != state_of([one, other])


def test_a_file_counts_by_path_size_and_time(tmp_path: Path) -> None:
    path, twin = tmp_path / "a.wav", tmp_path / "b.wav"
    absent = state_of(files=[path])
    for file in (path, twin):
        file.write_bytes(b"samples")
        os.utime(file, ns=(10**18, 10**18))
    first = state_of(files=[path])
    assert first == state_of(files=[str(path)]) and len({first, absent, state_of(files=[twin])}) == 3
    os.utime(path, ns=(10**18, 10**18 + 1))
    later = state_of(files=[path])
    path.write_bytes(b"more samples")
    os.utime(path, ns=(10**18, 10**18))
    assert len({first, later, state_of(files=[path])}) == 3
    assert file_state(None) is None and file_state(tmp_path / "none") is None and file_state("nul\0") is None


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """What a stage is made from, in a folder with spaces, and its output."""
    folder = tmp_path / "my data"
    folder.mkdir()
    for name in ("a b.wav", "c.wav", "é.wav"):
        (folder / name).write_bytes(b"samples")
    (folder / "wav.scp").write_text(f"a {folder}/a b.wav\nc {folder}/c.wav:12\nd *drawn speaker\n")
    (folder / "spk2enroll.json").write_text(json.dumps({"ann": [["e", f"{folder}/é.wav"]]}))
    (folder / "train.yaml").write_text("width: 8\n")
    (folder / "model.pth").write_bytes(b"weights")
    (folder / "output").mkdir()
    return folder


def ask(place: Path, *options: str) -> tuple[int, str]:
    """Return the answer of ``todo`` as a stage asks, and what it says."""
    script = f"""set -euo pipefail; python={sys.executable}
    . {RECIPE}/path.sh; . {RECIPE}/utils/recipe_functions.sh; cd "$1"; shift
    if todo .done output "$@" *.scp *.json *.yaml *.pth; then made; exit 3; fi"""
    done = start("bash", "-c", script, "run.sh", place, *options)
    assert not done.stderr
    return done.returncode, done.stdout


def later(path: Path) -> None:
    os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + 1))


CHANGES: dict[str, tuple[Callable[[Path], object], bool]] = {
    "nothing": (lambda place: None, False),
    "a recording of a table": (lambda place: later(place / "a b.wav"), True),
    "an archive of a table": (lambda place: (place / "c.wav").write_bytes(b"other"), True),
    "a recording that is gone": (lambda place: (place / "a b.wav").unlink(), True),
    "an enrolment of a list": (lambda place: later(place / "é.wav"), True),
    "a table": (lambda place: (place / "wav.scp").write_text("a b.wav\n"), True),
    "a table that is written again": (lambda place: later(place / "wav.scp"), False),
    "a file of options": (lambda place: (place / "train.yaml").write_text("width: 9\n"), True),
    "weights": (lambda place: later(place / "model.pth"), True),
    "a further file": (lambda place: (place / "text.scp").touch(), True),
    "the output, lost": (lambda place: (place / "output").rmdir(), True),
    "the record, lost": (lambda place: (place / ".done").unlink(), True),
    "the record, damaged": (lambda place: (place / ".done").write_bytes(b"\xff"), True),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_stage_notices_what_changed(place: Path, change: str) -> None:
    assert ask(place, "--steps 16")[0] == 3
    status, said = ask(place, "--steps 16")
    assert status == 0 and said.endswith("  output: up to date\n")
    alter, noticed = CHANGES[change]
    alter(place)
    assert ask(place, "--steps 16")[0] == (3 if noticed else 0)


def test_an_option_that_can_be_no_file_is_a_value() -> None:
    for option in ("--dynamic_mixing_conf sir_db=8.0 " * 30, "a" * 300, "", "nul\0"):
        assert words_state([option]) == words_state([option]) != words_state([option + " "])
    assert words_state(["--steps", "16"]) != words_state(["--steps 16"])


def test_another_version_of_the_code_is_noticed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [str(place / "train.yaml")]
    (place / ".done").write_text(words_state(words))
    assert current.main([f"{place}/.done", f"{place}/output", *words]) == 0
    monkeypatch.setattr(espnet_tse_gen, "__version__", "99")
    assert current.main([f"{place}/.done", f"{place}/output", *words]) == 1
    assert state_of(1) != state_of(1, version="98") == state_of(1, version="98")
    refused("expected RECORD OUTPUT", current.main, ["only/.done"])


def test_the_door_is_light() -> None:
    code = "import sys; import espnet_tse_gen.bin.current; print(sorted({'torch', 'numpy', 'yaml'} & set(sys.modules)))"
    assert output_of(start(sys.executable, "-c", code, folder=ROOT)) == "[]\n"
