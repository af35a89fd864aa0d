from __future__ import annotations

import xml.etree.ElementTree
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_tse_gen.report.curves import Chart, Line, _ticks, read_curves, summary, write_chart

# As ESPnet's reporter writes an epoch.
RESULTS = (
    "[host] 2026-01-01 00:00:00,000 (trainer:394) INFO: {epoch}epoch results: [train] iter_time=0.064, ce_level1=2.756, "
    "acc=0.330, loss={train}, grad_norm=1.298, optim0_lr0=2.949e-04, train_time=1.313, time=4 minutes and 22.59 seconds, "
    "total_count=2400, [valid] ce_level1=2.877, ce_level10=3.1, ce_level2=-1e-3, acc=nan, loss={valid}, "
    "time=4.78 seconds, total_count=24, [att_plot] loss=7, time=0.43 seconds, total_count=0\n"
)


def write_log(path: Path, losses: dict[int, tuple[str, str]]) -> None:
    lines = [RESULTS.format(epoch=epoch, train=train, valid=valid) for epoch, (train, valid) in losses.items()]
    path.write_text("loss=5, no results\n" + "".join(lines))


def test_logs_of_a_training_that_went_on_are_one_curve(tmp_path: Path) -> None:
    write_log(tmp_path / "train.1.log", {1: ("5.5", "5.25"), 2: ("5", "4")})
    write_log(tmp_path / "train.2.log", {2: ("4.5", "4.25"), 3: ("3e0", "inf")})
    write_log(tmp_path / "train.10.log", {4: ("2.5", "2.25")})
    (tmp_path / "train.log").write_text("nothing yet\n")
    charts = read_curves(tmp_path)
    assert [chart.name for chart in charts] == ["loss", "acc", "ce by level (valid)"]
    loss = {line.name: line.points for line in charts[0].lines}
    assert loss == {
        "train": [(1, 5.5), (2, 4.5), (3, 3.0), (4, 2.5)],
        "valid": [(1, 5.25), (2, 4.25), (4, 2.25)],
    }
    assert [line.name for line in charts[1].lines] == ["train"]
    assert [line.name for line in charts[2].lines] == ["level 1", "level 2", "level 10"]
    assert summary(charts[0]) == "loss by epoch; at epoch 4: train 2.5, valid 2.25"


def test_without_logs_there_are_no_curves(tmp_path: Path) -> None:
    assert read_curves(tmp_path) == []


@settings(max_examples=50)
@given(
    st.floats(-1e6, 1e6),
    st.floats(0, 1e6),
    st.integers(2, 8),
)
def test_ticks_enclose_the_values_and_are_few(low: float, span: float, count: int) -> None:
    ticks = _ticks(low, low + span, count)
    slack = 1e-6 * max(1.0, abs(low), span)
    assert ticks[0] <= low + slack
    assert ticks[-1] >= low + span - slack
    assert 2 <= len(ticks) <= count + 2
    assert list(ticks) == sorted(set(ticks))


@pytest.mark.parametrize("points", [[(3, 0.0)], [(1, 5.0), (2, 5.0)], [(1, -1e-9), (200, 1e9)]])
@pytest.mark.parametrize("count", [1, 2, 8])
def test_charts_are_well_formed_and_inside_their_frame(
    tmp_path: Path, points: list[tuple[int, float]], count: int
) -> None:
    write_chart(tmp_path / "c.svg", Chart("<loss>", [Line(f"level {index}", points) for index in range(count)]))
    root = xml.etree.ElementTree.parse(tmp_path / "c.svg").getroot()
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for element in root.iter():
        for name in ("x", "cx"):
            assert 0 <= float(element.get(name, "0")) <= width
        for name in ("y", "cy"):
            assert 0 <= float(element.get(name, "0")) <= height
