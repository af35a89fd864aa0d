"""Curves of trainings, read from the logs of ESPnet's trainer, and several trainings compared."""

import xml.etree.ElementTree
from pathlib import Path

import pytest
import torch
from refused import refused

from espnet_tse_gen.bin import compare_trainings
from espnet_tse_gen.report.compare import read_training
from espnet_tse_gen.report.pictures import Chart, read_curves, write_chart
from espnet_tse_gen.utils.files import write_yaml


def epoch(number: int, train: float, valid: float, time: str = "3 minutes and 30.5 seconds") -> str:
    """One line of ESPnet's log, as its reporter writes it."""
    return (
        f"[host] 2026-01-01 00:00:00,000 (trainer:394) INFO: {number}epoch results: [train] iter_time=0.064, "
        f"si_snr_loss_s0={train}, ce_codebook1=2.756, acc=0.330, loss={train}, grad_norm=1.298, optim0_lr0=2.949e-04, "
        f"train_time=1.377, time={time}, total_count={150 * number}, gpu_max_cached_mem_GB=0.000, [valid] "
        f"si_snr_loss_s0={valid}, ce_codebook1=2.877, ce_codebook10=3.1, ce_codebook2=-1e-3, acc=nan, loss={valid}, "
        "time=5.3 seconds, total_count=3, [att_plot] loss=7, time=0.43 seconds, total_count=0\n"
    )


def training(folder: Path, *lines: str, weights: int = 1000) -> Path:
    folder.mkdir(parents=True)
    write_yaml(folder / "config.yaml", {"num_iters_per_epoch": 150})
    torch.save({"layer.weight": torch.zeros(weights)}, folder / "valid.loss.best.pth")
    (folder / "train.log").write_text("".join(lines))
    return folder


def test_a_training_that_went_on_counts_each_epoch_once(tmp_path: Path) -> None:
    assert read_curves(tmp_path) == []
    time = "1 hour, 2 minutes and 3 seconds"
    folder = training(tmp_path / "a", epoch(2, 3.0, -2.25, time), "loss=5, no results\n", epoch(11, 2e0, -1.0))
    (folder / "train.2.log").write_text(epoch(1, 5.0, 1.5) + epoch(2, 9.0, 9.0))
    (folder / "train.10.log").write_text(epoch(2, 8.0, 8.0) + epoch(3, 7.0, float("inf")))
    found = read_training(folder, "si_snr_loss_s0")
    assert (found.name, found.parameters, found.epochs, found.updates) == ("a", 1000, 11, 1650)
    assert found.best == (2, -2.25) and found.points == ((1, 1.5), (2, -2.25), (11, -1.0))
    assert found.minutes == pytest.approx((3 * 210.5 + 3723) / 60)
    loss, acc, _, codebooks = charts = read_curves(folder)
    assert [chart.name for chart in charts] == ["loss", "acc", "si_snr_loss_s0", "ce by codebook (valid)"]
    assert loss.lines["train"] == [(1, 5.0), (2, 3.0), (3, 7.0), (11, 2.0)] and loss.lines["valid"] == [*found.points]
    assert list(acc.lines) == ["train"] and list(codebooks.lines) == ["codebook 1", "codebook 2", "codebook 10"]
    assert loss.summary == "loss by epoch; at epoch 11: train 2, valid -1"


def test_table_and_chart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = training(tmp_path / "first", epoch(1, 5.0, 1.5), epoch(2, 3.0, -2.25))
    training(tmp_path / "second", epoch(1, 5.0, -0.5), weights=2_500_000)
    options = ["--exp_dirs", str(first), f"SpEx+={tmp_path}/second", "--output_dir", str(tmp_path / "out")]
    compare_trainings.main([*options, "--command", "local/compare.sh"])
    rows = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines()]
    assert [cell.strip() for cell in rows[2]] == ["first", "0.00 M", "2", "300", "7", "2.25", "2", "2.25"]
    assert [cell.strip() for cell in rows[3]] == ["SpEx+", "2.50 M", "1", "150", "4", "0.50", "1", "0.50"]
    written, chart = ((tmp_path / f"out/comparison.{end}").read_text() for end in ("md", "svg"))
    assert "local/compare.sh" in written and "comparison.svg" in written
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


@pytest.mark.parametrize("points", [[(3, 0.0)], [(1, 5.0), (2, 5.0)], [(1, -1e-9), (200, 1e9)]])
def test_charts_are_well_formed_and_the_same_every_time(tmp_path: Path, points: list[tuple[int, float]]) -> None:
    chart = Chart("<loss>", {f"codebook {index}": points for index in range(8)})
    for name in ("a.svg", "b.svg"):
        write_chart(tmp_path / name, chart)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    texts = {element.text for element in xml.etree.ElementTree.parse(tmp_path / "a.svg").iter()}
    assert {"<loss>", "epoch", *chart.lines} <= texts
