"""One scoring run: all measures of one system on one set, into the score table; nothing twice.

A run leaves a fingerprint (of options and of every file's path, size and time) in its output directory. The same run
again finds its rows in the table and does no work.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import espnet_tse_gen
from espnet_tse_gen.errors import UserError, unknown_name
from espnet_tse_gen.fileio import atomic_write, read_scp
from espnet_tse_gen.scoring.espnet_scorer import run_enh_scoring
from espnet_tse_gen.scoring.items import read_mixtures
from espnet_tse_gen.scoring.own_metrics import PRESETS, score_items
from espnet_tse_gen.scoring.table import Row, read_scores, replace_rows

DONE = "score.json"


@dataclass
class ScoringJob:
    """What to score and where the results go.

    Attributes:
        system: Name of the system, a row of the result table.
        set: Name of the test set.
        mixture_scp: Table of mixtures.
        ref_scps: Tables of clean speech, one per speaker of the mixture.
        inf_scps: Tables of outputs, in the order of ``ref_scps``.
        output_dir: For ESPnet's tables, logs and the fingerprint.
        scores: The score table.
        data_dir: Where ``target_spk{n}`` and ``spk2gender`` lie, if anywhere.
        preset: Name in :data:`espnet_tse_gen.scoring.own_metrics.PRESETS`.
        delay: Samples by which outputs lag their references.
        nj: Number of processes.
        rtf_json: File with the real-time factor; by default ``rtf.json`` beside the first output table, if there.
    """

    system: str
    set: str
    mixture_scp: Path
    ref_scps: Sequence[Path]
    inf_scps: Sequence[Path]
    output_dir: Path
    scores: Path
    data_dir: Path | None = None
    preset: str = "signal"
    delay: int = 0
    nj: int = 1
    rtf_json: Path | None = None

    def fingerprint(self) -> str:
        """Hash of all that determines the result, without reading the audio."""
        digest = hashlib.sha256()
        head = [espnet_tse_gen.__version__, self.system, self.set, self.preset, str(self.delay)]
        digest.update(json.dumps(head).encode())
        for table in (self.mixture_scp, *self.ref_scps, *self.inf_scps):
            for key, name in sorted(read_scp(table).items()):
                digest.update(f"{key} {name} {_stamp(Path(name))}\n".encode())
        side = [self.rtf_path()]
        if self.data_dir is not None:
            side += [self.data_dir / "spk2gender"]
            side += [self.data_dir / f"target_spk{number}" for number in range(1, len(self.ref_scps) + 1)]
        for path in side:
            digest.update(f"{path} {_stamp(path)}\n".encode())
        return digest.hexdigest()

    def rtf_path(self) -> Path:
        """Where the real-time factor is looked for."""
        return self.rtf_json or Path(self.inf_scps[0]).parent / "rtf.json"


def run_scoring(job: ScoringJob, force: bool = False) -> list[Row]:
    """Score, and put the rows into the table.

    Args:
        job: What to score.
        force: Score even if the table holds the same run's rows.

    Returns:
        The rows of this system and set.

    Raises:
        UserError: For anything wrong with the input, before the first measure is computed.
    """
    if job.preset not in PRESETS:
        raise unknown_name("scoring preset", job.preset, PRESETS)
    fingerprint = job.fingerprint()
    if not force:
        rows = _finished(job, fingerprint)
        if rows:
            logging.info("%s on %s: unchanged since it was scored; nothing to do", job.system, job.set)
            return rows
    mixtures = read_mixtures(job.mixture_scp, job.ref_scps, job.inf_scps, job.data_dir)
    shortest = min(mixtures, key=lambda item: item.length)
    if abs(job.delay) >= shortest.length:
        raise UserError(f"--delay {job.delay}: is not shorter than the {shortest.length} samples of '{shortest.key}'")
    rtf, note = read_rtf(job.rtf_path(), required=job.rtf_json is not None)
    own = score_items(mixtures, job.preset, job.delay, job.nj)
    scores = run_enh_scoring(mixtures, job.output_dir, job.nj)
    rows = []
    for item in mixtures:
        for speaker in range(1, len(item.outputs) + 1):
            metrics = {**scores.get((item.key, speaker), {}), **own[item.key, speaker]}
            if rtf is not None:
                metrics["RTF"] = rtf
            row = Row(job.system, job.set, item.key, speaker, gender_pair=item.gender_pair, metrics=metrics, note=note)
            if item.speakers:
                row.target = item.speakers[speaker - 1]
            if item.input_sir:
                row.input_sir = item.input_sir[speaker - 1]
            rows.append(row)
    replace_rows(job.scores, rows)
    with atomic_write(job.output_dir / DONE) as stream:
        json.dump({"fingerprint": fingerprint, "rows": len(rows)}, stream)
    return rows


def read_rtf(path: Path, required: bool = False) -> tuple[float | None, str]:
    """Read ``rtf.json``: ``rtf``, or ``seconds`` and ``audio_seconds``; all other plain values become the conditions.

    Returns:
        The real-time factor, or ``None`` where there is no file, and the conditions as one line.

    Raises:
        UserError: If the file is no such table, or missing although ``required``.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if required:
            raise UserError(f"{path}: no such file; run decoding first, or leave out --rtf_json") from None
        return None, ""
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error})") from None
    if isinstance(content, dict):
        numbers = {"rtf", "seconds", "audio_seconds"}
        rtf = _number(content.get("rtf"))
        seconds, audio = _number(content.get("seconds")), _number(content.get("audio_seconds"))
        if rtf is None and seconds is not None and audio:
            rtf = seconds / audio
        if rtf is not None:
            plain = {k: v for k, v in content.items() if k not in numbers and isinstance(v, (str, int, float, list))}
            note = ", ".join(f"{name} {_plain(value)}" for name, value in plain.items())
            return rtf, " ".join(note.split())
    raise UserError(f'{path}: expected {{"rtf": number, ...}} or {{"seconds": number, "audio_seconds": number, ...}}')


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return "/".join(_plain(part) for part in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _stamp(path: Path) -> str:
    try:
        stat = path.stat()
    except OSError:
        return "-"
    return f"{stat.st_size} {stat.st_mtime_ns}"


def _finished(job: ScoringJob, fingerprint: str) -> list[Row]:
    """The rows that an equal earlier run left, or nothing."""
    try:
        done = json.loads((job.output_dir / DONE).read_text(encoding="utf-8"))
        known = done["fingerprint"] == fingerprint
    except (OSError, ValueError, KeyError, TypeError):
        return []
    if not known or not job.scores.exists():
        return []
    rows = [row for row in read_scores(job.scores) if (row.system, row.set) == (job.system, job.set)]
    return rows if len(rows) == done.get("rows") else []
