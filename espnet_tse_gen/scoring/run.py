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

import espnet_tse_gen
from espnet_tse_gen.errors import UserError, unknown_name
from espnet_tse_gen.fileio import atomic_write, read_scp
from espnet_tse_gen.scoring.decode_facts import accuracy_files, read_rtf, read_token_accuracy, rtf_files
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
        rtf_json: File with the real-time factor; by default what decoding left beside the output tables.
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
        side = [*self.rtf_paths(), *(path for scp in self.inf_scps for path in accuracy_files(scp))]
        if self.data_dir is not None:
            side += [self.data_dir / "spk2gender"]
            side += [self.data_dir / f"target_spk{number}" for number in range(1, len(self.ref_scps) + 1)]
        for path in side:
            digest.update(f"{path} {_stamp(path)}\n".encode())
        return digest.hexdigest()

    def rtf_paths(self) -> list[Path]:
        """Files with the real-time factor."""
        return [self.rtf_json] if self.rtf_json is not None else rtf_files(self.inf_scps)


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
    rtf, note = read_rtf(job.rtf_paths())
    accuracies = [read_token_accuracy(accuracy_files(scp)) for scp in job.inf_scps]
    own = score_items(mixtures, job.preset, job.delay, job.nj)
    scores = run_enh_scoring(mixtures, job.output_dir, job.nj)
    rows = []
    for item in mixtures:
        for speaker in range(1, len(item.outputs) + 1):
            metrics = {**scores.get((item.key, speaker), {}), **own[item.key, speaker]}
            metrics.update(accuracies[speaker - 1].get(item.key, {}))
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
