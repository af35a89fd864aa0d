"""The table of codecs, from what was measured of each: for people as Markdown, for programs as one mapping."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from codec_study.probe import CONDITIONS, ProbeResult
from codec_study.quality import METRICS, MIN_CORRELATION, ORIGINAL, Speed, system_name
from espnet_tse_gen.scoring.metrics.base import Column
from espnet_tse_gen.scoring.results import NO_VALUE, Bootstrap, Cell, Table, format_interval, intervals, render_markdown
from espnet_tse_gen.scoring.stats import Interval, bootstrap_means
from espnet_tse_gen.scoring.table import Row

CROSS_ENTROPY = Column("cross_entropy", "CE", "bits", 2, "down", "cross-entropy of the probe per token")
ACCURACY = Column("accuracy", "accuracy", "%", 1, "up", "share of tokens that the probe names", 100.0)


@dataclass
class CodecEntry:
    """All that was measured of one codec."""

    tag: str  # its name in the table
    facts: dict[str, Any]  # what identifies it (family, fingerprint, rates, sizes), plain values
    kbit: dict[int, float]  # number of codebooks -> kbit/s, in the order of the rows
    rows: list[Row]  # rows of the score table, of this codec and of the recordings themselves
    speed: Speed  # how fast it is
    # figures of the probe, one per condition; empty without a probe
    probes: list[ProbeResult] = field(default_factory=list)

    def of(self, codebooks: int | None) -> list[Row]:
        """Rows of one number of codebooks; with ``None``, those of the recordings themselves."""
        name = ORIGINAL if codebooks is None else system_name(self.tag, codebooks)
        return [row for row in self.rows if row.system == name]


def render_codec_table(
    entries: Sequence[CodecEntry], set_name: str, environment: Mapping[str, str], bootstrap: Bootstrap
) -> str:
    """Compose ``codec_table.md``."""
    keys = {row.key for entry in entries for row in entry.rows}
    parts = ["# Codecs\n", "\n".join(f"- {name}: {text}" for name, text in environment.items()) + "\n"]
    tables = [fidelity_table(entries, set_name, bootstrap), speed_table(entries), probe_table(entries, bootstrap)]
    parts += [render_markdown(table, 2) for table in tables if table.rows]
    parts.append("## How to read the tables\n")
    lines = [
        f"Means over the {len(keys)} recordings of the set, with 95 % bootstrap intervals drawn over recordings "
        f"({bootstrap.resamples} resamples, seed {bootstrap.seed}). A row uses the codes of the first so many codebooks only."
    ]
    lines += [f"{metric.label}: {metric.meaning}." for metric in _columns(entries) if metric.name != "lag"]
    lines.append(
        "lag: median over recordings of the shift at the highest cross-correlation with the output; outputs are scored "
        f"as they are, unshifted. {NO_VALUE} where no output correlates by {MIN_CORRELATION}: the codec keeps no phase."
    )
    if any(entry.probes for entry in entries):
        result = next(entry.probes[0] for entry in entries if entry.probes)
        lines += [
            f"CE, gain, accuracy: of the probe, a network of {result.parameters['trunk']:,} parameters (and one linear layer per "
            f"codebook) that sees log-mel magnitudes and names the clean tokens: {result.steps} steps, the same batches for "
            "every codec, judged on speakers that it was not trained on. In the first table they are means over the "
            "row's codebooks; the row of one codebook is codebook 1.",
            "clean, mixture: the probe sees the clean speech itself, or the clean speech and another speaker "
            f"{result.sir_db:g} dB below it. It must name the clean tokens in both.",
            "guess: cross-entropy and accuracy, on the same tokens, of a guess that knows only how often each token occurs "
            "in training. gain: what the probe knows beyond that guess, in bits per token, and as a share of the guess's "
            "cross-entropy. Compare codecs by the gain: a codebook of which few entries are used, or mostly one, has a low "
            "CE, a high accuracy and little gain.",
            "entries in use: perplexity of the codebook's tokens in training, 2 to the power of their entropy. "
            "active: in frames less than 40 dB below the loudest.",
        ]
    parts.append("\n".join(f"- {line}" for line in lines) + "\n")
    return "\n".join(parts)


def fidelity_table(entries: Sequence[CodecEntry], set_name: str, bootstrap: Bootstrap) -> Table:
    """One row per codec and number of codebooks, and one for the recordings themselves."""
    columns = _columns(entries)
    conditions = [name for name in CONDITIONS if any(_probe(entry, name) for entry in entries)]
    headings = ["codec", "codebooks", "kbit/s", *(metric.heading for metric in columns), "x real time ↑"]
    for name in conditions:
        headings += [f"CE {name} (bits) ↓", f"gain {name} (bits) ↑", f"accuracy {name} (%) ↑"]
    table = Table(f"Set {set_name}", headings, labels=1)
    if originals := entries[0].of(None):
        cells = _cells(originals, columns, bootstrap)
        table.rows.append([Cell(ORIGINAL), Cell(""), Cell(""), *cells, *[Cell("")] * (1 + 3 * len(conditions))])
    for entry in entries:
        for codebooks, kbit in entry.kbit.items():
            row = [Cell(entry.tag), Cell(str(codebooks)), Cell(f"{kbit:.2f}")]
            row += _cells(entry.of(codebooks), columns, bootstrap)
            whole = codebooks == entry.facts["num_codebooks"]
            row.append(Cell(f"{entry.speed.both:.0f}" if whole else ""))
            for name in conditions:
                row += _probe_cells(_probe(entry, name), codebooks)
            table.rows.append(row)
    return table


def speed_table(entries: Sequence[CodecEntry]) -> Table:
    """Seconds of audio per second of computing."""
    table = Table("Speed (seconds of audio per second)", ["codec", "threads", "encoding", "decoding", "both"])
    for entry in entries:
        speed = entry.speed
        figures = [f"{value:.1f}" for value in (speed.encode, speed.decode, speed.both)]
        table.rows.append([Cell(entry.tag), Cell(str(speed.threads)), *(Cell(text) for text in figures)])
    table.notes.append("One recording at a time, all codebooks, the fastest of a few passes; reading is not counted.")
    return table


def probe_table(entries: Sequence[CodecEntry], bootstrap: Bootstrap) -> Table:
    """Codebook 1 of every codec and condition in detail, and the mean over all codebooks."""
    headings = [
        "codec", "probe sees", "entries in use", "guess CE (bits)", "CE (bits) ↓", "gain (bits) ↑", "gain (%) ↑",
        "gain (bits/s) ↑", "CE in training (bits)", "guess (%)", "accuracy (%) ↑", "accuracy, active (%) ↑",
        "CE, all codebooks (bits) ↓", "accuracy, all codebooks (%) ↑",
    ]  # fmt: skip
    table = Table("Predictability of codebook 1", headings, labels=2)
    for entry in entries:
        for result in entry.probes:
            first, spread = result.codebooks[0], probe_intervals(result, bootstrap)
            cross_entropy, accuracy = (
                format_interval(column, spread[name], spread[name].count)
                for name, column in (("ce", CROSS_ENTROPY), ("accuracy", ACCURACY))
            )
            everywhere, _, right = _probe_cells(result, len(result.codebooks))
            share = f"{100 * first.gain / first.guess_ce:.0f}" if first.guess_ce >= 0.1 else NO_VALUE
            cells: list[str | Cell] = [
                entry.tag, result.condition, f"{first.perplexity:.0f} of {entry.facts['codebook_sizes'][0]}",
                f"{first.guess_ce:.2f}", cross_entropy, f"{first.gain:.2f}", share,
                f"{first.gain * result.frame_rate:.0f}", f"{result.training_ce:.2f}", f"{100 * first.guess_accuracy:.1f}",
                accuracy, f"{100 * first.active_accuracy:.1f}", everywhere, right,
            ]  # fmt: skip
            table.rows.append([cell if isinstance(cell, Cell) else Cell(cell) for cell in cells])
    return table


def probe_intervals(result: ProbeResult, bootstrap: Bootstrap) -> dict[str, Interval]:
    """Means over recordings of codebook-1 cross-entropy and accuracy, with intervals."""
    values = np.array([[item.ce, item.accuracy] for item in result.items], dtype=np.float64).reshape(-1, 2)
    found = bootstrap_means(values, [item.key for item in result.items], bootstrap.resamples, bootstrap.seed)
    return dict(zip(("ce", "accuracy"), found, strict=True))


def table_values(
    entries: Sequence[CodecEntry], set_name: str, environment: Mapping[str, str], bootstrap: Bootstrap
) -> dict[str, Any]:
    """Return every figure of the tables as plain values, as they are before rounding."""
    content: dict[str, Any] = {"environment": dict(environment), "set": set_name, "bootstrap": asdict(bootstrap)}
    content |= {"original": _values(entries[0].of(None), bootstrap), "codecs": {}}
    for entry in entries:
        codebooks = {
            count: {"kbit_per_s": round(kbit, 6), "measures": _values(entry.of(count), bootstrap)}
            for count, kbit in entry.kbit.items()
        }
        probes = {}
        for result in entry.probes:
            figures = asdict(result)
            del figures["items"]
            for codebook, values in zip(result.codebooks, figures["codebooks"], strict=True):
                values |= {"gain": codebook.gain, "perplexity": codebook.perplexity}
            spread = {name: asdict(interval) for name, interval in probe_intervals(result, bootstrap).items()}
            probes[result.condition] = {**figures, "codebook_1": spread}
        content["codecs"][entry.tag] = {
            **entry.facts,
            "speed": asdict(entry.speed),
            "codebooks": codebooks,
            "probe": probes,
        }
    return content


def _columns(entries: Sequence[CodecEntry]) -> list[Column]:
    present = {column for entry in entries for row in entry.rows for column in row.metrics}
    # The lag column stays where no recording has one: that is what it says of such a codec.
    return [metric for metric in METRICS if metric.name in present or metric.name == "lag"]


def _cells(rows: Sequence[Row], columns: Sequence[Column], bootstrap: Bootstrap) -> list[Cell]:
    names = [metric.name for metric in columns]
    cells = []
    for metric, interval in zip(columns, intervals(rows, names, bootstrap), strict=True):
        if rows and rows[0].system == ORIGINAL and metric.name not in rows[0].metrics:
            cells.append(Cell(""))
        elif metric.name == "lag":
            lags = _lags(rows)
            cells.append(Cell(metric.show(float(np.median(lags))) if lags else NO_VALUE))
        else:
            cells.append(format_interval(metric, interval, len(rows)))
    return cells


def _values(rows: Sequence[Row], bootstrap: Bootstrap) -> dict[str, Any]:
    present = [metric.name for metric in METRICS if any(metric.name in row.metrics for row in rows)]
    found = {name: asdict(value) for name, value in zip(present, intervals(rows, present, bootstrap), strict=True)}
    lags = _lags(rows)
    if lags:
        found["lag"] = {"median": float(np.median(lags)), "low": min(lags), "high": max(lags), "count": len(lags)}
    return found


def _lags(rows: Sequence[Row]) -> list[float]:
    return [row.metrics["lag"] for row in rows if not math.isnan(row.metrics.get("lag", math.nan))]


def _probe(entry: CodecEntry, condition: str) -> ProbeResult | None:
    return next((result for result in entry.probes if result.condition == condition), None)


def _probe_cells(result: ProbeResult | None, codebooks: int) -> list[Cell]:
    if result is None:
        return [Cell(NO_VALUE)] * 3
    part = result.codebooks[:codebooks]
    shown = {"ce": CROSS_ENTROPY, "gain": CROSS_ENTROPY, "accuracy": ACCURACY}
    return [
        Cell(column.show(float(np.mean([getattr(codebook, name) for codebook in part]))))
        for name, column in shown.items()
    ]
