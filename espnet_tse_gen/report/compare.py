"""Several trainings side by side: the best validation of each in one table, and their validation curves in one chart.

Meant for ablations, where systems differ in one thing and are trained alike; what they extract is compared by RESULTS.md.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet_tse_gen.report.pictures import Chart, read_curves, read_epochs, write_chart
from espnet_tse_gen.utils.checkpoints import read_checkpoint
from espnet_tse_gen.utils.errors import UserError, unknown_name
from espnet_tse_gen.utils.files import atomic_write, read_yaml
from espnet_tse_gen.utils.model_files import find_checkpoint

_UNITS = {"day": 86400.0, "hour": 3600.0, "minute": 60.0, "second": 1.0}


@dataclass(frozen=True)
class Training:
    """One training, as its directory tells."""

    name: str
    parameters: int  # weights of the checkpoint that decoding would take
    epochs: int
    updates: int  # steps of the optimiser; 0 where the configuration does not say how many an epoch has
    minutes: float  # wall time of the training part of all epochs, as logged; of one that was repeated, the last counts
    points: tuple[tuple[int, float], ...]  # (epoch, value) of the measure in validation

    @property
    def best(self) -> tuple[int, float]:
        """Epoch and value of the best validation."""
        return min(self.points, key=lambda point: point[1])


def read_training(exp_dir: str | Path, measure: str, name: str = "") -> Training:
    """Read the training that made ``exp_dir``; ``name`` is what the table calls it, by default the directory's name.

    ``measure`` is a value that validation logs, the lower the better, such as ``si_snr_loss_s0``.

    Raises:
        UserError: If the directory holds no training, or its validation logs no such value.
    """
    folder = Path(exp_dir)
    config = read_yaml(folder / "config.yaml")
    charts = {chart.name: chart for chart in read_curves(folder)}
    if not charts:
        raise UserError(f"{folder}: holds no train.log with a finished epoch; train first")
    if measure not in charts:
        raise unknown_name(f"measure of {folder}/train.log", measure, charts)
    points = charts[measure].lines.get("valid")
    if not points:
        raise UserError(f"{folder}/train.log: validation logs no '{measure}'; name another measure")
    weights = read_checkpoint(find_checkpoint(folder))
    seconds: dict[int, float] = {}
    for epoch, results in read_epochs(folder):
        match = re.match(r"\[train\] [^\[]*?[ ,]time=([^=\[]*?), total_count", results)
        if match:
            parts = re.findall(r"([\d.]+) (day|hour|minute|second)", match[1])
            seconds[epoch] = sum(float(number) * _UNITS[unit] for number, unit in parts)
    return Training(
        name=name or folder.name,
        parameters=sum(value.numel() for key, value in weights.items() if not key.endswith("num_batches_tracked")),
        epochs=points[-1][0],
        updates=points[-1][0] * (int(config.get("num_iters_per_epoch") or 0) // int(config.get("accum_grad") or 1)),
        minutes=sum(seconds.values()) / 60.0,
        points=tuple(points),
    )


def write_comparison(output_dir: str | Path, trainings: Sequence[Training], measure: str, command: str = "") -> str:
    """Write ``comparison.md`` and ``comparison.svg`` of trainings that were read with ``measure``; return the table.

    Values of a loss in decibels (``si_snr_loss...``) are shown as the ratio itself, the higher the better.
    """
    sign, label = (-1.0, "SI-SDR (dB)") if measure.startswith("si_snr_loss") else (1.0, measure)
    rows = [
        f"| system | parameters | epochs | updates | minutes | best validation {label} | at epoch | last |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in trainings:
        epoch, value = one.best
        rows.append(
            f"| {one.name} | {one.parameters / 1e6:.2f} M | {one.epochs} | {one.updates or '?'} | {one.minutes:.0f} |"
            f" {sign * value:.2f} | {epoch} | {sign * one.points[-1][1]:.2f} |"
        )
    table = "\n".join(rows) + "\n"
    lines = {
        one.name: [(epoch, sign * value) for epoch, value in one.points if math.isfinite(value)] for one in trainings
    }
    write_chart(Path(output_dir) / "comparison.svg", Chart(f"validation {label}", lines))
    with atomic_write(Path(output_dir) / "comparison.md") as stream:
        stream.write(
            f"# Validation of {len(trainings)} trainings\n\n{table}\n![validation by epoch](comparison.svg)\n\n"
            "Minutes are wall time of the training part of epochs, on a machine that may do other work besides.\n"
        )
        stream.write(f"\nMade by `{command}`.\n" if command else "")
    return table
