"""The pictures of the report page, by matplotlib: spectrograms, and training curves read from the logs of ESPnet's trainer.

ESPnet's own plots hold one value each; here the codebooks of one value share a chart.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from espnet_tse_gen.utils.errors import UserError, naming_extra
from espnet_tse_gen.utils.files import atomic_write

WIDTH, HEIGHT = 320, 128
"""Pixels of a spectrogram."""
CHART_WIDTH, CHART_HEIGHT = 480, 280
"""Points of a chart."""
RANGE_DB = 70.0
# What the log holds about the machine or the schedule rather than the model.
NOT_THE_MODEL = ("time", "cached", "optim", "lr0", "lr1", "loss_scale", "grad_norm", "clip", "total_count")

_EPOCH = re.compile(r" (\d+)epoch results: (.*)")
_PART = re.compile(r"\[(\w+)\] ([^\[]*)")
_VALUE = re.compile(r"(\w+)=([-+]?(?:\d+\.?\d*(?:e[-+]?\d+)?|inf|nan))(?=,|\s*$)")
_CODEBOOK = re.compile(r"(.+?)(?:_codebook(\d+))?")
# Readable on white.
_COLOURS = {"train": "#1f7fd1", "valid": "#d9702a"}


@dataclass
class Chart:
    """One chart: what its values are, and its lines, name -> (epoch, finite value) in the order of epochs."""

    name: str
    lines: dict[str, list[tuple[int, float]]]

    @property
    def summary(self) -> str:
        """The last values in words, for who cannot see it."""
        last = ", ".join(f"{name} {points[-1][1]:g}" for name, points in self.lines.items())
        return f"{self.name} by epoch; at epoch {max(points[-1][0] for points in self.lines.values())}: {last}"


def write_spectrogram(
    path: str | Path, samples: np.ndarray, sample_rate: int, full_scale: float | None = None
) -> float:
    """Write a JPEG of :data:`WIDTH` x :data:`HEIGHT` pixels: time to the right, 0 Hz at the bottom, linear frequency.

    ``samples`` are float ``[L]``. ``full_scale`` is the magnitude shown as the brightest colour, by default the largest, and
    is returned; the same for all signals of a mixture makes their levels comparable. The darkest colour is 70 dB below.
    """
    found = magnitudes(samples, sample_rate)
    full_scale = float(np.max(found, initial=0.0)) if full_scale is None else full_scale
    level = 20.0 * np.log10(np.maximum(found, 1e-12) / max(full_scale, 1e-12))

    def draw(figure: Any) -> None:
        axes = figure.add_axes((0, 0, 1, 1))
        axes.axis("off")
        axes.imshow(
            level, cmap="magma", vmin=-RANGE_DB, vmax=0.0, origin="lower", aspect="auto", interpolation="antialiased"
        )

    _write(path, draw, (WIDTH / 100, HEIGHT / 100), format="jpeg", dpi=100)
    return full_scale


def write_chart(path: str | Path, chart: Chart) -> None:
    """Draw ``chart`` as an SVG; it must have a line with a point."""

    def draw(figure: Any) -> None:
        from matplotlib import colormaps
        from matplotlib.ticker import MaxNLocator

        axes = figure.add_subplot()
        for index, (name, points) in enumerate(chart.lines.items()):
            # Lines that have an order go from dark to bright.
            colour = _COLOURS.get(name) or colormaps["viridis"](index / len(chart.lines))
            axes.plot(*zip(*points, strict=True), color=colour, label=name, marker="o" if len(points) == 1 else None)
        axes.set(title=chart.name, xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, ncols=1 + len(chart.lines) // 6)

    _write(path, draw, (CHART_WIDTH / 72, CHART_HEIGHT / 72), format="svg", metadata={"Date": None})


def read_curves(exp_dir: Path) -> list[Chart]:
    """Read the curves of a training: loss, other values by name, values by codebook; empty without a log.

    ESPnet renames ``train.log`` to ``train.1.log``, ``train.2.log``, ... when a training goes on; of an epoch that
    occurs in several logs, the latest counts.
    """
    values: dict[str, dict[str, dict[int, float]]] = {}
    for epoch, results in read_epochs(exp_dir):
        for part, content in _PART.findall(results):
            for name, value in _VALUE.findall(content):
                if part in ("train", "valid") and not any(word in name for word in NOT_THE_MODEL):
                    values.setdefault(name, {}).setdefault(part, {})[epoch] = float(value)
    charts: dict[str, dict[str, list[tuple[int, float]]]] = {}
    found = [(*_CODEBOOK.fullmatch(name).groups(), name) for name in values]  # type: ignore[union-attr]
    # The codebooks of one value after all others, by their numbers.
    for stem, number, name in sorted(found, key=lambda one: (bool(one[1]), one[0] != "loss", one[0], int(one[1] or 0))):
        for part, by_epoch in sorted(values[name].items()):
            points = [(epoch, value) for epoch, value in sorted(by_epoch.items()) if math.isfinite(value)]
            if number and points and part == "valid":
                charts.setdefault(f"{stem} by codebook (valid)", {})[f"codebook {number}"] = points
            elif points and not number:
                charts.setdefault(name, {})[part] = points
    return [Chart(*chart) for chart in charts.items()]


def read_epochs(exp_dir: Path) -> list[tuple[int, str]]:
    """Return the lines of results in the logs of a training, as (epoch, text), in the order in which they were written."""
    # ESPnet numbers from the oldest up; the newest has no number.
    numbered = [path for path in exp_dir.glob("train.*.log") if path.name.split(".")[1].isdigit()]
    found: list[tuple[int, str]] = []
    for path in [*sorted(numbered, key=lambda path: int(path.name.split(".")[1])), exp_dir / "train.log"]:
        try:
            text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror or error}); check its permissions") from error
        found += [(int(epoch), results) for epoch, results in _EPOCH.findall(text)]
    return found


def magnitudes(samples: np.ndarray, sample_rate: int, hop: int = 0) -> np.ndarray:
    """Magnitudes ``[F, T]`` with windows of 32 ms every 8 ms, or every ``hop`` samples if that is more."""
    size = max(64, round(0.032 * sample_rate))
    padded = np.pad(samples.astype(np.float64), (size // 2, size))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[:: max(size // 4, hop)]
    return np.asarray(np.abs(np.fft.rfft(frames * np.hanning(size), axis=1)).T)


def _write(path: str | Path, draw: Callable[[Any], None], inches: tuple[float, float], **options: Any) -> None:
    """Let ``draw`` fill a figure, and write it."""
    with naming_extra("the report"):
        import matplotlib
        from matplotlib.figure import Figure

    # Text as text, and the same names inside the file every time.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "report"}):
        figure = Figure(figsize=inches, layout="constrained" if options["format"] == "svg" else None)
        draw(figure)
        with atomic_write(path, "w" if options["format"] == "svg" else "wb") as stream:
            figure.savefig(stream, **options)
