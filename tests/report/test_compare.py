"""Comparing trainings: what is read from their logs, and the table and chart that are made of it."""

from pathlib import Path

import pytest
import torch
from refused import refused

from espnet_tse_gen.bin import compare_trainings
from espnet_tse_gen.report.compare import read_training
from espnet_tse_gen.utils.files import write_yaml

HEAD = "[host] 2026-01-01 00:00:00,000 (trainer:394) INFO: "


def epoch(number: int, train: float, valid: float, time: str = "3 minutes and 30.5 seconds") -> str:
    """One line of ESPnet's log, as its reporter writes it."""
    return (
        f"{HEAD}{number}epoch results: [train] iter_time=0.017, si_snr_loss_s0={train}, loss={train}, optim0_lr0=6.760e-04,"
        f" train_time=1.377, time={time}, total_count={150 * number}, gpu_max_cached_mem_GB=0.000, [valid]"
        f" si_snr_loss_s0={valid}, spk_acc=nan, loss={valid}, time=5.3 seconds, total_count=3, gpu_max_cached_mem_GB=0.000\n"
    )


def training(folder: Path, *lines: str, weights: int = 1000) -> Path:
    folder.mkdir(parents=True)
    write_yaml(folder / "config.yaml", {"num_iters_per_epoch": 150})
    torch.save({"layer.weight": torch.zeros(weights)}, folder / "valid.loss.best.pth")
    (folder / "train.log").write_text("".join(lines))
    return folder


def test_a_training_that_went_on_counts_each_epoch_once(tmp_path: Path) -> None:
    time = "1 hour, 2 minutes and 3 seconds"
    folder = training(tmp_path / "a", epoch(2, 3.0, -2.25, time), epoch(3, 2.0, -1.0))
    (folder / "train.1.log").write_text(epoch(1, 5.0, 1.5) + epoch(2, 9.0, 9.0))
    found = read_training(folder, "si_snr_loss_s0")
    assert (found.name, found.parameters, found.epochs, found.updates) == ("a", 1000, 3, 450)
    assert found.best == (2, -2.25) and found.points == ((1, 1.5), (2, -2.25), (3, -1.0))
    assert found.minutes == pytest.approx((2 * 210.5 + 3723) / 60)


def test_table_and_chart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = training(tmp_path / "first", epoch(1, 5.0, 1.5), epoch(2, 3.0, -2.25))
    training(tmp_path / "second", epoch(1, 5.0, -0.5), weights=2_500_000)
    options = ["--exp_dirs", str(first), f"SpEx+={tmp_path}/second", "--output_dir", str(tmp_path / "out")]
    compare_trainings.main([*options, "--command", "local/compare.sh"])
    rows = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines()]
    assert [cell.strip() for cell in rows[2]] == ["first", "0.00 M", "2", "300", "7", "2.25", "2", "2.25"]
    assert [cell.strip() for cell in rows[3]] == ["SpEx+", "2.50 M", "1", "150", "4", "0.50", "1", "0.50"]
    written = (tmp_path / "out" / "comparison.md").read_text()
    assert "local/compare.sh" in written and "comparison.svg" in written
    chart = (tmp_path / "out" / "comparison.svg").read_text()
    assert "SpEx+" in chart and "first" in chart and "validation SI-SDR (dB)" in chart


@pytest.mark.parametrize(
    ("measure", "log", "message"),
    [
        ("si_snr_loss_s0", "", "holds no train.log with a finished epoch"),
        ("si_snr_loss_s9", epoch(1, 1.0, 1.0), "did you mean 'si_snr_loss_s0'"),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path: Path, measure: str, log: str, message: str) -> None:
    refused(message, read_training, training(tmp_path / "a", log), measure)
