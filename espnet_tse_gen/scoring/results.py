"""Result tables from the rows of ``scores.csv``: per set, by gender pair and by input SIR, for Markdown and the page.

A table is built once, as headings and cells, and rendered by whoever needs it, so that ``RESULTS.md`` and the report
page cannot differ.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from espnet_tse_gen.scoring.metrics import BREAKDOWN_COLUMNS, BY_NAME, CODEBOOK, MAIN_COLUMNS, column_of
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
    """Return the names of the systems or sets (``kind``) of ``rows``: those in ``wanted`` first, which there must be."""
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


def set_tables(
    rows: Sequence[Row], systems: Sequence[str], bootstrap: Bootstrap, measures: Sequence[str] = MAIN_COLUMNS
) -> tuple[list[Table], list[str]]:
    """Return all tables of one set, and the columns that are in them.

    The first has those of ``measures`` that there are. The others have the other measures, the token accuracy of each codebook,
    and breakdowns by gender pair and by input SIR, where mixtures with a speaker of unknown sex are a group of their own;
    those that would be empty are left out.
    """
    others = sorted((column for column in BY_NAME if column not in measures), key=lambda name: name in MAIN_COLUMNS)
    codebooks = {column for row in rows for column in row.metrics if column.startswith(CODEBOOK)}
    parts = {system: [row for row in rows if row.system == system] for system in systems}
    whole, main_columns = [("", rows)], columns_present(rows, measures)
    main = _table("All items", ["system"], whole, systems, main_columns, bootstrap)
    main.notes = _notes({name: part for name, part in parts.items() if part})
    tables = []
    for title, columns in (
        ("Further measures", columns_present(rows, others)),
        ("Token accuracy by codebook", sorted(codebooks, key=lambda name: int(name.removeprefix(CODEBOOK)))),
    ):
        having = [name for name, part in parts.items() if any({*columns} & row.metrics.keys() for row in part)]
        tables.append(_table(title, ["system"], whole, having, columns, bootstrap))
    columns = columns_present(rows, ("SI_SDR", *BREAKDOWN_COLUMNS))
    if {"SI_SDR", "SI_SDR_aligned"} <= {*columns}:
        columns.remove("SI_SDR")
    pairs = sorted({row.gender_pair for row in rows} - {""}, key=lambda name: (name not in GENDER_PAIRS, name))
    by_gender = [
        (pair or "unknown", [row for row in rows if row.gender_pair == pair]) for pair in [*pairs, ""] if pairs
    ]
    by_sir = [(name, [row for row in rows if low <= row.input_sir < high]) for name, low, high in SIR_BINS]
    for title, label, groups in (("By gender pair", "pair", by_gender), ("By input SIR", "input SIR", by_sir)):
        tables.append(_table(title, [label, "system"], groups, systems, columns, bootstrap))
    mentioned = columns_present(rows, list(dict.fromkeys([*measures, *BY_NAME])))
    return [main, *(table for table in tables if table.rows)], mentioned


def _table(
    title: str,
    labels: Sequence[str],
    groups: Sequence[tuple[str, Sequence[Row]]],
    systems: Sequence[str],
    columns: Sequence[str],
    bootstrap: Bootstrap,
) -> Table:
    """One row for each group of rows of scores and system, which ``labels`` head or its last one, one column per measure."""
    headings = [*labels, "items", *(column_of(column).heading for column in columns)]
    table = Table(title, headings, labels=len(labels))
    for group, members in groups:
        for system in systems:
            part = [row for row in members if row.system == system]
            if part:
                alone = {row.speaker_index for row in part} == {1} and len(labels) == 1
                found = zip(columns, intervals(part, columns, bootstrap), strict=True)
                cells = [format_interval(column_of(column), interval, len(part)) for column, interval in found]
                names = [Cell(text) for text in (group, system)[-len(labels) :]]
                table.rows.append([*names, Cell(str(len(part)), "speaker 1 only" * alone), *cells])
    return table


def _notes(parts: Mapping[str, Sequence[Row]]) -> list[str]:
    """What is to be known of the rows of each system."""
    notes = []
    for system, part in parts.items():
        counts = Counter(row.fault for row in part if row.fault)
        if counts:
            reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))
            notes.append(f"{system}: {counts.total()} of {len(part)} items have no scores ({reasons}).")
    for system, part in parts.items():
        notes += [f"RTF of {system}: {note}." for note in [row.note for row in part if row.note][:1]]
    tools = {name: next((row.tools for row in part if row.tools), "") for name, part in parts.items()}
    if len({*tools.values()}) == 1:
        notes += [f"Scored with: {text}." for text in {*tools.values()} if text]
    else:
        notes += [f"{name} scored with: {text or 'no such network'}." for name, text in tools.items()]
    if len({frozenset((row.key, row.speaker_index) for row in part) for part in parts.values()}) > 1:
        notes.append("The systems were scored on different items; compare their rows with care.")
    return notes


def format_interval(column: Column, interval: Interval, items: int) -> Cell:
    """Show a mean with its interval, and the number of values where some of ``items`` have none."""
    if not interval.count:
        return Cell(NO_VALUE)
    low, high = column.show(interval.low), column.show(interval.high)
    detail = [f"[{low}, {high}]"] * (low != high) + [f"n={interval.count}"] * (interval.count < items)
    return Cell(column.show(interval.mean), " ".join(detail))


def render_markdown(table: Table, level: int = 3) -> str:
    """Render ``table`` with its title and notes as Markdown."""
    rules = [" --- "] * table.labels + [" ---: "] * (len(table.headings) - table.labels)
    lines = [f"{'#' * level} {table.title}", "", _line(table.headings), f"|{'|'.join(rules)}|"]
    lines += [_line([f"{cell.text} {cell.detail}".strip() for cell in row]) for row in table.rows]
    lines += ["", *(f"{note}  " for note in table.notes)]
    return "\n".join(lines).rstrip() + "\n"


def _line(cells: Sequence[str]) -> str:
    escaped = (text.replace("|", "\\|").replace("\n", " ") for text in cells)
    return f"| {' | '.join(escaped)} |"


def convention(rows: Sequence[Row]) -> str:
    """Say which speakers are targets: published results on one test set follow two conventions that do not compare."""
    speakers = sorted({row.speaker_index for row in rows})
    if speakers == [1]:
        return "Targets: speaker 1 of every mixture only (on Libri2Mix test, the convention of 3,000 targets)."
    if speakers == [1, 2]:
        return "Targets: both speakers of every mixture (on Libri2Mix test, the convention of 6,000 targets)."
    return f"Targets: speakers {', '.join(map(str, speakers))} of every mixture."
