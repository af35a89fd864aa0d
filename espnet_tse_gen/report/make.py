"""Making the report folder: gather tables, recordings and curves, write the page, and put the folder in place whole.

The folder is built beside its final place and swapped in at the end; an interrupted run leaves the old one as it was.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet_tse_gen.data.enrolment.protocol import read_protocol
from espnet_tse_gen.report.clips import DemoSet, check_outputs, collect_cases
from espnet_tse_gen.report.curves import HEIGHT, NOT_THE_MODEL, WIDTH, read_curves, summary, write_chart
from espnet_tse_gen.report.environment import describe_environment
from espnet_tse_gen.report.page import Curve, Page, SetPage, render_page
from espnet_tse_gen.scoring.metrics import BY_COLUMN, FURTHER_COLUMNS, MAIN_COLUMNS
from espnet_tse_gen.scoring.results import (
    NO_VALUE,
    Bootstrap,
    Cell,
    Table,
    breakdown_tables,
    convention,
    further_tables,
    legend,
    main_table,
    number,
)
from espnet_tse_gen.scoring.results import order_systems as order
from espnet_tse_gen.scoring.table import Row, add_derived, columns_present, read_scores
from espnet_tse_gen.utils.errors import UserError

MARK = "index.html"
ITEM_COLUMNS = ("SI_SDR_aligned", "ESTOI", "similarity")


@dataclass
class ReportOptions:
    """What the page is made of.

    Attributes:
        exp_dir: The model's exp directory; its training logs hold the curves.
        scores: Score table; the page does without tables where it is ``None``.
        output: Folder to make.
        title: Heading of the page.
        count: Mixtures with recordings, per set.
        max_items: Rows of the table of single items, per set.
        systems: Names of systems in the order of rows.
        command: The command to print; ``None`` for that of this process.
        bootstrap: How intervals are computed.
    """

    exp_dir: Path
    scores: Path | None
    output: Path
    title: str
    count: int = 12
    max_items: int = 500
    systems: Sequence[str] = ()
    command: str | None = None
    bootstrap: Bootstrap | None = None


def make_report(options: ReportOptions, sets: Sequence[DemoSet]) -> Path:
    """Make the folder.

    Returns:
        Path of its ``index.html``.

    Raises:
        UserError: For missing or unreadable input, or where ``output`` is a folder that is no report.
    """
    output = options.output.resolve()
    if output.exists() and not (output / MARK).exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"{options.output}: exists and is not a report; choose another --output or remove it")
    check_outputs(sets)
    rows = read_scores(options.scores) if options.scores is not None else []
    add_derived(rows)
    partial = output.with_name(f".{output.name}.{os.getpid()}.part")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        page = _gather(options, sets, rows, partial)
        (partial / MARK).write_text(render_page(page), encoding="utf-8")
        if options.scores is not None:
            shutil.copyfile(options.scores, partial / "scores.csv")
        _swap(partial, output)
    except OSError as error:
        raise UserError(f"{options.output}: cannot be written ({error.strerror or error}); check free space") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return output / MARK


def _gather(options: ReportOptions, sets: Sequence[DemoSet], rows: list[Row], folder: Path) -> Page:
    bootstrap = options.bootstrap or Bootstrap()
    known = {row.system for row in rows}
    systems = order(rows, [name for name in options.systems if name in known])
    parts, mentioned = [], []
    for position, demo in enumerate(sets, 1):
        part = [row for row in rows if row.set == demo.name]
        tables: list[Table] = []
        items = None
        protocol = read_protocol(demo.data_dir)
        about = [convention(part)] if part else []
        if protocol is not None:
            about.append(protocol.describe())
        if part:
            tables = [main_table(part, systems, bootstrap), *further_tables(part, systems, bootstrap)]
            tables += breakdown_tables(part, systems, bootstrap)
            items = item_table(part, systems, options.max_items)
            shown = columns_present(part, [*MAIN_COLUMNS, *FURTHER_COLUMNS])
            mentioned += [column for column in shown if column not in mentioned]
        cases = collect_cases(demo, folder, options.count, position)
        parts.append(SetPage(demo.name, tables, cases, items, " ".join(about)))
    return Page(
        title=options.title,
        environment=describe_environment(options.command),
        sets=parts,
        curves=make_curves(options.exp_dir, folder),
        legend=legend(mentioned),
        scores={(row.system, row.set, row.key, row.speaker_index): row for row in rows},
    )


def item_table(rows: Sequence[Row], systems: Sequence[str], limit: int) -> Table:
    """One row per target with the main figures of every system; says how many rows were left out beyond ``limit``."""
    by_item: dict[tuple[str, int], dict[str, Row]] = {}
    for row in rows:
        by_item.setdefault((row.key, row.speaker_index), {})[row.system] = row
    present = [name for name in systems if any(name in found for found in by_item.values())]
    columns = columns_present(rows, ITEM_COLUMNS)
    headings = [f"{name}: {_short(column)}" for name in present for column in columns]
    table = Table("Scores per item", ["mixture", "speaker", "pair", "input SIR (dB)", *headings], labels=3)
    for (key, speaker), found in sorted(by_item.items())[:limit]:
        first = next(iter(found.values()))
        sir = f"{first.input_sir:.1f}" if first.input_sir == first.input_sir else NO_VALUE
        cells = [Cell(key), Cell(str(speaker)), Cell(first.gender_pair or NO_VALUE), Cell(sir)]
        for name in present:
            metrics = found[name].metrics if name in found else {}
            for column in columns:
                cells.append(Cell(number(BY_COLUMN[column], metrics[column]) if column in metrics else NO_VALUE))
        table.rows.append(cells)
    if len(by_item) > limit:
        table.notes.append(f"The first {limit} of {len(by_item)} items; scores.csv has all.")
    return table


def make_curves(exp_dir: Path, folder: Path) -> list[Curve]:
    """Draw the training curves from the logs of ``exp_dir``, or copy ESPnet's plots where there are no logs."""
    curves = []
    for number_, chart in enumerate(read_curves(exp_dir), 1):
        path = f"curves/{number_:02d}.svg"
        write_chart(folder / path, chart)
        curves.append(Curve(path, chart.name, summary(chart), WIDTH, HEIGHT))
    return curves or copy_curves(exp_dir / "images", folder)


def copy_curves(images: Path, folder: Path) -> list[Curve]:
    """Copy ESPnet's training plots into the page's folder, the loss first; plots about the machine are left out."""
    from PIL import Image

    paths = [path for path in sorted(images.glob("*.png")) if not any(word in path.stem for word in NOT_THE_MODEL)]
    paths.sort(key=lambda path: (path.stem != "loss", path.stem))
    curves = []
    for number_, path in enumerate(paths, 1):
        try:
            with Image.open(path) as image:
                width, height = image.size
        except OSError as error:
            raise UserError(f"{path}: is not a readable image ({error}); remove it or plot again") from None
        target = f"curves/{number_:02d}.png"
        (folder / "curves").mkdir(exist_ok=True)
        shutil.copyfile(path, folder / target)
        curves.append(Curve(target, path.stem, f"{path.stem} by epoch", width, height))
    return curves


def _short(column: str) -> str:
    return "SI-SDR (dB)" if column == "SI_SDR_aligned" else BY_COLUMN[column].label


def _swap(partial: Path, output: Path) -> None:
    """Put ``partial`` in the place of ``output``; the old folder is removed only after the new one is there."""
    old = output.with_name(f".{output.name}.{os.getpid()}.old")
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
