"""One scoring run: all measures of one system on one set, into the score table; nothing twice.

A run leaves a fingerprint (of options and of every file's path, size and time) in its output directory. The same run
again finds its rows in the table and does no work. Each part of a run (own measures, ESPnet's scorer, recognition) keeps
its results in a file as well: a run that is stopped goes on with the next part, and one with a further recognizer or
another preset does only what is new.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import espnet_tse_gen
from espnet_tse_gen.audio.files import read_audio
from espnet_tse_gen.scoring.decode_facts import accuracy_files, read_rtf, read_token_accuracy, rtf_files
from espnet_tse_gen.scoring.espnet_scorer import Scores, run_enh_scoring
from espnet_tse_gen.scoring.items import Mixture, read_mixtures
from espnet_tse_gen.scoring.networks import NetworkChoice, describe
from espnet_tse_gen.scoring.own_metrics import check_preset, score_items
from espnet_tse_gen.scoring.recognition import RecognizerChoice, read_transcripts, score_words
from espnet_tse_gen.scoring.signal import constant_delay
from espnet_tse_gen.scoring.table import Row, read_scores, replace_rows
from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.files import atomic_write, read_scp

DONE = "score.json"
DELAY_RECORDINGS = 50
"""How many clean recordings a codec's delay is measured on."""


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
        delay: Samples by which outputs lag their references; ``None`` measures it on ``ceiling_scps``.
        ceiling_scps: Tables of the clean speech of ``ref_scps`` through the codec, for the delay.
        nj: Number of processes.
        rtf_json: File with the real-time factor; by default what decoding left beside the output tables.
        networks: Further networks to score with.
        recognizers: For word error rates.
        text_scps: Tables of the transcripts of each speaker's utterances, for WER.
        clean_dir: Where recognised clean speech is kept for all systems; by default ``output_dir``.
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
    delay: int | None = 0
    ceiling_scps: Sequence[Path] = ()
    nj: int = 1
    rtf_json: Path | None = None
    networks: Sequence[NetworkChoice] = ()
    recognizers: Sequence[RecognizerChoice] = ()
    text_scps: Sequence[Path] = ()
    clean_dir: Path | None = None

    def recordings(self) -> str:
        """Hash of the tables of recordings, and of every recording's path, size and time."""
        digest = hashlib.sha256()
        for table in (self.mixture_scp, *self.ref_scps, *self.inf_scps):
            digest.update(f"{len(self.ref_scps)}\n".encode())
            for key, name in sorted(read_scp(table).items()):
                digest.update(f"{key} {name} {_stamp(Path(name))}\n".encode())
        return digest.hexdigest()

    def fingerprint(self) -> str:
        """Hash of all that determines the result, without reading the audio."""
        digest = hashlib.sha256()
        head = [espnet_tse_gen.__version__, self.system, self.set, self.preset, str(self.delay), self.tools()]
        head += [f"{choice.suffix} {choice.stamp()}" for choice in self.recognizers]
        digest.update(json.dumps([*head, self.recordings()]).encode())
        for table in self.ceiling_scps if self.delay is None else ():
            for key, name in sorted(read_scp(table).items()):
                digest.update(f"{key} {name} {_stamp(Path(name))}\n".encode())
        side = [*self.rtf_paths(), *(path for scp in self.inf_scps for path in accuracy_files(scp))]
        if self.data_dir is not None:
            side += [self.data_dir / "spk2gender"]
            side += [self.data_dir / f"target_spk{number}" for number in range(1, len(self.ref_scps) + 1)]
        if self.recognizers:
            side += self.text_scps
        for path in side:
            digest.update(f"{path} {_stamp(path)}\n".encode())
        return digest.hexdigest()

    def tools(self) -> str:
        """Name the networks that are not part of a preset, with their revisions.

        Raises:
            UserError: If the files of one are not on this machine.
        """
        return "; ".join([*map(describe, self.networks), *(choice.describe() for choice in self.recognizers)])

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
    preset = check_preset(job.preset)
    fingerprint = job.fingerprint()
    if not force:
        rows = _finished(job, fingerprint)
        if rows:
            logging.info("%s on %s: unchanged since it was scored; nothing to do", job.system, job.set)
            return rows
    mixtures = read_mixtures(job.mixture_scp, job.ref_scps, job.inf_scps, job.data_dir)
    delay = choose_delay(job, mixtures)
    rtf, note = read_rtf(job.rtf_paths())
    accuracies = [read_token_accuracy(accuracy_files(scp)) for scp in job.inf_scps]
    recordings, use_dnsmos = job.recordings(), "dnsmos_espnet" in preset
    own = [recordings, job.preset, delay, [describe(choice) for choice in job.networks]]
    parts = [
        _kept(
            job.output_dir / "own.json",
            own,
            force,
            lambda: score_items(mixtures, job.preset, delay, job.nj, job.networks),
        ),
        _kept(
            job.output_dir / "enh_scoring.json",
            [recordings, use_dnsmos],
            force,
            lambda: run_enh_scoring(mixtures, job.output_dir, job.nj, use_dnsmos),
        ),
    ]
    for choice in job.recognizers:
        transcripts = read_transcripts(job.text_scps)
        clean_dir = job.clean_dir or job.output_dir
        parts.append(score_words(mixtures, choice, transcripts, job.output_dir, clean_dir, job.nj))
    tools = "; ".join(filter(None, [job.tools(), f"delay of {delay} samples undone" if delay else ""]))
    rows = []
    for item in mixtures:
        for index in range(len(item.outputs)):
            row = _row(job, item, index, parts)
            row.note, row.tools = note, tools
            if not row.fault:
                row.metrics.update(accuracies[index].get(item.key, {}))
            if rtf is not None:
                row.metrics["RTF"] = rtf
            rows.append(row)
    replace_rows(job.scores, rows)
    with atomic_write(job.output_dir / DONE) as stream:
        json.dump({"fingerprint": fingerprint, "rows": len(rows)}, stream)
    return rows


def _kept(path: Path, made_from: Sequence[Any], force: bool, compute: Callable[[], Scores]) -> Scores:
    """Return the scores in ``path`` if they are of ``made_from`` and not forced, else compute and keep them."""
    state = json.dumps([espnet_tse_gen.__version__, *made_from])
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not force and content["made_from"] == state:
            return {(key, speaker): scores for key, speaker, scores in content["scores"]}
    except (OSError, ValueError, KeyError, TypeError):
        pass
    scores = compute()
    with atomic_write(path) as stream:
        json.dump({"made_from": state, "scores": [[*item, row] for item, row in scores.items()]}, stream)
    return scores


def _row(job: ScoringJob, item: Mixture, index: int, parts: Sequence[Scores]) -> Row:
    """One item's facts, and its scores from all ``parts``."""
    metrics: dict[str, float] = {}
    for scores in reversed(parts):
        metrics.update(scores.get((item.key, index + 1), {}))
    row = Row(job.system, job.set, item.key, index + 1, gender_pair=item.gender_pair, metrics=metrics)
    row.fault = item.faults.get(index, "")
    if item.speakers:
        row.target = item.speakers[index]
    if item.input_sir:
        row.input_sir = item.input_sir[index]
    return row


def choose_delay(job: ScoringJob, mixtures: Sequence[Mixture]) -> int:
    """Return the delay to undo, in samples: as given, or measured once on clean speech through the codec.

    Raises:
        UserError: If it cannot be measured, or is not shorter than the shortest of ``mixtures``.
    """
    delay = job.delay
    if delay is None:
        pairs = [
            (item.references[index], ceiling[item.key], item.key)
            for index, ceiling in enumerate(map(read_scp, job.ceiling_scps))
            for item in mixtures
            if index in item.usable_references and item.key in ceiling
        ]
        # Spread over the set, and over the speakers.
        chosen = pairs[:: -(-len(pairs) // DELAY_RECORDINGS) or 1]
        try:
            delay = constant_delay(
                (read_audio(clean)[0], read_audio(coded, key=key)[0]) for clean, coded, key in chosen
            )
        except ValueError as error:
            raise UserError(f"--delay auto: cannot be measured on --ceiling_scp ({error})") from None
        logging.info("the codec delays by %d samples, measured on %d clean recordings", delay, len(chosen))
    shortest = min(mixtures, key=lambda item: item.length)
    if abs(delay) >= shortest.length:
        raise UserError(f"--delay {delay}: is not shorter than the {shortest.length} samples of '{shortest.key}'")
    return delay


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
