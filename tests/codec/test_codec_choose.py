"""What `codec_config: auto` of a recipe stands for, and that the recipe's tags are those of the chosen file."""

import subprocess
import sys
from pathlib import Path

import pytest
from refused import refused

from espnet_tse_gen.bin import codec_choose
from espnet_tse_gen.codec.registry import choose_codec

FETCH = "--codec_args=--download true"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repository: Path) -> Path:
    """A home directory without weights, in a place from which conf/codec is found."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(repository)
    return tmp_path / "home"


def chosen(capsys, *options: str) -> tuple[str, str]:
    codec_choose.main(["--fs", "16000", *options])
    out, err = capsys.readouterr()
    assert out.count("\n") == err.count("\n") == 1
    return Path(out.strip()).stem, err


def test_dac_where_its_weights_are_at_hand_else_the_shipped_codec(home: Path, capsys) -> None:
    pytest.importorskip("dac", reason="needs descript-audio-codec, which the Makefile installs")
    name, why = chosen(capsys)
    cached = home / ".cache/descript/dac/weights_16khz_8kbps_0.0.5.pth"
    assert name == "mini_16k" and str(cached) in why and "--codec_args '--download true'" in why
    assert chosen(capsys, FETCH)[0] == "dac_16k"
    assert chosen(capsys, "--codec_args=--seed 3 --weights a.pth")[0] == "dac_16k"
    cached.parent.mkdir(parents=True)
    cached.touch()
    name, why = chosen(capsys)
    assert name == "dac_16k" and str(cached) in why


def test_recordings_at_8_khz(home: Path, capsys) -> None:
    name, why = chosen(capsys, "--fs", "8000", FETCH)
    assert name == "mel_8k" and "8000 Hz" in why


def test_what_is_prepared_stays_chosen(home: Path, tmp_path: Path, capsys) -> None:
    pytest.importorskip("dac", reason="needs descript-audio-codec, which the Makefile installs")
    cached = home / ".cache/descript/dac/weights_16khz_8kbps_0.0.5.pth"
    cached.parent.mkdir(parents=True)
    cached.touch()
    exp = f"--expdir={tmp_path}/exp"
    for name in ("mini_16k", "dac_16k"):
        (tmp_path / f"exp/codec_{name}").mkdir(parents=True)
        (tmp_path / f"exp/codec_{name}/codec.yaml").touch()
        found, why = chosen(capsys, exp)
        assert found == name and f"codec_{name}/codec.yaml is there" in why
    (tmp_path / "exp/codec_dac_16k/codec.yaml").unlink()
    assert chosen(capsys, exp, FETCH)[0] == "dac_16k"  # asked for by name


def test_without_the_package(home: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dac.model.dac", None)
    name, why = chosen(capsys, FETCH)
    assert name == "mini_16k" and "descript-audio-codec" in why
    refused("descript-audio-codec", codec_choose.main, ["--fs", "16000", "--codec_args=--weights a.pth"])


def test_a_missing_file_and_a_wrong_option(home: Path, tmp_path: Path) -> None:
    refused(r"mel_8k\.yaml: no such file", choose_codec, tmp_path, 8000)
    refused("--download", codec_choose.main, ["--fs", "16000", "--codec_args=--download perhaps"])


@pytest.mark.slow
def test_the_recipe_takes_the_chosen_file(repository: Path, tmp_path: Path) -> None:
    command = [str(repository / "egs2/libri2mix/tse_gen1/run.sh"), "--fs", "8k", "--python", sys.executable]
    command += f"--expdir {tmp_path}/exp --dumpdir {tmp_path}/dump --stage 5 --stop_stage 5".split()
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert "codec_config auto: conf/codec/mel_8k.yaml (the recordings are at 8000 Hz)" in run.stderr
    assert run.returncode == 2 and f"{tmp_path}/exp/codec_mel_8k/codec.yaml is missing: stage 4" in run.stderr
