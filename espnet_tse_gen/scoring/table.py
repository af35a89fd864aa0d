"""``scores.csv``: one row per item (system, set, mixture, target speaker), from which every table is made.

The file holds many systems. Scoring one of them again replaces the rows of that system and set and leaves all others; a
lock keeps two scorings at the same time from losing each other's rows.
"""

import contextlib
import csv
import fcntl
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from espnet_tse_gen.scoring.items import SILENT_OUTPUT
from espnet_tse_gen.scoring.metrics import BY_NAME
from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.files import atomic_write, read_csv

ID_COLUMNS = ("system", "set", "key", "speaker_index", "target", "gender_pair")
NEEDED_COLUMNS = (*ID_COLUMNS, "input_sir")
NOTE_COLUMN = "RTF_condition"
# Further columns of text, written only where a row has some.
TEXT_COLUMNS = ("fault", "tools")


@dataclass
class Row:
    """Scores of one output."""

    system: str  # What made the output
    set: str  # Name of the test set
    key: str  # Mixture id
    speaker_index: int  # Which speaker of the mixture is the target, from 1
    target: str = ""  # Speaker id of the target, or ""
    gender_pair: str = ""  # See :func:`espnet_tse_gen.scoring.items.gender_pair`
    input_sir: float = math.nan  # Target relative to interferers in dB, or NaN
    metrics: dict[str, float] = field(default_factory=dict)  # Column -> value; a measure without a value is absent
    note: str = ""  # Under which conditions the real-time factor was measured, or ""
    fault: str = ""  # Why the item has no scores (see :mod:`espnet_tse_gen.scoring.items`), or ""
    # The networks that gave scores, with their revisions, and the delay that was undone; "" without any
    tools: str = ""


def read_scores(path: str | Path) -> list[Row]:
    """Read ``scores.csv``, which must be a score table with numbers in it."""
    if not Path(path).exists():
        raise UserError(f"{path}: no such file; run scoring first")
    columns, lines = read_csv(path)
    missing = [name for name in NEEDED_COLUMNS if name not in columns]
    if missing:
        raise UserError(f"{path}: is not a score table: column '{missing[0]}' is missing; make it with bin/score.py")
    rows = []
    for cells in lines:
        system, set_name, key, index, target, pair, sir = (cells.pop(name) for name in NEEDED_COLUMNS)
        texts = [cells.pop(name, "") for name in (NOTE_COLUMN, *TEXT_COLUMNS)]
        try:
            metrics = {name: float(text) for name, text in cells.items() if text}
            rows.append(Row(system, set_name, key, int(index), target, pair, float(sir or "nan"), metrics, *texts))
        except (ValueError, TypeError) as error:
            raise UserError(
                f"{path}: holds a value that is not a number ({error}); remove it and score again"
            ) from None
    return rows


def replace_rows(path: str | Path, rows: Sequence[Row]) -> None:
    """Put ``rows`` into the score table at ``path``, in place of all rows of the same system and set.

    Systems keep the order in which they were first scored. A file that would not change is left alone.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(f".{path.name}.lock"), "w", encoding="utf-8") as lock:
        with contextlib.suppress(OSError):  # A file system may have no locks.
            fcntl.flock(lock, fcntl.LOCK_EX)
        old = read_scores(path) if path.exists() else []
        replaced = {(row.system, row.set) for row in rows}
        order: dict[tuple[str, str], int] = {}
        for row in [*old, *rows]:
            order.setdefault((row.set, row.system), len(order))
        merged = [*(row for row in old if (row.system, row.set) not in replaced), *rows]
        merged.sort(key=lambda row: (order[row.set, row.system], row.key, row.speaker_index))
        text = _render(merged)
        if not old or path.read_text(encoding="utf-8") != text:
            with atomic_write(path, newline="") as stream:
                stream.write(text)


def _render(rows: Sequence[Row]) -> str:
    present = {column for row in rows for column in row.metrics}
    columns = [*(name for name in BY_NAME if name in present), *sorted(present - BY_NAME.keys())]
    texts = [name for name in TEXT_COLUMNS if any(getattr(row, name) for row in rows)]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*NEEDED_COLUMNS, *columns, NOTE_COLUMN, *texts])
    for row in rows:
        ids = [getattr(row, name) for name in ID_COLUMNS]
        figures = [row.input_sir, *(row.metrics.get(column, math.nan) for column in columns)]
        shown = ["" if math.isnan(value) else f"{value:.7g}" for value in figures]
        writer.writerow([*ids, *shown, row.note, *(getattr(row, name) for name in texts)])
    return stream.getvalue()


def add_derived(rows: Sequence[Row]) -> None:
    """Add the measures that follow from others.

    ``failed`` is 1 where the output gains less than 1 dB SI-SDR, also where it is silent, which no other measure scores;
    ``silent`` is 1 there, and is added only if any output is silent.
    """
    any_silent = any(row.fault == SILENT_OUTPUT for row in rows)
    for row in rows:
        silent = row.fault == SILENT_OUTPUT
        if silent or "SI_SDRi" in row.metrics:
            row.metrics["failed"] = float(silent or row.metrics["SI_SDRi"] < 1.0)
        if any_silent and (silent or not row.fault):
            row.metrics["silent"] = float(silent)


def columns_present(rows: Sequence[Row], wanted: Iterable[str]) -> list[str]:
    """Return those of ``wanted`` that any row has; aligned SI-SDR is left out where it equals SI-SDR everywhere."""
    found = {column for row in rows for column in row.metrics}
    columns = [column for column in wanted if column in found and column in BY_NAME]
    same = all(row.metrics.get("SI_SDR") == row.metrics.get("SI_SDR_aligned") for row in rows)
    if {"SI_SDR", "SI_SDR_aligned"} <= {*columns} and same:
        columns.remove("SI_SDR_aligned")
    return columns
