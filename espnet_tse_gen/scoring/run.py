"""One scoring run: all measures of one system on one set, into the score table; nothing twice.

Each mixture is read once, and given to all measures. What they say is kept in ``items.jsonl`` of the output directory, by the
mixture's files (path, size and time) and by the measure with its options: the same run again finds everything there, one
that is stopped goes on where it was, and one with a further measure computes only that.
"""

import contextlib
import json
import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from espnet_tse_gen.scoring.decode_facts import read_rtf, read_token_accuracy
from espnet_tse_gen.scoring.items import Mixture, gender_pair
from espnet_tse_gen.scoring.metrics import Metric
from espnet_tse_gen.scoring.table import Row, replace_rows
from espnet_tse_gen.utils.files import atomic_write
from espnet_tse_gen.utils.parallel import map_jobs
from espnet_tse_gen.utils.state import state_of

STORE = "items.jsonl"
Known = dict[str, Any]
"""What is kept of a mixture: ``files``, the digest of its files; its facts; and ``scores``, by the state of a measure, then by
the number of the target, as text."""


def run_scoring(
    system: str,
    set_name: str,
    mixtures: Sequence[Mixture],
    metrics: Sequence[Metric],
    inf_scps: Sequence[Path],
    output_dir: Path,
    scores: Path,
    note: str,
    nj: int,
    force: bool,
) -> list[Row]:
    """Score in ``nj`` processes, put the rows into the table ``scores``, and return them.

    Beside ``inf_scps``, the tables of the outputs, lie files of decoding; ESPnet's tables and what is kept go to ``output_dir``.
    ``note`` is what else a reader of the scores must know. With ``force`` even what is known is scored.
    """
    rtf, condition = read_rtf(inf_scps)
    accuracies = [read_token_accuracy(scp) for scp in inf_scps]
    tools = "; ".join(filter(None, [*(one.describe() for one in metrics), note]))
    scored, states = score_mixtures(mixtures, metrics, output_dir / STORE, nj, force)
    rows: list[Row] = []
    for mixture, known in zip(mixtures, scored, strict=True):
        for index, _ in enumerate(mixture.outputs):
            number = str(index + 1)
            row = Row(system, set_name, mixture.key, index + 1, mixture.speakers[index], gender_pair(mixture.genders))
            row.note, row.fault, row.tools = condition, known["faults"].get(number, ""), tools
            if known["input_sir"]:
                row.input_sir = known["input_sir"][index]
            for state in states:
                values = known["scores"][state].get(number, {})
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
    for state, metric in zip(states, metrics, strict=True):
        each = [(mixture.key, known["scores"][state]) for mixture, known in zip(mixtures, scored, strict=True)]
        metric.finish(output_dir, {(key, int(number)): row for key, found in each for number, row in found.items()})
    replace_rows(scores, rows)
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
    scores: dict[str, dict[int, dict[str, Any]]] = {state: {} for state, _ in metrics}
    with threadpoolctl.threadpool_limits(1):
        for item in loaded.items():
            for state, metric in metrics:
                values = metric.score(item).items()
                scores[state][item.number] = {
                    name: value for name, value in values if isinstance(value, str) or math.isfinite(value)
                }
    found = {"files": files, "silent_mixture": not loaded.mixture.any(), "input_sir": loaded.input_sir}
    found |= {"faults": loaded.faults, "false_alarms": loaded.false_alarms, "scores": scores}
    # Numbers of targets become text, as they are when the store is read again.
    return json.loads(json.dumps(found))
