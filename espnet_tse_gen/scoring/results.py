"""Result tables from the rows of ``scores.csv``: per set, by gender pair and by input SIR, for Markdown and the page.

A table is built once, as headings and cells, and rendered by whoever needs it, so that ``RESULTS.md`` and the report
page cannot differ.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from espnet_tse_gen.scoring.metrics import (
    BREAKDOWN_COLUMNS,
    BY_NAME,
    FURTHER_COLUMNS,
    MAIN_COLUMNS,
    codebook_columns,
    column_of,
    legend,
)
from espnet_tse_gen.scoring.metrics.base import Column
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


def ordered(kind: str, rows: Sequence[Row], wanted: Sequence[str] = ()) -> list[str]:
    """Return the names of the systems or sets (``kind``) of ``rows``: those in ``wanted`` first, the others as they occur.

    Raises:
        UserError: If a wanted one has no rows.
    """
    found = [getattr(row, kind) for row in rows]
    for name in wanted:
        if name not in found:
            raise unknown_name(kind, name, {*found})
    return list(dict.fromkeys([*wanted, *found]))


def intervals(rows: Sequence[Row], columns: Sequence[str], bootstrap: Bootstrap) -> list[Interval]:
    """Means of ``columns`` over ``rows`` with intervals over mixtures; error rates are weighted by their words."""
    weighted = [BY_NAME[column].weight if column in BY_NAME else "" for column in columns]
    weights = _matrix(rows, weighted)
    weights[:, [not name for name in weighted]] = 1.0
    keys = [row.key for row in rows]
    return bootstrap_means(_matrix(rows, columns), keys, bootstrap.resamples, bootstrap.seed, weights=weights)


def _matrix(rows: Sequence[Row], columns: Sequence[str]) -> np.ndarray:
    """``columns`` of ``rows`` as float ``[N, M]``, NaN where a row has no value."""
    values = [[row.metrics.get(column, math.nan) for column in columns] for row in rows]
    return np.array(values, dtype=np.float64).reshape(len(rows), len(columns))


def main_table(
    rows: Sequence[Row], systems: Sequence[str], bootstrap: Bootstrap, measures: Sequence[str] = MAIN_COLUMNS
) -> Table:
    """Those of ``measures`` that there are, of every system on the rows of one set."""
    table = _table("All items", rows, systems, bootstrap, columns_present(rows, measures))
    parts = {system: [row for row in rows if row.system == system] for system in systems}
    for system, part in parts.items():
        counts = Counter(row.fault for row in part if row.fault)
        if counts:
            reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))
            table.notes.append(f"{system}: {counts.total()} of {len(part)} items have no scores ({reasons}).")
    for system, part in parts.items():
        table.notes += [f"RTF of {system}: {note}." for note in list(filter(None, (row.note for row in part)))[:1]]
    tools = {name: next((row.tools for row in part if row.tools), "") for name, part in parts.items() if part}
    if len({*tools.values()}) == 1:
        table.notes += [f"Scored with: {text}." for text in {*tools.values()} if text]
    else:
        table.notes += [f"{name} scored with: {text or 'no such network'}." for name, text in tools.items()]
    items = {frozenset((row.key, row.speaker_index) for row in part) for part in parts.values() if part}
    if len(items) > 1:
        table.notes.append("The systems were scored on different items; compare their rows with care.")
    return table


def further_tables(
    rows: Sequence[Row], systems: Sequence[str], bootstrap: Bootstrap, measures: Sequence[str] = MAIN_COLUMNS
) -> list[Table]:
    """What the main table leaves out: the other measures, and the token accuracy of each codebook; without empty tables."""
    others = [column for column in (*FURTHER_COLUMNS, *MAIN_COLUMNS) if column not in measures]
    codebooks = codebook_columns({column for row in rows for column in row.metrics})
    tables = []
    for title, columns in (
        ("Further measures", columns_present(rows, others)),
        ("Token accuracy by codebook", codebooks),
    ):
        having = {row.system for row in rows if {*columns} & row.metrics.keys()}
        if having:
            tables.append(_table(title, rows, [name for name in systems if name in having], bootstrap, columns))
    return tables


def _table(
    title: str, rows: Sequence[Row], systems: Sequence[str], bootstrap: Bootstrap, columns: Sequence[str]
) -> Table:
    """One row per system, one column per measure."""
    table = Table(title, ["system", "items", *(column_of(column).heading for column in columns)])
    for system in systems:
        part = [row for row in rows if row.system == system]
        if part:
            remark = "speaker 1 only" if {row.speaker_index for row in part} == {1} else ""
            cells = figure_cells(part, columns, bootstrap)
            table.rows.append([Cell(system), Cell(str(len(part)), remark), *cells])
    return table


def breakdown_tables(rows: Sequence[Row], systems: Sequence[str], bootstrap: Bootstrap) -> list[Table]:
    """The tables by gender pair and by input SIR of one set; a table is left out where its facts are unknown throughout.

    Mixtures with a speaker of unknown sex are a group of their own.
    """
    columns = columns_present(rows, ("SI_SDR", *BREAKDOWN_COLUMNS))
    if {"SI_SDR", "SI_SDR_aligned"} <= {*columns}:
        columns.remove("SI_SDR")
    pairs = sorted({row.gender_pair for row in rows} - {""}, key=lambda name: (name not in GENDER_PAIRS, name))
    by_gender = {name: [row for row in rows if row.gender_pair == name] for name in pairs}
    if by_gender:
        by_gender["unknown"] = [row for row in rows if not row.gender_pair]
    by_sir = {name: [row for row in rows if low <= row.input_sir < high] for name, low, high in SIR_BINS}
    tables = []
    for title, heading, groups in (("By gender pair", "pair", by_gender), ("By input SIR", "input SIR", by_sir)):
        table = Table(title, [heading, "system", "items", *(BY_NAME[c].heading for c in columns)], labels=2)
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
    found = zip(columns, intervals(rows, columns, bootstrap), strict=True)
    return [format_interval(column_of(column), interval, len(rows)) for column, interval in found]


def format_interval(column: Column, interval: Interval, items: int) -> Cell:
    """Show a mean with its interval, and the number of values where some of ``items`` have none."""
    if not interval.count:
        return Cell(NO_VALUE)
    low, high = column.show(interval.low), column.show(interval.high)
    detail = [f"[{low}, {high}]"] * (low != high) + [f"n={interval.count}"] * (interval.count < items)
    return Cell(column.show(interval.mean), " ".join(detail))


def render_markdown(table: Table, level: int = 3) -> str:
    """Render ``table`` with its title and notes as Markdown."""
    lines = [f"{'#' * level} {table.title}", ""]
    lines.append("| " + " | ".join(_escape(heading) for heading in table.headings) + " |")
    lines.append("|" + "|".join([" --- "] * table.labels + [" ---: "] * (len(table.headings) - table.labels)) + "|")
    for row in table.rows:
        lines.append("| " + " | ".join(_escape(f"{cell.text} {cell.detail}".strip()) for cell in row) + " |")
    lines += ["", *(f"{note}  " for note in table.notes)]
    return "\n".join(lines).rstrip() + "\n"


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def set_tables(
    rows: Sequence[Row], systems: Sequence[str], bootstrap: Bootstrap, measures: Sequence[str] = MAIN_COLUMNS
) -> tuple[list[Table], list[str]]:
    """Return all tables of one set, and the columns that are in them."""
    tables = [main_table(rows, systems, bootstrap, measures), *further_tables(rows, systems, bootstrap, measures)]
    tables += breakdown_tables(rows, systems, bootstrap)
    return tables, columns_present(rows, list(dict.fromkeys([*measures, *BY_NAME])))


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
    mentioned: dict[str, None] = {}
    for name in sets:
        part = [row for row in rows if row.set == name]
        tables, columns = set_tables(part, systems, bootstrap, measures)
        parts.append(f"## Set {name}: {len({row.key for row in part})} mixtures\n")
        parts.append(f"{convention(part)} {(protocols or {}).get(name, '')}".rstrip() + "\n")
        parts += map(render_markdown, tables)
        mentioned |= dict.fromkeys(columns)
    if checks:
        parts += ["## Against published figures\n", *map(render_markdown, checks)]
    parts.append("## How to read the tables\n")
    parts.append(
        f"Each figure is the mean over items (one item: one target in one mixture) with its 95 % bootstrap interval, "
        f"drawn over mixtures ({bootstrap.resamples} resamples, seed {bootstrap.seed}). Outputs are never permuted "
        "between speakers. A measure has no value where it is not defined (a silent output, a silent reference, an "
        "output of another length, no speech that PESQ finds); `n=` says over how many items a mean goes where it is "
        "not all. Word error rates are errors over words of all items together. Where there is no aligned SI-SDR, no delay "
        "had to be undone.\n"
    )
    parts.append("\n".join(f"- {line}" for line in legend(list(mentioned))) + "\n")
    return "\n".join(parts)


def convention(rows: Sequence[Row]) -> str:
    """Say which speakers are targets: published results on one test set follow two conventions that do not compare."""
    speakers = sorted({row.speaker_index for row in rows})
    if speakers == [1]:
        return "Targets: speaker 1 of every mixture only (on Libri2Mix test, the convention of 3,000 targets)."
    if speakers == [1, 2]:
        return "Targets: both speakers of every mixture (on Libri2Mix test, the convention of 6,000 targets)."
    return f"Targets: speakers {', '.join(map(str, speakers))} of every mixture."
