"""One scoring run: all measures of one system on one set, into the score table; nothing twice.

Each mixture is read once, and given to all measures. What they say is kept in ``items.jsonl`` of the output directory, by the
mixture's files (path, size and time) and by the measure with its options: the same run again finds everything there, one
that is stopped goes on where it was, and one with a further measure computes only that.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espnet_tse_gen.audio.files import read_audio
from espnet_tse_gen.scoring.decode_facts import read_rtf, read_token_accuracy, rtf_files
from espnet_tse_gen.scoring.items import Mixture, gender_pair, read_mixtures
from espnet_tse_gen.scoring.metrics import Metric, choose_metrics
from espnet_tse_gen.scoring.networks import NetworkChoice
from espnet_tse_gen.scoring.signal import constant_delay
from espnet_tse_gen.scoring.table import Row, replace_rows
from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.files import atomic_write, read_scp
from espnet_tse_gen.utils.parallel import map_jobs
from espnet_tse_gen.utils.state import state_of

STORE = "items.jsonl"
DELAY_RECORDINGS = 50
"""How many clean recordings a codec's delay is measured on."""


@dataclass
class ScoringJob:
    """What to score and where the results go."""

    system: str  # Name of the system, a row of the result table
    set: str  # Name of the test set
    mixture_scp: Path  # Table of mixtures
    ref_scps: Sequence[Path]  # Tables of clean speech, one per speaker of the mixture
    inf_scps: Sequence[Path]  # Tables of outputs, in the order of ``ref_scps``
    output_dir: Path  # For ESPnet's tables and what is kept
    scores: Path  # The score table
    data_dir: Path | None = None  # Where ``target_spk{n}`` and ``spk2gender`` lie, if anywhere
    preset: str = (
        "signal"  # Name in :data:`espnet_tse_gen.scoring.metrics.PRESETS`; ``networks`` and ``further`` add measures
    )
    # Samples by which outputs lag their references; ``None`` measures it on ``ceiling_scps``, the clean speech
    # of ``ref_scps`` through the codec
    delay: int | None = 0
    ceiling_scps: Sequence[Path] = ()
    nj: int = 1  # Number of processes
    networks: Sequence[NetworkChoice] = ()
    further: Sequence[Metric] = ()


Known = dict[str, Any]
"""What is kept of a mixture: ``files``, the digest of its files; its facts; and ``scores``, by the state of a measure, then by
the number of the target, as text."""


def run_scoring(job: ScoringJob, force: bool = False) -> list[Row]:
    """Score, and put the rows into the table.

    Args:
        job: What to score.
        force: Score even what is known.

    Returns:
        The rows of this system and set.

    Raises:
        UserError: For anything wrong with the input, before the first measure is computed.
    """
    choose_metrics(job.preset, 0, job.networks)
    mixtures = read_mixtures(job.mixture_scp, job.ref_scps, job.inf_scps, job.data_dir)
    delay = choose_delay(job, mixtures)
    rtf, note = read_rtf(rtf_files(job.inf_scps))
    accuracies = [read_token_accuracy(scp) for scp in job.inf_scps]
    metrics = [*choose_metrics(job.preset, delay, job.networks), *job.further]
    for metric in job.further:
        metric.check()
    tools = "; ".join(
        filter(None, [*(one.describe() for one in metrics), f"delay of {delay} samples undone" * bool(delay)])
    )
    scored, states = score_mixtures(mixtures, metrics, job.output_dir / STORE, job.nj, force)
    rows: list[Row] = []
    by_metric: list[dict[tuple[str, int], dict[str, Any]]] = [{} for _ in metrics]
    for mixture, known in zip(mixtures, scored, strict=True):
        for index, _ in enumerate(mixture.outputs):
            number = str(index + 1)
            row = Row(job.system, job.set, mixture.key, index + 1, note=note, tools=tools)
            row.target = mixture.speakers[index] if mixture.speakers else ""
            row.gender_pair, row.fault = gender_pair(mixture.genders), known["faults"].get(number, "")
            row.input_sir = known["input_sir"][index] if known["input_sir"] else math.nan
            for state, found in zip(states, by_metric, strict=True):
                if number in known["scores"][state]:
                    values = found[mixture.key, index + 1] = known["scores"][state][number]
                    row.metrics |= {name: value for name, value in values.items() if not isinstance(value, str)}
            if not row.fault:
                row.metrics |= accuracies[index].get(mixture.key, {})
            if number in known["false_alarms"]:
                row.metrics["silence_db"] = known["false_alarms"][number]
            if rtf is not None:
                row.metrics["RTF"] = rtf
            rows.append(row)
    for fault, count in sorted(Counter(row.fault for row in rows if row.fault).items()):
        first = next(row.key for row in rows if row.fault == fault)
        logging.warning("%d of %d items have no scores: %s (first '%s')", count, len(rows), fault, first)
    silent = sum(known["silent_mixture"] for known in scored)
    if silent:
        logging.warning("%d of %d mixtures are silent: no SI-SDRi", silent, len(scored))
    for metric, found in zip(metrics, by_metric, strict=True):
        metric.finish(job.output_dir, found)
    replace_rows(job.scores, rows)
    return rows


def score_mixtures(
    mixtures: Sequence[Mixture], metrics: Sequence[Metric], store: Path, nj: int = 1, force: bool = False
) -> tuple[list[Known], list[str]]:
    """Compute what ``store`` does not hold yet of all ``metrics`` on all ``mixtures``, in ``nj`` processes.

    Returns:
        What is known of each mixture (the same for every ``nj``), and under which state of each metric.
    """
    states = [state_of(metric.state()) for metric in metrics]
    files = {mixture.key: state_of(files=mixture.paths) for mixture in mixtures}
    known: dict[str, Known] = {}
    lines = store.read_text(encoding="utf-8").splitlines() if store.exists() and not force else []
    for line in lines:
        with contextlib.suppress(ValueError, KeyError, TypeError):  # A killed run may leave half a line.
            _add(known, files, *json.loads(line))
    todo = []
    for mixture in mixtures:
        there = known.get(mixture.key, {"scores": {}})["scores"]
        missing = [(state, metric) for state, metric in zip(states, metrics, strict=True) if state not in there]
        if missing:
            todo.append((mixture, files[mixture.key], missing))
    if todo:
        store.parent.mkdir(parents=True, exist_ok=True)
        chunk = max(1, min(8, len(todo) // nj))
        with open(store, "w" if force else "a", encoding="utf-8") as stream:
            for (mixture, *_), found in zip(todo, map_jobs(_score, todo, nj, "scoring", chunk), strict=True):
                print(json.dumps([mixture.key, found]), file=stream, flush=True)
                _add(known, files, mixture.key, found)
        with atomic_write(store) as stream:
            stream.writelines(f"{json.dumps([key, one])}\n" for key, one in sorted(known.items()))
    else:
        logging.info("unchanged since it was scored; nothing to do")
    return [known[mixture.key] for mixture in mixtures], states


def _add(known: dict[str, Known], files: Mapping[str, str], key: str, found: Known) -> None:
    """Put what was found of a mixture, if its files are the same still, beside what is known of it."""
    if found["files"] == files.get(key):
        known[key] = {**found, "scores": {**known.get(key, found)["scores"], **found["scores"]}}


def _score(task: tuple[Mixture, str, Sequence[tuple[str, Metric]]]) -> Known:
    """Score one mixture with one thread: the processes are the parallelism."""
    import threadpoolctl
    import torch  # noqa: F401  (so that its threads are known)

    mixture, files, metrics = task
    loaded = mixture.load()
    scores: dict[str, dict[str, dict[str, Any]]] = {state: {} for state, _ in metrics}
    with threadpoolctl.threadpool_limits(1):
        for item in loaded.items():
            for state, metric in metrics:
                values = metric.score(item).items()
                scores[state][str(item.number)] = {
                    name: value for name, value in values if isinstance(value, str) or math.isfinite(value)
                }
    return {
        "files": files,
        "silent_mixture": not loaded.mixture.any(),
        "input_sir": loaded.input_sir,
        "faults": {str(number): fault for number, fault in loaded.faults.items()},
        "false_alarms": {str(number): value for number, value in loaded.false_alarms.items()},
        "scores": scores,
    }


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
            if item.key in ceiling
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
