"""One scoring run: all measures of one system on one set, into the score table; nothing twice.

Each mixture is read once, and given to all measures. What they say is kept in ``items.jsonl`` of the output directory, by the
mixture's files (path, size and time) and by the measure with its options: the same run again finds everything there, one
that is stopped goes on where it was, and one with a further measure computes only that.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import espnet_tse_gen
from espnet_tse_gen.audio.files import read_audio
from espnet_tse_gen.scoring.decode_facts import read_rtf, read_token_accuracy, rtf_files
from espnet_tse_gen.scoring.items import Mixture, gender_pair, read_mixtures
from espnet_tse_gen.scoring.metrics import Metric, choose_metrics
from espnet_tse_gen.scoring.networks import NetworkChoice
from espnet_tse_gen.scoring.signal import constant_delay
from espnet_tse_gen.scoring.table import Row, replace_rows
from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.files import atomic_write, read_scp
from espnet_tse_gen.utils.jobs import files_digest
from espnet_tse_gen.utils.parallel import map_jobs

STORE = "items.jsonl"
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
        output_dir: For ESPnet's tables and what is kept.
        scores: The score table.
        data_dir: Where ``target_spk{n}`` and ``spk2gender`` lie, if anywhere.
        preset: Name in :data:`espnet_tse_gen.scoring.metrics.PRESETS`.
        delay: Samples by which outputs lag their references; ``None`` measures it on ``ceiling_scps``.
        ceiling_scps: Tables of the clean speech of ``ref_scps`` through the codec, for the delay.
        nj: Number of processes.
        rtf_json: File with the real-time factor; by default what decoding left beside the output tables.
        networks: Further networks to score with.
        further: Further measures.
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
    further: Sequence[Metric] = ()


@dataclass
class Scored:
    """What is known of a mixture: its faults, and scores by the state of a measure, and by number of the target."""

    files: str
    silent_mixture: bool
    input_sir: list[float]
    faults: dict[int, str]
    false_alarms: dict[int, float]
    scores: dict[str, dict[int, dict[str, Any]]]

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Scored:
        """Read what ``vars`` wrote."""
        scores = {state: _numbered(found) for state, found in values["scores"].items()}
        numbered = {name: _numbered(values[name]) for name in ("faults", "false_alarms")}
        return cls(**{**values, **numbered, "scores": scores})


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
    rtf, note = read_rtf([job.rtf_json] if job.rtf_json is not None else rtf_files(job.inf_scps))
    accuracies = [read_token_accuracy(scp) for scp in job.inf_scps]
    metrics = [*choose_metrics(job.preset, delay, job.networks), *job.further]
    for metric in job.further:
        metric.check()
    tools = "; ".join(
        filter(None, [*(one.describe() for one in metrics), f"delay of {delay} samples undone" * bool(delay)])
    )
    scored, states = score_mixtures(mixtures, metrics, job.output_dir / STORE, job.nj, force)
    rows = []
    for mixture, known in zip(mixtures, scored, strict=True):
        for number in range(1, len(mixture.outputs) + 1):
            row = Row(
                job.system, job.set, mixture.key, number, note=note, tools=tools, fault=known.faults.get(number, "")
            )
            row.gender_pair = gender_pair(mixture.genders)
            if mixture.speakers:
                row.target = mixture.speakers[number - 1]
            if known.input_sir:
                row.input_sir = known.input_sir[number - 1]
            for state in states:
                values = known.scores[state].get(number, {})
                row.metrics |= {name: value for name, value in values.items() if not isinstance(value, str)}
            if not row.fault:
                row.metrics |= accuracies[number - 1].get(mixture.key, {})
            if number in known.false_alarms:
                row.metrics["silence_db"] = known.false_alarms[number]
            if rtf is not None:
                row.metrics["RTF"] = rtf
            rows.append(row)
    _report(rows, scored)
    for metric, state in zip(metrics, states, strict=True):
        metric.finish(
            job.output_dir,
            {(mixture.key, number): values for mixture, known in zip(mixtures, scored, strict=True)
             for number, values in known.scores[state].items()},
        )  # fmt: skip
    replace_rows(job.scores, rows)
    return rows


def score_mixtures(
    mixtures: Sequence[Mixture], metrics: Sequence[Metric], store: Path, nj: int = 1, force: bool = False
) -> tuple[list[Scored], list[str]]:
    """Compute what ``store`` does not hold yet of all ``metrics`` on all ``mixtures``, in ``nj`` processes.

    Returns:
        What is known of each mixture (the same for every ``nj``), and under which name of each metric.
    """
    version = espnet_tse_gen.__version__
    states = [hashlib.sha256(f"{version} {metric.state()}".encode()).hexdigest()[:20] for metric in metrics]
    files = {mixture.key: files_digest([], mixture.paths) for mixture in mixtures}
    known = {} if force else _read(store)
    known = {key: one for key, one in known.items() if files.get(key) == one.files}
    todo = []
    for mixture in mixtures:
        there = known[mixture.key].scores if mixture.key in known else {}
        missing = tuple((state, metric) for state, metric in zip(states, metrics, strict=True) if state not in there)
        if missing:
            todo.append((mixture, files[mixture.key], missing))
    if not todo:
        logging.info("unchanged since it was scored; nothing to do")
        return [known[mixture.key] for mixture in mixtures], states
    store.parent.mkdir(parents=True, exist_ok=True)
    chunk = max(1, min(8, len(todo) // nj))
    with open(store, "w" if force else "a", encoding="utf-8") as stream:
        for (mixture, *_), found in zip(todo, map_jobs(_score, todo, nj, "scoring", chunk), strict=True):
            print(json.dumps({mixture.key: vars(found)}), file=stream, flush=True)
            known[mixture.key] = _merged(known.get(mixture.key), found)
    with atomic_write(store) as stream:
        stream.writelines(f"{json.dumps({key: vars(one)})}\n" for key, one in sorted(known.items()))
    return [known[mixture.key] for mixture in mixtures], states


def _score(task: tuple[Mixture, str, Sequence[tuple[str, Metric]]]) -> Scored:
    """Score one mixture with one thread: the processes are the parallelism."""
    mixture, files, metrics = task
    loaded = mixture.load()
    scores: dict[str, dict[int, dict[str, Any]]] = {state: {} for state, _ in metrics}
    with _one_thread():
        for item in loaded.items():
            for state, metric in metrics:
                scores[state][item.number] = {
                    name: value for name, value in metric.score(item).items() if isinstance(value, str) or math.isfinite(value)
                }  # fmt: skip
    silent = not loaded.mixture.any()
    return Scored(files, silent, loaded.input_sir, loaded.faults, loaded.false_alarms, scores)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    import threadpoolctl
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpoolctl.threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(threads)


def _read(store: Path) -> dict[str, Scored]:
    """What ``store`` holds, without a line that a killed run left unfinished; later lines add to earlier ones."""
    known: dict[str, Scored] = {}
    for line in store.read_text(encoding="utf-8").splitlines() if store.exists() else ():
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
            for key, values in json.loads(line).items():
                known[key] = _merged(known.get(key), Scored.from_json(values))
    return known


def _merged(old: Scored | None, new: Scored) -> Scored:
    return new if old is None or old.files != new.files else replace(new, scores={**old.scores, **new.scores})


def _numbered(values: Mapping[str, Any]) -> dict[int, Any]:
    return {int(number): value for number, value in values.items()}


def _report(rows: Sequence[Row], scored: Sequence[Scored]) -> None:
    """Log how many items have no scores, and why."""
    for fault, count in sorted(Counter(row.fault for row in rows if row.fault).items()):
        first = next(row.key for row in rows if row.fault == fault)
        logging.warning("%d of %d items have no scores: %s (first '%s')", count, len(rows), fault, first)
    silent = sum(one.silent_mixture for one in scored)
    if silent:
        logging.warning("%d of %d mixtures are silent: no SI-SDRi", silent, len(scored))


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
