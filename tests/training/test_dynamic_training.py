"""Trainings on mixtures drawn on the fly: they run, go on after a kill with the same data, and refuse what cannot be used."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_model import RATE
from training_runs import drawn_from, kill_when, refuse, results, run, start, succeed, training, write_wav

from espnet_tse_gen.bin import prepare_sources
from espnet_tse_gen.utils.checkpoints import read_checkpoint
from espnet_tse_gen.utils.files import read_scp, read_yaml, write_scp

pytestmark = pytest.mark.slow

MIXING = {"min_seconds": 0.5, "absent_share": 0.4, "overlap": [0.5, 1.0], "reverb": "synthetic", "rt60": [0.05, 0.1]}


@pytest.fixture(scope="module")
def sources(corpus: Path) -> Path:
    """The recordings that the corpus has for enrolments: two of each of four voices, one second each."""
    prepare_sources.main(["--spk2enroll", f"{corpus}/spk2enroll.json", "--output_dir", f"{corpus}/sources"])
    return corpus / "sources"


def dynamic(corpus: Path, sources: Path, output: Path, *options: str) -> list[str]:
    """The command line of a training whose mixtures are drawn from ``sources``; two epochs of four batches."""
    command = drawn_from(training(corpus, output), sources)
    command += ["--num_iters_per_epoch", "4", "--max_epoch", "2"]
    for name, value in MIXING.items():
        command += ["--dynamic_mixing_conf", f"{name}={value}"]
    return [*command, *options]


@pytest.fixture(scope="module")
def straight(corpus: Path, sources: Path) -> tuple[Path, str]:
    output = corpus / "exp_dynamic"
    return output, succeed(dynamic(corpus, sources, output), corpus / "dynamic.log")


def test_a_training_without_targets_in_some_items_has_finite_losses(straight: tuple[Path, str]) -> None:
    output, log = straight
    figures = results(log)
    assert sorted(figures) == [1, 2]
    values = {name: float(value) for epoch in figures.values() for name, value in epoch.items()}
    assert all(np.isfinite(value) for value in values.values()), values
    assert float(figures[2]["train/loss"]) != float(figures[1]["train/loss"])
    weights = read_checkpoint(output / "2epoch.pth")
    assert all(bool(torch.isfinite(value).all()) for value in weights.values())
    config = read_yaml(output / "config.yaml")
    assert config["dynamic_mixing_conf"]["absent_share"] == 0.4 and config["dynamic_mixing_conf"]["sir_db"] == 5.0


@pytest.mark.parametrize("workers", [0, 2])
def test_a_killed_training_sees_the_same_data_whatever_the_number_of_workers(
    corpus: Path, sources: Path, straight: tuple[Path, str], tmp_path: Path, workers: int
) -> None:
    log = tmp_path / "log"
    command = dynamic(corpus, sources, tmp_path / "exp", "--resume", "true", "--num_workers", str(workers))
    kill_when(start(command, log), log, "2epoch:train:1-1batch")
    begun = log.read_text()
    again = succeed(command, log)
    assert again.count("training was resumed") == 1
    assert results(begun + again) == results(straight[1])
    wanted, found = (read_checkpoint(path / "2epoch.pth") for path in (straight[0], tmp_path / "exp"))
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)


def test_statistics_are_those_of_the_validation_data(corpus: Path, sources: Path, tmp_path: Path) -> None:
    command = [word for word in dynamic(corpus, sources, tmp_path / "stats") if "shape" not in word]
    succeed([*command, "--collect_stats", "true"], tmp_path / "log")
    valid, train = (read_scp(tmp_path / "stats" / name / "speech_mix_shape") for name in ("valid", "train"))
    assert valid == read_scp(corpus / "stats/valid/speech_mix_shape") and train == {"1-0": "4000"}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--dynamic_mixing", "false"], "'speech' needs --dynamic_mixing true"),
        (["--dynamic_mixing_conf", "sir=3"], "unknown key of --dynamic_mixing_conf 'sir'"),
        (["--dynamic_mixing_conf", "sir_db=-3"], "sir_db: expected a number from 0 to 100"),
        (["--dynamic_mixing_conf", "min_seconds=2"], "0 speaker(s) with utterances of 2 s or more"),
        (["--ref_num", "9"], "expected at least 10"),
        (["--batch_type", "numel"], "--batch_type: 'numel' cannot be used with dynamic mixing"),
        (["--preprocessor_conf", "crop_seconds=0"], "crop_seconds: dynamic mixing needs a mixture's length"),
        (["--train_data_path_and_name_and_type", "x.scp,speech_mix,sound"], "takes 'WAV_SCP,speech,sound'"),
        (
            [
                "--extractor_conf",
                "speaker_embedding=4",
                "--dynamic_mixing_conf",
                "speeds=[0.9,1.0]",
                "--speaker_embeddings",
            ],
            "speeds: speaker embeddings are those at speed 1; leave it out",
        ),
        (["--extractor_conf", "speaker_embedding=4"], "takes embeddings of 4 numbers"),
        (["--speaker_embeddings"], "takes embeddings of 0 numbers"),
        (["--extractor_conf", "speaker_embedding=5", "--speaker_embeddings"], "takes embeddings of 5 numbers"),
    ],
)
def test_mistakes_end_in_one_line_before_anything_is_written(
    corpus: Path, sources: Path, embeddings: Path, tmp_path: Path, options: list[str], says: str
) -> None:
    options = [*options, str(embeddings)] if options[-1] == "--speaker_embeddings" else options
    refuse(says, dynamic(corpus, sources, tmp_path / "exp", *options), tmp_path / "log")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_recording_that_is_damaged_later(corpus: Path, sources: Path, tmp_path: Path, workers: int) -> None:
    for table in ("wav.scp", "utt2spk", "utt2dur"):
        (tmp_path / table).write_text((sources / table).read_text())
    entries = read_scp(tmp_path / "wav.scp")
    for name, path in entries.items():
        if name.endswith("1"):
            entries[name] = write_wav(tmp_path / f"{name}.wav", np.zeros(RATE))
            Path(entries[name]).write_bytes(Path(path).read_bytes()[: RATE // 2])
    write_scp(tmp_path / "wav.scp", entries)
    command = dynamic(corpus, tmp_path, tmp_path / "exp", "--num_workers", str(workers), "--max_epoch", "9")
    result = run(command, tmp_path / "log")
    assert result.status == 2, result.log
    assert "ends before" in result.error and "1.wav (key '" in result.error


@pytest.fixture(scope="module")
def embeddings(corpus: Path) -> Path:
    """Some embedding of width 4 for every recording that is enrolled with."""
    paths = np.array(sorted(str(path) for path in (corpus / "enroll").glob("*.wav")))
    np.savez(corpus / "e.npz", paths=paths, embeddings=np.random.default_rng(0).standard_normal((len(paths), 4)))
    return corpus / "e.npz"


@pytest.mark.parametrize("kind", ["drawn", "mixtures"])
def test_training_with_speaker_embeddings(
    corpus: Path, sources: Path, embeddings: Path, straight: tuple[Path, str], tmp_path: Path, kind: str
) -> None:
    options = ["--max_epoch", "1", "--speaker_embeddings", str(embeddings), "--extractor_conf", "speaker_embedding=4"]
    output = tmp_path / "exp"
    command = dynamic(corpus, sources, output, *options) if kind == "drawn" else training(corpus, output, *options)
    loss = results(succeed(command, tmp_path / "log"))[1]["train/loss"]
    assert np.isfinite(float(loss)) and loss != results(straight[1])[1]["train/loss"]
    assert read_checkpoint(tmp_path / "exp" / "1epoch.pth")["extractor.embedding_map.weight"].shape[1] == 4
