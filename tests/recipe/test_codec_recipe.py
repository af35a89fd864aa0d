"""The codec recipe's run.sh as a user starts it: all stages at a tiny size, then again, and with mistakes."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from programs import ROOT, output_of, refused_in, start
from training_runs import state

RECIPE = ROOT / "egs2" / "librispeech" / "codec1"
SPLITS = {"train": {"train-clean-100": ["1", "2"]}, "dev": {"train-clean-100": ["3"]}, "test": {"test-clean": ["4"]}}

pytestmark = pytest.mark.slow


def run(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Start run.sh with everything that it makes below ``place``."""
    options = f"--librispeech {place}/LibriSpeech --speakers_json {place}/splits.json --valid_subsets="
    command = [str(RECIPE / "run.sh"), "--datadir", f"{place}/data", "--expdir", f"{place}/exp", "--probe", "false"]
    command += ["--train_config", f"{ROOT}/tests/conf/soundstream_test.yaml", "--table_args", "--measures si_sdr"]
    command += ["--local_data_opts", options, *arguments]
    return start(*command)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which all stages have run."""
    folder = tmp_path_factory.mktemp("codec")
    rng = np.random.default_rng(0)
    for subset, speakers in (("train-clean-100", "1235"), ("test-clean", "4")):
        for speaker in speakers:
            chapter = folder / "LibriSpeech" / subset / speaker / "7"
            chapter.mkdir(parents=True)
            for n in range(4 if speaker in "12" else 2):
                soundfile.write(chapter / f"{speaker}-7-{n:04d}.flac", 0.1 * rng.standard_normal(12000), 16000)
    (folder / "splits.json").write_text(json.dumps(SPLITS))
    before = sorted(RECIPE.rglob("*"))
    told = output_of(run(folder))
    assert all(f"Stage {number}: " in told for number in range(1, 5))
    assert sorted(RECIPE.rglob("*")) == before, "the recipe wrote into its own folder"
    return folder


def test_every_stage_left_what_the_next_needs(place: Path) -> None:
    for name, speakers in (("train", {"1", "2"}), ("dev", {"3"}), ("test", {"4"})):
        assert {line.split("-")[0] for line in (place / "data" / name / "wav.scp").read_text().splitlines()} == speakers
    for name in (
        "codec_train_soundstream_test/config.yaml",
        "codec_train_soundstream_test/valid.mel_loss.best.pth",
        "codec_soundstream_test/codec.yaml",
        "codec_soundstream_test/weights.pth",
    ):
        assert (place / "exp" / name).exists(), name
    assert "soundstream_test" in (place / "exp/codec_table_soundstream_test/codec_table.md").read_text()


def test_running_again_changes_nothing(place: Path) -> None:
    before = state(place / "exp")
    assert output_of(run(place)).count("up to date") == 3
    assert state(place / "exp") == before


@pytest.mark.parametrize(
    ("stage", "missing", "maker"),
    [
        (2, "data/train/wav.scp", 1),
        (3, "exp/codec_train_soundstream_test/config.yaml", 2),
        (4, "exp/codec_soundstream_test/codec.yaml", 3),
    ],
)
def test_a_stage_says_which_stage_it_needs(tmp_path: Path, stage: int, missing: str, maker: int) -> None:
    result = run(tmp_path, "--stage", str(stage), "--stop_stage", str(stage))
    refused_in(result, f"{missing} is missing: stage {maker} makes it")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--stage", "two"], "--stage takes a whole number of at least 0, not 'two'"),
        (["--train_config", "conf/train_codec/none.yaml"], "conf/train_codec/none.yaml: no such file"),
        (["--codec_config", "conf/codec/none.yaml"], "conf/codec/none.yaml: no such file"),
        (["--compare", "nowhere"], "--compare: nowhere/codec.yaml: no such file"),
        (["more"], "takes options only, found 'more'"),
        (["--local_data_opts", ""], "--librispeech is missing"),
        (["--local_data_opts", "--librispech a"], "unknown option '--librispech'; did you mean '--librispeech'?"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_made(tmp_path: Path, arguments: list[str], message: str) -> None:
    refused_in(run(tmp_path, *arguments), message)
    assert not os.listdir(tmp_path)
