"""The mixture row against published figures: a scorer that does not reproduce them cannot judge a model.

Figures lie in a yaml, by name of a condition, each as the text that was printed, so that its rounding is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from espnet_tse_gen.errors import UserError, unknown_name
from espnet_tse_gen.fileio import read_yaml
from espnet_tse_gen.scoring.metrics import BY_COLUMN
from espnet_tse_gen.scoring.results import NO_VALUE, Bootstrap, Cell, Table, intervals, number
from espnet_tse_gen.scoring.table import Row


def published_tables(
    rows: Sequence[Row], checks: Mapping[str, str], path: str | Path, bootstrap: Bootstrap
) -> list[Table]:
    """Compare a row of each set to a published one.

    Args:
        rows: All rows of the score table.
        checks: Set -> name of an entry in the yaml.
        path: The yaml.
        bootstrap: How intervals are computed.

    Returns:
        One table per set, with "agrees" where the published figure, given its rounding, lies in the 95 % interval.

    Raises:
        UserError: For an unknown set, entry or measure, or an entry without rows to compare.
    """
    entries = read_yaml(path)
    tables = []
    for set_name, entry_name in checks.items():
        if entry_name not in entries:
            raise unknown_name(f"entry of {path}", entry_name, entries)
        if set_name not in {row.set for row in rows}:
            raise unknown_name("set", set_name, {row.set for row in rows})
        entry = _checked(path, entry_name, entries[entry_name])
        part = [row for row in rows if row.set == set_name and row.system == entry["system"]]
        if not part:
            raise UserError(f"set '{set_name}' has no scores of system '{entry['system']}'; score it first")
        tables.append(_compare(set_name, entry, part, bootstrap))
    return tables


def _checked(path: str | Path, name: str, entry: Any) -> dict[str, Any]:
    needed = ("system", "condition", "source", "values")
    if not isinstance(entry, dict) or any(key not in entry for key in needed) or not isinstance(entry["values"], dict):
        raise UserError(f"{path}: entry '{name}' must have {', '.join(needed)} (a mapping measure: 'figure')")
    for column, text in entry["values"].items():
        if column not in BY_COLUMN:
            raise unknown_name(f"measure in entry '{name}' of {path}", str(column), BY_COLUMN)
        try:
            float(text)
        except (TypeError, ValueError):
            raise UserError(f"{path}: entry '{name}': '{column}' is '{text}', expected a number in quotes") from None
    return entry


def _compare(set_name: str, entry: Mapping[str, Any], rows: Sequence[Row], bootstrap: Bootstrap) -> Table:
    columns = list(entry["values"])
    title = f"{entry['system']} on {set_name}: {entry['condition']}"
    table = Table(title, ["measure", "published", "here", "95 % interval", "verdict"])
    for column, interval in zip(columns, intervals(rows, columns, bootstrap), strict=True):
        metric, text = BY_COLUMN[column], str(entry["values"][column])
        label = f"{metric.label} ({metric.unit})" if metric.unit else metric.label
        if not interval.count:
            table.rows.append([Cell(label), Cell(text), Cell(NO_VALUE), Cell(NO_VALUE), Cell("not scored")])
            continue
        digits = len(text.partition(".")[2])
        agrees = interval.agrees_with(float(text) / metric.scale, rounding=0.5 * 10.0**-digits / metric.scale)
        span = f"[{number(metric, interval.low)}, {number(metric, interval.high)}]"
        verdict = "agrees" if agrees else "differs"
        table.rows.append([Cell(label), Cell(text), Cell(number(metric, interval.mean)), Cell(span), Cell(verdict)])
    table.notes.append(f"Source: {entry['source']}. Compared on {len(rows)} items.")
    return table
