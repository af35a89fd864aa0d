"""Published figures: the mixture row against them, and other systems' results under the same conditions.

A scorer that does not reproduce the unprocessed mixture's figures cannot judge a model. Figures lie in a yaml, by name of
a condition, each as the text that was printed, so that its rounding is known. An entry also says which speakers were
targets (``both`` or ``first``), its source, and the source's grade: ``P``, read in the authors' or the official repository;
``M``, measured on recordings that the authors published; ``S``, second-hand. Under ``systems`` it may list results of
systems, which are shown and not compared.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from espnet_tse_gen.scoring.metrics import BY_NAME
from espnet_tse_gen.scoring.results import NO_VALUE, Bootstrap, Cell, Table, intervals
from espnet_tse_gen.scoring.table import Row
from espnet_tse_gen.utils.errors import UserError, unknown_name
from espnet_tse_gen.utils.files import read_yaml

GRADES = {
    "P": "read in the authors' or the official repository",
    "M": "measured on recordings that the authors published",
    "S": "second-hand",
}
TARGETS = {"both": ({1, 2}, "both speakers"), "first": ({1}, "speaker 1 only")}
NEEDED = ("system", "condition", "targets", "source", "grade", "values")
NEEDED_OF_SYSTEM = ("name", "source", "grade", "values")


def published_tables(
    rows: Sequence[Row], checks: Mapping[str, str], path: str | Path, bootstrap: Bootstrap
) -> list[Table]:
    """Compare a row of each set to a published one; ``checks`` maps sets to entries in the yaml at ``path``.

    Per set there is one table with "agrees" where the published figure, given its rounding, lies in the 95 % interval, and
    one of published systems where the entry has some.

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
        if entry["values"]:
            tables.append(_compare(set_name, entry, part, bootstrap))
        if entry.get("systems"):
            tables.append(_systems(entry))
    return tables


def _checked(path: str | Path, name: str, entry: Any) -> dict[str, Any]:
    if not isinstance(entry, dict) or not isinstance(entry.get("systems", []), list):
        raise UserError(f"{path}: entry '{name}' must be a mapping with {', '.join(NEEDED)}, and 'systems' a list")
    for part, needed in ((entry, NEEDED), *((system, NEEDED_OF_SYSTEM) for system in entry.get("systems", []))):
        lacking = [key for key in needed if not isinstance(part, dict) or key not in part]
        if lacking or not isinstance(part["values"], dict):
            raise UserError(f"{path}: entry '{name}' lacks '{(lacking or ['values'])[0]}'; see the others in the file")
        if part["grade"] not in GRADES:
            raise unknown_name(f"grade in entry '{name}' of {path}", str(part["grade"]), GRADES)
        for column, text in part["values"].items():
            if column not in BY_NAME:
                raise unknown_name(f"measure in entry '{name}' of {path}", str(column), BY_NAME)
            try:
                float(text)
            except (TypeError, ValueError):
                raise UserError(f"{path}: entry '{name}': '{column}' is '{text}', expected a quoted number") from None
    if entry["targets"] not in TARGETS:
        raise unknown_name(f"targets in entry '{name}' of {path}", str(entry["targets"]), TARGETS)
    return entry


def _compare(set_name: str, entry: Mapping[str, Any], rows: Sequence[Row], bootstrap: Bootstrap) -> Table:
    columns = list(entry["values"])
    title = f"{entry['system']} on {set_name}: {entry['condition']}"
    table = Table(title, ["measure", "published", "here", "95 % interval", "verdict"])
    for name, interval in zip(columns, intervals(rows, columns, bootstrap), strict=True):
        column, text = BY_NAME[name], str(entry["values"][name])
        here, span, verdict = NO_VALUE, NO_VALUE, "not scored"
        if interval.count:
            value, rounding = float(text) / column.scale, 0.5 * 10.0 ** -len(text.partition(".")[2]) / column.scale
            agrees = interval.low - rounding <= value <= interval.high + rounding
            here, span = column.show(interval.mean), f"[{column.show(interval.low)}, {column.show(interval.high)}]"
            verdict = "agrees" if agrees else "differs"
        label = f"{column.label} ({column.unit})" if column.unit else column.label
        table.rows.append([Cell(label), Cell(text), Cell(here), Cell(span), Cell(verdict)])
    speakers, (wanted, named) = {row.speaker_index for row in rows}, TARGETS[entry["targets"]]
    if speakers != wanted:
        table.notes.append(
            f"The published figures have {named} as targets, these rows speakers "
            f"{', '.join(map(str, sorted(speakers)))}: they do not compare."
        )
    table.notes.append(f"Source ({GRADES[entry['grade']]}): {entry['source']}. Compared on {len(rows)} items.")
    return table


def _systems(entry: Mapping[str, Any]) -> Table:
    """The published systems of an entry, as they were printed."""
    columns = [column for column in BY_NAME if any(column in system["values"] for system in entry["systems"])]
    title = f"Published systems, not measured here: {entry['condition']}"
    table = Table(title, ["system", "grade", *(BY_NAME[column].heading for column in columns)], labels=2)
    for system in entry["systems"]:
        figures = [Cell(str(system["values"].get(column, ""))) for column in columns]
        table.rows.append([Cell(str(system["name"])), Cell(str(system["grade"])), *figures])
    table.notes += [f"{system['name']}: {system['source']}." for system in entry["systems"]]
    used = dict.fromkeys(system["grade"] for system in entry["systems"])
    table.notes.append("Grades: " + "; ".join(f"{grade}, {GRADES[grade]}" for grade in used) + ".")
    return table
