"""The run.sh of egs2/librispeech with a discriminative extractor, all stages at a tiny size, beside a masked generative one."""

import csv
import json
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from programs import ROOT, output_of, start

RECIPE = ROOT / "egs2" / "librispeech" / "tse_gen1"
SPLITS = {
    "train": {"train-clean-100": ["1", "2", "3"]},
    "dev": {"dev-clean": ["4", "5"]},
    "test": {"test-clean": ["6", "7"]},
}
RATE = 16000

pytestmark = pytest.mark.slow


def run(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Start run.sh with everything that it makes below ``place``."""
    options = f"--librispeech {place}/LibriSpeech --speakers_json {place}/splits.json --train_subsets= --valid_subsets="
    options += f" --test_subsets= --dev_mixtures 2 --test_mixtures 2 --downloads {place}/downloads"
    command = [f"{RECIPE}/run.sh"]
    for name in ("data", "dump", "exp"):
        command += [f"--{name}dir", f"{place}/{name}"]
    command += ["--tse_config", f"{ROOT}/tests/conf/mc_spex_test.yaml", "--inference_nj", "1"]
    command += ["--inference_config", "conf/decode/segments.yaml conf/decode/one_step.yaml"]
    command += ["--pretrained_exp", str(ROOT / "espnet_tse_gen" / "pretrained" / "tse_gen_16k")]
    command += ["--local_data_opts", options, *arguments]
    return start(*command)


def speech(seed: int, seconds: float) -> np.ndarray:
    """Harmonics of a voice that rise, fall and pause as syllables do; float32 ``[L]``."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    pitch = (90 + 30 * (seed % 7)) * (1 + 0.1 * np.sin(2 * np.pi * (0.7 + 0.1 * rng.random()) * time))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    tones = sum(np.sin(n * phase + rng.uniform(0, 6)) / n for n in range(1, 20))
    syllables = np.clip(np.sin(2 * np.pi * (2.5 + rng.random()) * time + rng.uniform(0, 6)), 0, 1)
    return (0.1 * tones * syllables + 0.001 * rng.standard_normal(len(time))).astype(np.float32)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which all stages have run."""
    folder = tmp_path_factory.mktemp("librispeech")
    for split in SPLITS.values():
        for subset, speakers in split.items():
            for speaker in speakers:
                chapter = folder / "LibriSpeech" / subset / speaker / "9"
                chapter.mkdir(parents=True)
                for n in range(3):
                    samples = speech(10 * int(speaker) + n, 2.2 + 0.2 * n)
                    soundfile.write(chapter / f"{speaker}-9-{n:04d}.flac", samples, RATE)
    (folder / "splits.json").write_text(json.dumps(SPLITS))
    told = output_of(run(folder))
    stages = [number for number in range(1, 12) if f"Stage {number}: " in told]
    assert stages == [1, 2, 3, 6, 7, 8, 9, 10, 11], "a discriminative extractor needs neither codec nor tokens"
    return folder


def test_speakers_are_those_of_their_split(place: Path) -> None:
    spoken = {line.split("-")[0] for line in (place / "data" / "train" / "wav.scp").read_text().splitlines()}
    assert spoken == {"1", "2", "3"}
    assert (place / "exp" / "mc_spex_test_dynamic_mixingtrue" / "speakers.txt").read_text().split() == ["1", "2", "3"]
    for name, speakers in (("dev", {"4", "5"}), ("test", {"6", "7"})):
        keys = [line.split()[0] for line in (place / "dump" / "raw" / name / "wav.scp").read_text().splitlines()]
        assert len(keys) == 2 and {part.split("-")[0] for key in keys for part in key.split("_")} == speakers


def test_both_kinds_stand_in_one_table(place: Path) -> None:
    exp = place / "exp" / "mc_spex_test_dynamic_mixingtrue"
    with open(exp / "scores.csv", newline="") as stream:
        systems = {row["system"] for row in csv.DictReader(stream)}
    ours, masked = f"{exp.name} segments", "tse_gen_16k one_step"
    assert systems == {"mixture", "codec of tse_gen_16k", ours, masked}
    results = (exp / "RESULTS.md").read_text()
    assert all(f"| {system} |" in results for system in systems)
    page = (exp / "report" / "index.html").read_text()
    assert ours in page and masked in page
    with zipfile.ZipFile(exp / f"{exp.name}.zip") as packed:
        names = {Path(name).name for name in packed.namelist()}
    assert "config.yaml" in names and not any(name.startswith("codec") for name in names)


def test_a_second_run_does_nothing(place: Path) -> None:
    files = {path: path.stat().st_mtime_ns for path in (place / "exp").rglob("*") if path.is_file()}
    output_of(run(place, "--stage", "2"))
    assert not {path for path, time in files.items() if path.stat().st_mtime_ns != time}


def test_scores_of_what_is_decoded_go_to_another_folder_and_come_back_when_removed(place: Path) -> None:
    """Outputs that were scored for one table have rows in the next one, too, without being decoded again."""
    options = ["--skip_data_prep", "true", "--skip_train", "true", "--skip_packing", "true", "--tse_tag", "named"]
    wanted = {"mixture", "codec of tse_gen_16k", "tse_gen_16k one_step"}
    scores = place / "exp" / "named" / "scores.csv"
    decoded = {path: path.stat().st_mtime_ns for path in (place / "exp").rglob("wavs/**/*.wav")}
    for _ in range(2):
        output_of(run(place, "--stage", "8", "--stop_stage", "9", *options))
        with open(scores, newline="") as stream:
            assert {row["system"] for row in csv.DictReader(stream)} == wanted
        assert (scores.with_name("RESULTS.md")).exists()
        scores.unlink()
    assert decoded and {path: path.stat().st_mtime_ns for path in decoded} == decoded


def test_another_rate_than_the_configuration_is_one_line(place: Path) -> None:
    result = run(place, "--fs", "8k", "--stage", "6")
    assert result.returncode == 2 and "is for recordings at 16000 Hz" in result.stderr
    assert "Traceback" not in result.stderr
