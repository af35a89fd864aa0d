"""The report page as HTML: tables, recordings with their spectrograms, per-item scores and training curves.

Everything is in the page's own folder and works from a file system: no request leaves it. All text from outside (keys,
names, paths) is escaped here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

from espnet_tse_gen.report.clips import Case
from espnet_tse_gen.report.page_recordings import Scores, render_cases, render_listening
from espnet_tse_gen.report.page_style import CSS, POLICY, SCRIPT
from espnet_tse_gen.scoring.results import Cell, Table


@dataclass
class Curve:
    """A training curve: path relative to the page, name, what it shows in words, and size in pixels."""

    path: str
    name: str
    words: str
    width: int
    height: int


@dataclass
class SetPage:
    """What the page shows of one set; ``about`` says which targets and enrolments it is evaluated with."""

    name: str
    tables: list[Table]
    cases: list[Case]
    items: Table | None = None
    about: str = ""


@dataclass
class Page:
    """All that the page shows."""

    title: str
    environment: Mapping[str, str]
    sets: list[SetPage]
    curves: list[Curve] = field(default_factory=list)
    legend: list[str] = field(default_factory=list)
    scores: Scores = field(default_factory=dict)


def render_page(page: Page) -> str:
    """Return the whole page as HTML."""
    sections = [(f"results-{n}", f"Results: {part.name}", _results(part)) for n, part in enumerate(page.sets, 1)]
    for n, part in enumerate(page.sets, 1):
        if part.cases:
            table, cases = (
                render_listening(part.name, n, part.cases),
                render_cases(part.name, n, part.cases, page.scores),
            )
            sections.append((f"listen-{n}", f"Listen: {part.name}", table))
            sections.append((f"cases-{n}", f"Side by side: {part.name}", cases))
    items = "".join(
        render_table(part.items, f"Scores of every item of {part.name}") for part in page.sets if part.items
    )
    if items:
        link = '<p><a href="scores.csv">scores.csv</a> holds every measure of every item.</p>'
        fold = f"<details><summary>Show the table</summary>{items}</details>"
        sections.append(("items", "Scores per item", link + fold))
    if page.curves:
        sections.append(("training", "Training", _curves(page.curves)))
    if page.legend:
        lines = "".join(f"<li>{escape(line)}</li>" for line in page.legend)
        sections.append(("reading", "How to read the figures", f"<ul>{lines}</ul>"))
    links = "".join(f'<li><a href="#{name}">{escape(title)}</a></li>' for name, title, _ in sections)
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in page.environment.items())
    body = "".join(
        f'<section id="{name}" aria-labelledby="{name}-title"><h2 id="{name}-title">{escape(title)}</h2>'
        f"{content}</section>\n"
        for name, title, content in sections
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{escape(page.title)}</title>\n<link rel="icon" href="data:,">\n<style>{CSS}</style>\n</head>\n<body>\n'
        '<a class="skip" href="#main">Skip to the results</a>\n'
        f"<header><h1>{escape(page.title)}</h1>"
        '<p class="soft">Target speaker extraction: one voice taken out of a mixture, guided by a sample of it.</p>'
        f"<details><summary>How this was made</summary><dl>{facts}</dl></details></header>\n"
        f'<nav aria-label="Sections"><ul>{links}</ul></nav>\n<main id="main">{body}</main>\n'
        f"<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def render_table(table: Table, name: str) -> str:
    """Render ``table`` as HTML in a region that scrolls by keyboard; ``name`` says what it is to a screen reader.

    Where two columns name a row, the first becomes a heading above its rows, so that the second one stays in sight.
    """
    grouped = table.labels == 2
    headings, labels = (table.headings[1:], 1) if grouped else (table.headings, table.labels)
    head = "".join(
        f'<th scope="col"{_label(position < labels)}>{escape(text)}</th>' for position, text in enumerate(headings)
    )
    bodies: list[str] = []
    group = None
    for row in table.rows:
        if grouped and row[0].text != group:
            group = row[0].text
            title = f"<span>{escape(f'{table.headings[0]}: {group}')}</span>"
            bodies.append(f'<tr><th scope="rowgroup" class="group" colspan="{len(headings)}">{title}</th></tr>')
        elif not bodies:
            bodies.append("")
        bodies[-1] += _row(row[1:] if grouped else row, labels)
    notes = "".join(f'<p class="soft">{escape(note)}</p>' for note in table.notes)
    return (
        f'<div class="scroll" role="region" aria-label="{escape(name)}" tabindex="0"><table>'
        f"<thead><tr>{head}</tr></thead>{''.join(f'<tbody>{body}</tbody>' for body in bodies)}</table></div>{notes}"
    )


def _row(row: Sequence[Cell], labels: int) -> str:
    cells = []
    for position, cell in enumerate(row):
        detail = f'<span class="detail">{escape(cell.detail)}</span>' if cell.detail else ""
        if position < labels:
            # Long keys may break after an underscore; names stay whole.
            short = len(cell.text) <= 24
            style = "label short" if short else "label"
            text = escape(cell.text) if short else escape(cell.text).replace("_", "_<wbr>")
            cells.append(f'<th scope="row" class="{style}">{text}{detail}</th>')
        else:
            cells.append(f"<td>{escape(cell.text)}{detail}</td>")
    return f"<tr>{''.join(cells)}</tr>"


def _label(is_label: bool) -> str:
    return ' class="label"' if is_label else ""


def _results(part: SetPage) -> str:
    about = f"<p>{escape(part.about)}</p>" if part.about else ""
    if not part.tables:
        return f"{about}<p>There are no scores of this set.</p>"
    first, *others = part.tables
    content = about + render_table(first, f"{first.title}, {part.name}")
    for table in others:
        inside = render_table(table, f"{table.title}, {part.name}")
        content += f"<details><summary>{escape(table.title)}</summary>{inside}</details>"
    return content


def _curves(curves: Sequence[Curve]) -> str:
    def figure(curve: Curve) -> str:
        return (
            f'<figure><img src="{escape(curve.path)}" width="{curve.width}" height="{curve.height}" loading="lazy" '
            f'alt="Training curve: {escape(curve.words)}">'
            f"<figcaption>{escape(curve.name)}</figcaption></figure>"
        )

    return f'<div class="curves">{"".join(figure(curve) for curve in curves)}</div>'
