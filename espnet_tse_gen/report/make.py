"""Making the report folder: gather tables, recordings and curves, fill the page's template, and put the folder in place whole.

The folder is built beside its final place and swapped in at the end; an interrupted run leaves the old one as it was.
Everything is in the folder and works from a file system: no request leaves it. The template escapes all text.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from espnet_tse_gen.data.enrolment.protocol import read_protocol
from espnet_tse_gen.report.clips import collect_cases
from espnet_tse_gen.report.environment import describe_environment
from espnet_tse_gen.report.pictures import CHART_HEIGHT, CHART_WIDTH, HEIGHT, WIDTH, read_curves, write_chart
from espnet_tse_gen.scoring.metrics import BY_NAME, legend
from espnet_tse_gen.scoring.results import NO_VALUE, Bootstrap, Cell, Table, convention, ordered, set_tables
from espnet_tse_gen.scoring.table import Row, add_derived, columns_present, read_scores
from espnet_tse_gen.utils.arguments import pairs
from espnet_tse_gen.utils.errors import UserError, naming_extra, unknown_name

MARK = "index.html"
TEMPLATE = Path(__file__).with_name("page.html.j2")
RESERVED = ("clean", "enrolment")
"""What no system may be called: columns of the page."""
ITEM_COLUMNS = ("SI_SDR_aligned", "ESTOI", "similarity")


def report_of(
    exp_dir: Path,
    sets: Sequence[str],
    systems: Sequence[str],
    scores: Path | None,
    output: Path | None,
    title: str | None,
    num_mixtures: int,
    command: str | None,
    resamples: int,
    seed: int,
) -> Path:
    """Make the folder that a command line describes, which may be there only as a report; return its ``index.html``."""
    names: dict[str, str] = {}
    for text in systems:
        name, separator, directory = text.partition("=")
        if not name or (separator and not directory) or name in names or name in RESERVED:
            raise UserError(f"--systems {text}: expected NAME or NAME=DIR, each name once, not {' or '.join(RESERVED)}")
        names[name] = directory
    folders = [pairs("--sets", [text], "SET=DATA_DIR").popitem() for text in sets]
    with naming_extra("the report"):
        import jinja2
        import markupsafe
    given, output = output or exp_dir / "report", (output or exp_dir / "report").resolve()
    # Other programs make an index.html, too.
    ours = (output / MARK).is_file() and "espnet_tse_gen" in (output / MARK).read_text("utf-8", errors="replace")
    if output.exists() and not ours and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"{given}: exists and is not a report; choose another --output or remove it")
    for name, _ in folders:
        for system, directory in names.items():
            table = Path(directory) / name / "spk1.scp"
            if directory and not table.exists():
                raise UserError(
                    f"{table}: no such file; decode set '{name}' with system '{system}' first, or leave it out of --systems"
                )
    scores = scores or exp_dir / "scores.csv" if scores or (exp_dir / "scores.csv").exists() else None
    rows = read_scores(scores) if scores is not None else []
    scored = {row.system for row in rows}
    for name, directory in names.items():
        if not directory and name not in {"mixture", *scored}:
            raise unknown_name("system", name, {"mixture", *scored, *filter(names.get, names)})
    add_derived(rows)
    shown, bootstrap = ordered("system", rows, [name for name in names if name in scored]), Bootstrap(resamples, seed)
    figures = {(row.system, row.set, row.key, row.speaker_index): row.metrics for row in rows}
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    # Long keys may break after an underscore.
    environment.filters["breakable"] = lambda text: markupsafe.escape(text).replace("_", markupsafe.Markup("_<wbr>"))
    partial, old = (output.with_name(f".{output.name}.{os.getpid()}.{end}") for end in ("part", "old"))
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        charts = read_curves(exp_dir)
        for number, chart in enumerate(charts, 1):
            write_chart(partial / f"curves/{number:02d}.svg", chart)
        parts: list[dict[str, Any]] = []
        mentioned: dict[str, None] = {}
        for position, (name, folder) in enumerate(folders, 1):
            data_dir, part = Path(folder), [row for row in rows if row.set == name]
            protocol = read_protocol(data_dir)
            about = [convention(part)] * bool(part) + ([protocol.describe()] if protocol else [])
            tables, columns = set_tables(part, shown, bootstrap) if part else ([], [])
            mentioned |= dict.fromkeys(columns)
            outputs = {system: Path(directory) / name for system, directory in names.items() if directory}
            cases = collect_cases(name, data_dir, outputs, partial, num_mixtures, position)
            labels = dict.fromkeys(label for case in cases for target in case["targets"] for label in target["clips"])
            parts.append(
                {
                    "name": name,
                    "about": " ".join(about),
                    "tables": tables,
                    "item_table": item_table(part, shown) if part else None,
                    "cases": cases,
                    "labels": [*labels],
                    "outputs": [label for label in labels if label in outputs],
                }
            )
        text = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
            title=title or exp_dir.resolve().name,
            environment=describe_environment(command),
            sets=parts,
            charts=charts,
            chart_size=(CHART_WIDTH, CHART_HEIGHT),
            image_size=(WIDTH, HEIGHT),
            legend=legend(list(mentioned)),
            figures=lambda *item: short_scores(figures.get(item, {})),
        )
        (partial / MARK).write_text(text, encoding="utf-8")
        if scores is not None:
            shutil.copyfile(scores, partial / "scores.csv")
        shutil.rmtree(old, ignore_errors=True)
        if output.exists():
            output.rename(old)
        try:
            partial.rename(output)
        except OSError:
            if old.exists():
                old.rename(output)
            raise
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise UserError(f"{given}: cannot be written ({error.strerror or error}); check free space") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return output / MARK


def short_scores(metrics: Mapping[str, float]) -> list[str]:
    """The few figures that stand beside a recording, each with its name and unit; none without scores."""
    shown = [(_short(name), BY_NAME[name], metrics[name]) for name in ITEM_COLUMNS if name in metrics]
    return [f"{label} {column.show(value)} {column.unit}".strip() for label, column, value in shown]


def item_table(rows: Sequence[Row], systems: Sequence[str], limit: int = 500) -> Table:
    """One row per target with the main figures of every system; says how many rows were left out beyond ``limit``."""
    by_item: dict[tuple[str, int], dict[str, Row]] = {}
    for row in rows:
        by_item.setdefault((row.key, row.speaker_index), {})[row.system] = row
    present = [name for name in systems if any(name in found for found in by_item.values())]
    columns = columns_present(rows, ITEM_COLUMNS)
    headings = [
        f"{name}: {_short(column)}" + " (dB)" * (column == ITEM_COLUMNS[0]) for name in present for column in columns
    ]
    table = Table("Scores per item", ["mixture", "speaker", "pair", "input SIR (dB)", *headings], labels=3)
    for (key, speaker), found in sorted(by_item.items())[:limit]:
        first = next(iter(found.values()))
        sir = f"{first.input_sir:.1f}" if first.input_sir == first.input_sir else NO_VALUE
        cells = [Cell(key), Cell(str(speaker)), Cell(first.gender_pair or NO_VALUE), Cell(sir)]
        for name in present:
            metrics = found[name].metrics if name in found else {}
            cells += [Cell(BY_NAME[one].show(metrics[one]) if one in metrics else NO_VALUE) for one in columns]
        table.rows.append(cells)
    if len(by_item) > limit:
        table.notes.append(f"The first {limit} of {len(by_item)} items; scores.csv has all.")
    return table


def _short(column: str) -> str:
    return "SI-SDR" if column == "SI_SDR_aligned" else BY_NAME[column].label
