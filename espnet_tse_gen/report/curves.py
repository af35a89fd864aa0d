"""Training curves of the report page: read from the logs of ESPnet's trainer, drawn as small SVG files.

ESPnet's own plots hold one value each; here the codebook levels of one value share a chart, and the drawings follow
the page's light or dark colours. Where there is no log, the report copies ESPnet's plots.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.files import atomic_write

WIDTH, HEIGHT = 480, 280
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 62
# What the log holds about the machine or the schedule rather than the model.
NOT_THE_MODEL = ("time", "cached", "optim", "lr0", "lr1", "loss_scale", "grad_norm", "clip", "total_count")

_EPOCH = re.compile(r" (\d+)epoch results: (.*)")
_PART = re.compile(r"\[(\w+)\] ([^\[]*)")
_VALUE = re.compile(r"(\w+)=([-+]?(?:\d+\.?\d*(?:e[-+]?\d+)?|inf|nan))(?=,|\s*$)")
_LEVEL = re.compile(r"(.+)_level(\d+)")

_CSS = (
    "text{font:12px sans-serif;fill:#1c2024}.axis{stroke:#aab2bb;stroke-width:1;fill:none}"
    ".line{fill:none;stroke-width:2;stroke-linejoin:round}.page{fill:#ffffff}"
    "@media (prefers-color-scheme:dark){text{fill:#e6e9ec}.axis{stroke:#4d5761}.page{fill:#1e2328}}"
)
# Readable on white and on the dark page.
_COLOURS = {"train": "#1f7fd1", "valid": "#d9702a"}


@dataclass
class Line:
    """One line of a chart: name and (epoch, value) in the order of epochs; values are finite."""

    name: str
    points: list[tuple[int, float]] = field(default_factory=list)


@dataclass
class Chart:
    """One chart: what its values are, and its lines."""

    name: str
    lines: list[Line]


def read_curves(exp_dir: Path) -> list[Chart]:
    """Read the curves of a training.

    ESPnet renames ``train.log`` to ``train.1.log``, ``train.2.log``, ... when a training goes on; of an epoch that
    occurs in several logs, the latest counts.

    Args:
        exp_dir: The model's exp directory.

    Returns:
        The loss first, then the other values by name, then the values by codebook level; empty without a log.

    Raises:
        UserError: For a log that cannot be read.
    """
    # ESPnet numbers from the oldest up; the newest has no number.
    numbered = [path for path in exp_dir.glob("train.*.log") if path.name.split(".")[1].isdigit()]
    paths = [*sorted(numbered, key=lambda path: int(path.name.split(".")[1])), exp_dir / "train.log"]
    values: dict[str, dict[str, dict[int, float]]] = {}
    for path in paths:
        if path.is_file():
            _read_log(path, values)
    plain, levels = [], []
    by_level: dict[str, dict[int, dict[int, float]]] = {}
    for name in sorted(values, key=lambda name: (name != "loss", name)):
        found = _LEVEL.fullmatch(name)
        if found is None:
            plain.append(Chart(name, [_line(part, points) for part, points in sorted(values[name].items())]))
        elif "valid" in values[name]:
            by_level.setdefault(found[1], {})[int(found[2])] = values[name]["valid"]
    for name, parts in by_level.items():
        lines = [_line(f"level {level}", points) for level, points in sorted(parts.items())]
        levels.append(Chart(f"{name} by level (valid)", lines))
    charts = [Chart(chart.name, [line for line in chart.lines if line.points]) for chart in (*plain, *levels)]
    return [chart for chart in charts if chart.lines]


def summary(chart: Chart) -> str:
    """The last values of ``chart`` in words, for who cannot see it."""
    last = ", ".join(f"{line.name} {line.points[-1][1]:g}" for line in chart.lines)
    return f"{chart.name} by epoch; at epoch {max(line.points[-1][0] for line in chart.lines)}: {last}"


def write_chart(path: str | Path, chart: Chart) -> None:
    """Draw ``chart`` as an SVG of :data:`WIDTH` x :data:`HEIGHT` pixels; it must have a line with a point."""
    epochs = [epoch for line in chart.lines for epoch, _ in line.points]
    values = [value for line in chart.lines for _, value in line.points]
    ticks = _ticks(min(values), max(values), 5)
    first, last = min(epochs), max(*epochs, min(epochs) + 1)
    low, high = ticks[0], ticks[-1]
    inner_width, inner_height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def across(epoch: float) -> float:
        return LEFT + inner_width * (epoch - first) / (last - first)

    def down(value: float) -> float:
        return TOP + inner_height * (high - value) / (high - low)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}">',
        f"<title>{escape(chart.name)} by epoch</title><style>{_CSS}</style>",
        f'<rect class="page" width="{WIDTH}" height="{HEIGHT}"/>',
    ]
    for tick in ticks:
        parts.append(f'<path class="axis" d="M{LEFT} {down(tick):.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{down(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in _ticks(first, last, 8):
        if first <= tick <= last and tick == round(tick):
            spot = f'x="{across(tick):.1f}" y="{HEIGHT - BOTTOM + 18}"'
            parts.append(f'<text {spot} text-anchor="middle">{tick:g}</text>')
    middle = LEFT + inner_width / 2
    parts.append(f'<text x="{middle:.1f}" y="{HEIGHT - BOTTOM + 34}" text-anchor="middle">epoch</text>')
    step = inner_width / max(len(chart.lines), 4)
    for index, line in enumerate(chart.lines):
        colour = _COLOURS.get(line.name) or _ramp(index, len(chart.lines))
        points = [f"{across(epoch):.1f} {down(value):.1f}" for epoch, value in line.points]
        parts.append(f'<path class="line" stroke="{colour}" d="M{"L".join(points)}"/>')
        if len(points) == 1:
            x, y = points[0].split()
            parts.append(f'<circle cx="{x}" cy="{y}" r="4" fill="{colour}"/>')
        place = LEFT + step * index
        name = line.name.removeprefix("level ") if len(chart.lines) > 4 else line.name
        parts.append(f'<path class="line" stroke="{colour}" d="M{place:.1f} {HEIGHT - 14}h14"/>')
        parts.append(f'<text x="{place + 18:.1f}" y="{HEIGHT - 10}">{escape(name)}</text>')
    with atomic_write(path, encoding="utf-8") as stream:
        stream.write("\n".join([*parts, "</svg>\n"]))


def _read_log(path: Path, values: dict[str, dict[str, dict[int, float]]]) -> None:
    """Add what ``path`` says to ``values``: name -> "train" or "valid" -> epoch -> value."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); check its permissions") from error
    for epoch, results in _EPOCH.findall(text):
        for part, content in _PART.findall(results):
            if part not in ("train", "valid"):
                continue
            for name, value in _VALUE.findall(content):
                if not any(word in name for word in NOT_THE_MODEL):
                    values.setdefault(name, {}).setdefault(part, {})[int(epoch)] = float(value)


def _line(name: str, points: Mapping[int, float]) -> Line:
    return Line(name, [(epoch, value) for epoch, value in sorted(points.items()) if math.isfinite(value)])


def _ramp(index: int, count: int) -> str:
    """Colours for lines that have an order, from blue to red."""
    return f"hsl({220 - 220 * index / max(count - 1, 1):.0f},65%,50%)"


def _ticks(low: float, high: float, count: int) -> Sequence[float]:
    """About ``count`` round numbers that enclose ``low`` to ``high``; at least two."""
    span = max(high - low, 1e-3 * max(abs(low), abs(high)), 1e-9)
    power = 10.0 ** math.floor(math.log10(span / count))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power * count >= span * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    digits = max(0, -math.floor(math.log10(step)))
    return [round(index * step, digits) for index in range(first, max(last, first + 1) + 1)]
