"""Result tables from the rows of ``scores.csv``: per set, by gender pair and by input SIR, for Markdown and the page.

A table is built once, as headings and cells, and rendered by whoever needs it, so that ``RESULTS.md`` and the report
page cannot differ.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from espnet_tse_gen.scoring.metrics import (
    BREAKDOWN_COLUMNS,
    BY_COLUMN,
    FURTHER_COLUMNS,
    MAIN_COLUMNS,
    Metric,
    level_columns,
    level_metric,
)
from espnet_tse_gen.scoring.stats import Interval, bootstrap_means
from espnet_tse_gen.scoring.table import Row, columns_present
from espnet_tse_gen.utils.errors import unknown_name

SIR_BINS: tuple[tuple[str, float, float], ...] = (
    ("below -5 dB", -math.inf, -5.0),
    ("-5 to 0 dB", -5.0, 0.0),
    ("0 to 5 dB", 0.0, 5.0),
    ("5 dB and above", 5.0, math.inf),
)
NO_VALUE = "n/a"
GENDER_PAIRS = ("different", "female+female", "male+male")


@dataclass
class Cell:
    """One cell: the figure, and its interval or remark in smaller print."""

    text: str
    detail: str = ""


@dataclass
class Table:
    """Headings and rows of cells; the first ``labels`` columns name the row, the others hold figures."""

    title: str
    headings: list[str]
    rows: list[list[Cell]] = field(default_factory=list)
    labels: int = 1
    notes: list[str] = field(default_factory=list)


@dataclass
class Bootstrap:
    """How intervals are computed."""

    resamples: int = 1000
    seed: int = 0


def order_systems(rows: Sequence[Row], wanted: Sequence[str] = ()) -> list[str]:
    """Return the names of all systems in ``rows``: those in ``wanted`` first, in that order, the others as they occur.

    Raises:
        UserError: If a wanted system has no rows.
    """
    found = list(dict.fromkeys(row.system for row in rows))
    for name in wanted:
        if name not in found:
            raise unknown_name("system", name, found)
    return [*dict.fromkeys(wanted), *(name for name in found if name not in wanted)]


def order_sets(rows: Sequence[Row], wanted: Sequence[str] = ()) -> list[str]:
    """Return the names of the sets to report: ``wanted``, or all in the order of the file.

    Raises:
        UserError: If a wanted set has no rows.
    """
    found = list(dict.fromkeys(row.set for row in rows))
    for name in wanted:
        if name not in found:
            raise unknown_name("set", name, found)
    return list(dict.fromkeys(wanted)) or found


def intervals(rows: Sequence[Row], columns: Sequence[str], bootstrap: Bootstrap) -> list[Interval]:
    """Means of ``columns`` over ``rows`` with intervals over mixtures; error rates are weighted by their words."""
    values = _matrix(rows, columns)
    weighted = [BY_COLUMN[column].weight if column in BY_COLUMN else "" for column in columns]
    weights = _matrix(rows, weighted)
    weights[:, [not name for name in weighted]] = 1.0
    keys = [row.key for row in rows]
    return bootstrap_means(values, keys, bootstrap.resamples, bootstrap.seed, weights=weights)


def _matrix(rows: Sequence[Row], columns: Sequence[str]) -> np.ndarray:
    """``columns`` of ``rows`` as float ``[N, M]``, NaN where a row has no value."""
    values = [[row.metrics.get(column, math.nan) for column in columns] for row in rows]
    return np.array(values, dtype=np.float64).reshape(len(rows), len(columns))


def main_table(
    rows: Sequence[Row], systems: Sequence[str], bootstrap: Bootstrap, measures: Sequence[str] = MAIN_COLUMNS
) -> Table:
    """Those of ``measures`` that there are, of every system on the rows of one set."""
    table = _table("All items", rows, systems, bootstrap, columns_present(rows, measures))
    conditions = {}
    for system in systems:
        part = [row for row in rows if row.system == system]
        conditions[system] = next((row.note for row in part if row.note), "")
        table.notes += _faults(system, part)
    table.notes += [f"RTF of {system}: {note}." for system, note in conditions.items() if note]
    table.notes += _tools(rows, systems)
    table.notes += _uneven(rows, systems)
    return table


def further_tables(
    rows: Sequence[Row], systems: Sequence[str], bootstrap: Bootstrap, measures: Sequence[str] = MAIN_COLUMNS
) -> list[Table]:
    """What the main table leaves out: the other measures, and the token accuracy of each level; without empty tables."""
    others = [column for column in (*FURTHER_COLUMNS, *MAIN_COLUMNS) if column not in measures]
    levels = level_columns({column for row in rows for column in row.metrics})
    tables = []
    for title, columns in (("Further measures", columns_present(rows, others)), ("Token accuracy by level", levels)):
        having = [
            name for name in systems if any(row.system == name and {*columns} & row.metrics.keys() for row in rows)
        ]
        if having:
            tables.append(_table(title, rows, having, bootstrap, columns))
    return tables


def _table(
    title: str, rows: Sequence[Row], systems: Sequence[str], bootstrap: Bootstrap, columns: Sequence[str]
) -> Table:
    """One row per system, one column per measure."""
    headings = [(BY_COLUMN.get(column) or level_metric(column)).heading for column in columns]
    table = Table(title, ["system", "items", *headings])
    for system in systems:
        part = [row for row in rows if row.system == system]
        if part:
            cells = figure_cells(part, columns, bootstrap)
            table.rows.append([Cell(system), Cell(str(len(part)), _mixtures(part)), *cells])
    return table


def breakdown_tables(rows: Sequence[Row], systems: Sequence[str], bootstrap: Bootstrap) -> list[Table]:
    """The tables by gender pair and by input SIR of one set; a table is left out where its facts are unknown."""
    columns = columns_present(rows, ("SI_SDR", *BREAKDOWN_COLUMNS))
    if {"SI_SDR", "SI_SDR_aligned"} <= {*columns}:
        columns.remove("SI_SDR")
    pairs = [*GENDER_PAIRS, *sorted({row.gender_pair for row in rows} - {*GENDER_PAIRS, ""})]
    by_gender = {name: [row for row in rows if row.gender_pair == name] for name in pairs}
    by_sir = {name: [row for row in rows if low <= row.input_sir < high] for name, low, high in SIR_BINS}
    tables = []
    for title, heading, groups in (("By gender pair", "pair", by_gender), ("By input SIR", "input SIR", by_sir)):
        table = Table(title, [heading, "system", "items", *(BY_COLUMN[c].heading for c in columns)], labels=2)
        for name, group in groups.items():
            for system in systems:
                part = [row for row in group if row.system == system]
                if part:
                    cells = figure_cells(part, columns, bootstrap)
                    table.rows.append([Cell(name), Cell(system), Cell(str(len(part))), *cells])
        if table.rows:
            tables.append(table)
    return tables


def figure_cells(rows: Sequence[Row], columns: Sequence[str], bootstrap: Bootstrap) -> list[Cell]:
    """Mean and interval of each column as cells."""
    cells = []
    for column, interval in zip(columns, intervals(rows, columns, bootstrap), strict=True):
        cells.append(format_interval(BY_COLUMN.get(column) or level_metric(column), interval, len(rows)))
    return cells


def format_interval(metric: Metric, interval: Interval, items: int) -> Cell:
    """Show a mean with its interval, and the number of values where some of ``items`` have none."""
    if not interval.count:
        return Cell(NO_VALUE)
    detail = ""
    low, high = number(metric, interval.low), number(metric, interval.high)
    if low != high:
        detail = f"[{low}, {high}]"
    if interval.count < items:
        detail = f"{detail} n={interval.count}".strip()
    return Cell(number(metric, interval.mean), detail)


def number(metric: Metric, value: float) -> str:
    """Show ``value`` in the metric's unit and precision, without a negative zero."""
    return f"{round(value * metric.scale, metric.decimals) + 0.0:.{metric.decimals}f}"


def legend(columns: Sequence[str]) -> list[str]:
    """One line per measure: what it means."""
    return [f"{BY_COLUMN[column].label}: {BY_COLUMN[column].meaning}." for column in columns]


def render_markdown(table: Table, level: int = 3) -> str:
    """Render ``table`` with its title and notes as Markdown."""
    lines = [f"{'#' * level} {table.title}", ""]
    lines.append("| " + " | ".join(_escape(heading) for heading in table.headings) + " |")
    lines.append("|" + "|".join([" --- "] * table.labels + [" ---: "] * (len(table.headings) - table.labels)) + "|")
    for row in table.rows:
        lines.append("| " + " | ".join(_escape(f"{cell.text} {cell.detail}".strip()) for cell in row) + " |")
    lines.append("")
    lines += [f"{note}  " for note in table.notes]
    return "\n".join(lines).rstrip() + "\n"


def render_results(
    title: str,
    rows: Sequence[Row],
    *,
    sets: Sequence[str],
    systems: Sequence[str],
    environment: Mapping[str, str],
    bootstrap: Bootstrap,
    checks: Sequence[Table] = (),
    measures: Sequence[str] = MAIN_COLUMNS,
    protocols: Mapping[str, str] | None = None,
) -> str:
    """Compose the whole of ``RESULTS.md``; ``protocols`` says of sets how they are evaluated."""
    parts = [f"# Results: {title}\n", "\n".join(f"- {name}: {text}" for name, text in environment.items()) + "\n"]
    mentioned: list[str] = []
    for name in sets:
        part = [row for row in rows if row.set == name]
        mixtures = len({row.key for row in part})
        parts.append(f"## Set {name}: {mixtures} mixtures\n")
        parts.append(f"{convention(part)} {(protocols or {}).get(name, '')}".rstrip() + "\n")
        tables = [main_table(part, systems, bootstrap, measures), *further_tables(part, systems, bootstrap, measures)]
        parts += [render_markdown(table) for table in (*tables, *breakdown_tables(part, systems, bootstrap))]
        shown = columns_present(part, list(dict.fromkeys([*measures, *BY_COLUMN])))
        mentioned += [column for column in shown if column not in mentioned]
    if checks:
        parts.append("## Against published figures\n")
        parts += [render_markdown(table) for table in checks]
    parts.append("## How to read the tables\n")
    parts.append(
        f"Each figure is the mean over items (one item: one target in one mixture) with its 95 % bootstrap interval, "
        f"drawn over mixtures ({bootstrap.resamples} resamples, seed {bootstrap.seed}). Outputs are never permuted "
        "between speakers. A measure has no value where it is not defined (a silent output, a silent reference, an "
        "output of another length, no speech that PESQ finds); `n=` says over how many items a mean goes where it is "
        "not all. Word error rates are errors over words of all items together. Where there is no aligned SI-SDR, no delay "
        "had to be undone.\n"
    )
    parts.append("\n".join(f"- {line}" for line in legend(mentioned)) + "\n")
    return "\n".join(parts)


def convention(rows: Sequence[Row]) -> str:
    """Say which speakers are targets: published results on one test set follow two conventions that do not compare."""
    speakers = sorted({row.speaker_index for row in rows})
    if speakers == [1]:
        return "Targets: speaker 1 of every mixture only (on Libri2Mix test, the convention of 3,000 targets)."
    if speakers == [1, 2]:
        return "Targets: both speakers of every mixture (on Libri2Mix test, the convention of 6,000 targets)."
    return f"Targets: speakers {', '.join(map(str, speakers))} of every mixture."


def _mixtures(rows: Sequence[Row]) -> str:
    """Say so where only the first speaker is a target."""
    return "speaker 1 only" if {row.speaker_index for row in rows} == {1} else ""


def _faults(system: str, rows: Sequence[Row]) -> list[str]:
    """Say how many items of a system have no scores, and why."""
    counts = Counter(row.fault for row in rows if row.fault)
    if not counts:
        return []
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))
    return [f"{system}: {counts.total()} of {len(rows)} items have no scores ({reasons})."]


def _tools(rows: Sequence[Row], systems: Sequence[str]) -> list[str]:
    """Name the networks behind the scores: once where all systems have the same ones."""
    tools = {name: next((row.tools for row in rows if row.system == name and row.tools), "") for name in systems}
    if not any(tools.values()):
        return []
    if len(set(tools.values())) == 1:
        return [f"Scored with: {next(iter(tools.values()))}."]
    return [f"{name} scored with: {text or 'no such network'}." for name, text in tools.items()]


def _uneven(rows: Sequence[Row], systems: Sequence[str]) -> list[str]:
    """Warn where systems were scored on different items: their means cannot be compared."""
    items = {system: {(row.key, row.speaker_index) for row in rows if row.system == system} for system in systems}
    found = {name: keys for name, keys in items.items() if keys}
    if len({frozenset(keys) for keys in found.values()}) <= 1:
        return []
    return ["The systems were scored on different items; compare their rows with care."]


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
