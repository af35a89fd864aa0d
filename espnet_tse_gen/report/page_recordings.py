"""The recordings on the report page: a table to listen to, and every case's spectrograms side by side.

The table has one row per target speaker and one column per kind of recording. The cases come in groups by the genders
of their speakers, and each target shows mixture, every system's output, clean speech and enrolment in one row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from espnet_tse_gen.report.clips import Case, Clip, Target
from espnet_tse_gen.report.spectrogram import HEIGHT, WIDTH
from espnet_tse_gen.scoring.metrics import BY_COLUMN
from espnet_tse_gen.scoring.results import number
from espnet_tse_gen.scoring.table import Row

GENDERS = {"f": "female", "m": "male"}
GROUP_TITLES = {
    "different": "Different gender",
    "female+female": "Female with female",
    "male+male": "Male with male",
    "": "Gender not known",
}
CLIP_COLUMNS = ("SI_SDR_aligned", "ESTOI", "similarity")
# Order of a table's columns and of a case's pictures; the systems stand where None is.
TABLE_ORDER = ("clean", "enrolment", None)
CASE_ORDER = (None, "clean", "enrolment")
CASE_LABELS = {"clean": "clean (ground truth)"}

Scores = Mapping[tuple[str, str, str, int], Row]


def short_scores(row: Row | None) -> list[str]:
    """The few figures that stand beside a recording, each with its name and unit; none without scores."""
    figures = []
    for column in CLIP_COLUMNS:
        if row is not None and column in row.metrics:
            metric = BY_COLUMN[column]
            label = "SI-SDR" if column == "SI_SDR_aligned" else metric.label
            figures.append(f"{label} {number(metric, row.metrics[column])} {metric.unit}".strip())
    return figures


def render_listening(set_name: str, position: int, cases: Sequence[Case]) -> str:
    """Render the table of ``cases``: per target speaker the mixture, clean, enrolment and what each system extracted.

    Args:
        set_name: Name of the set, for screen readers.
        position: Number of the set on the page, as in :func:`render_cases`, to which the rows link.
        cases: At least one.
    """
    labels = _order(cases, TABLE_ORDER)
    # The roles keep it a table to screen readers on a phone, where its cells are laid out as blocks.
    heads = "".join(
        f'<th role="columnheader" scope="col">{_breakable(text)}</th>' for text in ("target", "mixture", *labels)
    )
    # A player narrower than this loses its time line; with many systems the table scrolls.
    width = 8.5 + 9.5 * (1 + len(labels))
    bodies = []
    for index, case in enumerate(cases, 1):
        group = GROUP_TITLES.get(case.group, case.group)
        title = (
            f'<tr role="row"><th role="rowheader" scope="rowgroup" class="key" colspan="{2 + len(labels)}">'
            f'<a href="#{_case_id(position, index)}">{_breakable(case.key)}</a> '
            f'<span class="soft">{escape(group)}</span></th></tr>'
        )
        rows = ""
        for target in case.targets:
            cells = f'<th role="rowheader" scope="row">{escape(_target_name(target))}</th>'
            if target is case.targets[0]:
                cells += _cell(case.mixture, case.key, len(case.targets))
            clips = {clip.label: clip for clip in target.clips}
            where = f"{case.key}, speaker {target.number}"
            for label in labels:
                cells += _cell(clips[label], where) if label in clips else '<td role="cell" class="none">n/a</td>'
            rows += f'<tr role="row">{cells}</tr>'
        bodies.append(f'<tbody role="rowgroup">{title}{rows}</tbody>')
    head = f'<thead role="rowgroup"><tr role="row">{heads}</tr></thead>'
    return (
        f'<div class="scroll listen" role="region" aria-label="Recordings of {escape(set_name)}" tabindex="0">'
        f'<table role="table" style="min-width: {width}rem">{head}{"".join(bodies)}</table></div>'
    )


def render_cases(set_name: str, position: int, cases: Sequence[Case], scores: Scores) -> str:
    """Render ``cases`` with their spectrograms, a heading before each group; those of a group must stand together.

    Args:
        set_name: Name of the set in ``scores``.
        position: Number of the set on the page.
        cases: At least one.
        scores: Rows by system, set, key and number of the target speaker.
    """
    reach = cases[0].sample_rate / 2000.0
    content = (
        f"<p>Spectrograms show 0 to {reach:g} kHz from bottom to top over the whole recording. Those of a mixture "
        "share one colour scale (70 dB below the mixture's peak is black); the enrolment has its own.</p>"
    )
    group = None
    for index, case in enumerate(cases, 1):
        if case.group != group:
            group = case.group
            content += f"<h3>{escape(GROUP_TITLES.get(group, group))}</h3>"
        content += f'<article class="case" id="{_case_id(position, index)}"><h4>{_breakable(case.key)}</h4>'
        for target in case.targets:
            clips = {clip.label: clip for clip in target.clips}
            where = f"{case.key}, speaker {target.number}"
            figures = _figure(case.mixture, where, scores.get(("mixture", set_name, case.key, target.number)))
            for label in _order([case], CASE_ORDER):
                if label in clips:
                    clip = clips[label]
                    row = scores.get((clip.system, set_name, case.key, target.number)) if clip.system else None
                    figures += _figure(clip, where, row)
            content += f'<h5>Target: {escape(_target_name(target))}</h5><div class="clips">{figures}</div>'
        content += "</article>"
    return content


def _case_id(position: int, index: int) -> str:
    return f"case-{position}-{index}"


def _order(cases: Sequence[Case], order: Sequence[str | None]) -> list[str]:
    """Labels that occur in ``cases``, in ``order``."""
    found = {clip.label: clip.system for case in cases for target in case.targets for clip in target.clips}
    labels: list[str] = []
    for label in order:
        if label is None:
            labels += [name for name, system in found.items() if system]
        elif label in found:
            labels.append(label)
    return labels


def _target_name(target: Target) -> str:
    about = [text for text in (target.speaker, GENDERS.get(target.gender, "")) if text]
    return f"speaker {target.number}" + (f" ({', '.join(about)})" if about else "")


def _breakable(text: str) -> str:
    """Escape ``text``; it may break after underscores."""
    return escape(text).replace("_", "_<wbr>")


def _player(clip: Clip, where: str) -> str:
    # A page may hold hundreds: none loads before it is played.
    return (
        f'<audio controls preload="none" controlslist="nodownload noplaybackrate" src="{escape(clip.audio)}" '
        f'aria-label="{escape(f"{clip.label}, {where}")}"></audio>'
    )


def _cell(clip: Clip, where: str, rows: int = 1) -> str:
    span = f' rowspan="{rows}"' if rows > 1 else ""
    name = f'<span class="name" aria-hidden="true">{_breakable(clip.label)}</span>'
    return f'<td role="cell"{span}>{name}{_player(clip, where)}</td>'


def _figure(clip: Clip, where: str, row: Row | None) -> str:
    length = f"{clip.seconds:.1f} s"
    figures = " ".join(f"<span>{escape(text)}</span>" for text in short_scores(row) or [length])
    label = _breakable(CASE_LABELS.get(clip.label, clip.label) if not clip.system else clip.label)
    return (
        f'<figure><img src="{escape(clip.image)}" width="{WIDTH}" height="{HEIGHT}" loading="lazy" decoding="async" '
        f'alt="Spectrogram: {escape(f"{clip.label}, {where}")}, {length}">{_player(clip, where)}'
        f'<figcaption>{label}<span class="soft">{figures}</span></figcaption></figure>'
    )
