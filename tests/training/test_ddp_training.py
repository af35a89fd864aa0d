"""Two processes of torch.distributed (gloo) train what one process does at the same global batch.

ESPnet splits every batch over the processes. The data is such that nothing is drawn at random, and each process has one
validation recording at a time, from which its mask follows; so all figures agree but for rounding.
"""

import socket
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from exact_corpus import make_exact_corpus
from training_runs import finish, kill, kill_when, start, succeed

from espnet_tse_gen.utils.checkpoints import read_checkpoint

pytestmark = [pytest.mark.ddp, pytest.mark.slow]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_exact_corpus(tmp_path_factory.mktemp("ddp"))


def command(root: Path, output: Path, *options: str, valid: str = "valid") -> list[str]:
    words = ["--config", f"{root}/train.yaml", "--codec_dir", f"{root}/codec", "--output_dir", str(output)]
    for name, folder in (("train", "train"), ("valid", valid)):
        words += [f"--{name}_shape_file", f"{root}/{folder}/shape.scp"]
        for entry in ("wav.scp,speech_mix,sound", "spk1.scp,speech_ref1,sound", "enroll_spk1.scp,enroll_ref1,text"):
            words += [f"--{name}_data_path_and_name_and_type", f"{root}/{folder}/{entry}"]
    return [*words, *options]


def train_together(
    root: Path, output: Path, logs: Sequence[Path], *options: str, valid: str = "valid", kill_at: str = ""
) -> None:
    """Start a process for each log, and wait for all; kill them where the first log says ``kill_at``."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    together = ["--dist_backend", "gloo", "--dist_world_size", str(len(logs)), "--multiprocessing_distributed", "false"]
    together += ["--dist_master_addr", "localhost", "--dist_master_port", str(port), *options]
    processes = [
        start(command(root, output, *together, "--dist_rank", str(rank), valid=valid), log)
        for rank, log in enumerate(logs)
    ]
    if kill_at:
        kill_when(processes[0], logs[0], kill_at)
        for process in processes[1:]:
            kill(process)
        return
    for process, log in zip(processes, logs, strict=True):
        result = finish(process, log)
        assert result.status == 0, result.log


def stored(output: Path, number: int) -> dict[str, dict[str, float]]:
    """The figures of an epoch, unrounded."""
    return torch.load(output / "checkpoint.pth", weights_only=False)["reporter"]["stats"][number]


def assert_equal_weights(one: Path, other: Path) -> None:
    first, second = read_checkpoint(one), read_checkpoint(other)
    assert first.keys() == second.keys()
    for name, value in first.items():
        # What is summed is the same, in another order: float32 keeps seven digits of it, and six steps follow each other.
        torch.testing.assert_close(value, second[name], rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def together(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole training of two processes, each of which has one validation recording at a time."""
    folder = tmp_path_factory.mktemp("together")
    train_together(corpus, folder / "exp", [folder / "log.0", folder / "log.1"])
    return folder / "exp"


def test_two_processes_train_as_one(corpus: Path, together: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    succeed(command(corpus, alone, "--valid_batch_size", "1"), tmp_path / "log")
    for number in (1, 2):
        one, two = stored(alone, number), stored(together, number)
        for part, name in (("train", "loss"), ("train", "grad_norm"), ("train", "acc10_codebook1"), ("valid", "loss")):
            assert two[part][name] == pytest.approx(one[part][name], rel=1e-5), (number, part, name)
        # One recording at a time has no other enrolment to exchange its own with.
        assert np.isnan(one["valid"]["enroll_gain"]) and np.isnan(two["valid"]["enroll_gain"])
    # The comparison would mean nothing if nothing had been learnt.
    assert stored(alone, 2)["train"]["loss"] < stored(alone, 1)["train"]["loss"] - 0.01
    assert_equal_weights(alone / "2epoch.pth", together / "2epoch.pth")
    assert not (together / "checkpoint.previous.pth").exists()
    assert (together / "codec" / "codec.yaml").exists()


def test_two_killed_processes_go_on_as_if_nothing_had_been(corpus: Path, together: Path, tmp_path: Path) -> None:
    logs = [tmp_path / "log.0", tmp_path / "log.1"]
    train_together(corpus, tmp_path / "exp", logs, "--resume", "true", kill_at="2epoch:train:1-1batch")
    assert not (tmp_path / "exp" / "2epoch.pth").exists()
    train_together(corpus, tmp_path / "exp", logs, "--resume", "true")
    assert "training was resumed" in logs[0].read_text()
    assert_equal_weights(tmp_path / "exp" / "2epoch.pth", together / "2epoch.pth")


def test_unequal_shares_of_a_batch(corpus: Path, tmp_path: Path) -> None:
    """The batch of validation has three recordings: two for one process, and one for the other."""
    logs = [tmp_path / "log.0", tmp_path / "log.1"]
    train_together(corpus, tmp_path / "exp", logs, "--max_epoch", "1", valid="odd")
    assert np.isfinite(stored(tmp_path / "exp", 1)["valid"]["enroll_gain"])
