import xml.etree.ElementTree
from pathlib import Path

import pytest

from espnet_tse_gen.report.pictures import Chart, read_curves, write_chart

# As ESPnet's reporter writes an epoch.
RESULTS = (
    "[host] 2026-01-01 00:00:00,000 (trainer:394) INFO: {epoch}epoch results: [train] iter_time=0.064, ce_codebook1=2.756, "
    "acc=0.330, loss={train}, grad_norm=1.298, optim0_lr0=2.949e-04, train_time=1.313, time=4 minutes and 22.59 seconds, "
    "total_count=2400, [valid] ce_codebook1=2.877, ce_codebook10=3.1, ce_codebook2=-1e-3, acc=nan, loss={valid}, "
    "time=4.78 seconds, total_count=24, [att_plot] loss=7, time=0.43 seconds, total_count=0\n"
)


def write_log(path: Path, losses: dict[int, tuple[str, str]]) -> None:
    lines = [RESULTS.format(epoch=epoch, train=train, valid=valid) for epoch, (train, valid) in losses.items()]
    path.write_text("loss=5, no results\n" + "".join(lines))


def test_logs_of_a_training_that_went_on_are_one_curve(tmp_path: Path) -> None:
    assert read_curves(tmp_path) == []
    write_log(tmp_path / "train.1.log", {1: ("5.5", "5.25"), 2: ("5", "4")})
    write_log(tmp_path / "train.2.log", {2: ("4.5", "4.25"), 3: ("3e0", "inf")})
    write_log(tmp_path / "train.10.log", {4: ("2.5", "2.25")})
    (tmp_path / "train.log").write_text("nothing yet\n")
    charts = read_curves(tmp_path)
    assert [chart.name for chart in charts] == ["loss", "acc", "ce by codebook (valid)"]
    assert charts[0].lines == {
        "train": [(1, 5.5), (2, 4.5), (3, 3.0), (4, 2.5)],
        "valid": [(1, 5.25), (2, 4.25), (4, 2.25)],
    }
    assert list(charts[1].lines) == ["train"]
    assert list(charts[2].lines) == ["codebook 1", "codebook 2", "codebook 10"]
    assert charts[0].summary == "loss by epoch; at epoch 4: train 2.5, valid 2.25"


@pytest.mark.parametrize("points", [[(3, 0.0)], [(1, 5.0), (2, 5.0)], [(1, -1e-9), (200, 1e9)]])
@pytest.mark.parametrize("count", [1, 8])
def test_charts_are_well_formed_and_the_same_every_time(
    tmp_path: Path, points: list[tuple[int, float]], count: int
) -> None:
    chart = Chart("<loss>", {f"codebook {index}": points for index in range(count)})
    for name in ("a.svg", "b.svg"):
        write_chart(tmp_path / name, chart)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    texts = {element.text for element in xml.etree.ElementTree.parse(tmp_path / "a.svg").iter()}
    assert {"<loss>", "epoch", *chart.lines} <= texts
