"""ESPnet's own scorer, ``espnet2.bin.enh_scoring``, run as subprocesses over splits of the keys.

It is always told that outputs belong to the reference of the same number (``--is_tse true``): without that it permutes
speakers, and a system that extracts the wrong person throughout gets a perfect score. It takes mixtures whole and ends
at the first that it cannot score, so it is given only what it can: an output that is silent or missing is replaced by
its reference, and the replacement's scores are dropped; mixtures that lack a usable reference go into a run of their
own. Neither changes the other scores: with fixed speakers BSS Eval looks at one output and all references at a time.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from espnet_tse_gen.scoring.items import Mixture
from espnet_tse_gen.scoring.metrics import ESPNET_COLUMNS, ESPNET_DNSMOS
from espnet_tse_gen.utils.errors import UserError, naming_extra
from espnet_tse_gen.utils.files import read_scp, write_scp

PESQ_RATES = (8000, 16000)
NO_STOI = 1e-5
Scores = dict[tuple[str, int], dict[str, float]]


def can_use_pesq(sample_rate: int) -> bool:
    """Tell whether PESQ can be computed: the ``pesq`` package is installed and the rate is 8 or 16 kHz; log if not."""
    if importlib.util.find_spec("pesq") is None:
        logging.warning("PESQ is left out: the pesq package is not installed (pip install 'espnet_tse_gen[score]')")
        return False
    if sample_rate not in PESQ_RATES:
        # At other rates ESPnet resamples the first item only and scores the rest at a wrong rate.
        logging.warning("PESQ is left out: it is defined at 8 and 16 kHz, the audio has %d Hz", sample_rate)
        return False
    return True


def dnsmos_options() -> list[str]:
    """Return the options that make ESPnet's scorer compute DNSMOS with the networks that ``speechmos`` ships.

    Raises:
        UserError: If the package is not installed.
    """
    spec = importlib.util.find_spec("speechmos")
    if spec is None or spec.origin is None:
        raise UserError(
            "DNSMOS needs the package 'speechmos', which holds its networks; run: pip install 'espnet_tse_gen[score]'"
        )
    folder = Path(spec.origin).parent / "dnsmos_models"
    networks = ["--dnsmos_primary_model", str(folder / "sig_bak_ovr.onnx")]
    return ["--use_dnsmos", "true", *networks, "--dnsmos_p808_model", str(folder / "model_v8.onnx")]


def run_enh_scoring(
    mixtures: Sequence[Mixture], output_dir: str | Path, nj: int = 1, use_dnsmos: bool = False
) -> Scores:
    """Score outputs against their references.

    Leaves ESPnet's tables (``SDR_spk1``, ``STOI_spk1``, ...) in ``output_dir`` and the logs in ``output_dir/log``.

    Args:
        mixtures: Checked items of one rate.
        output_dir: Where tables and logs go.
        nj: Number of subprocesses.
        use_dnsmos: Also compute DNSMOS, as columns of their own.

    Returns:
        (key, speaker number from 1) -> column -> value. A column is absent where the scorer gave no valid value.

    Raises:
        UserError: If a subprocess fails, with the path of its log.
    """
    with naming_extra("ESPnet's scorer"):
        importlib.import_module("espnet2")
    output_dir = Path(output_dir)
    work = output_dir / ".enh_scoring"
    shutil.rmtree(work, ignore_errors=True)
    (output_dir / "log").mkdir(parents=True, exist_ok=True)
    options = ["--use_pesq", str(can_use_pesq(mixtures[0].sample_rate)).lower()]
    if use_dnsmos:
        options += dnsmos_options()
    commands = []
    parts = _parts(mixtures, nj)
    for number, (part, speakers) in enumerate(parts, 1):
        commands.append(_prepare(part, speakers, work / str(number)) + options)
    _run_all(commands, output_dir / "log", nj)
    scores: Scores = {}
    tables: dict[str, dict[str, str]] = {}
    for number, (part, speakers) in enumerate(parts, 1):
        for item in part:
            scores.update({(item.key, index + 1): {} for index in item.usable_outputs})
        _collect(work / str(number) / "out", part, speakers, scores, tables)
    for name, table in tables.items():
        write_scp(output_dir / name, table)
    shutil.rmtree(work, ignore_errors=True)
    _report(scores, options)
    return scores


def _parts(mixtures: Sequence[Mixture], nj: int) -> list[tuple[list[Mixture], tuple[int, ...]]]:
    """Divide what can be scored into at least ``nj`` runs of equal speakers: the mixtures, and the references used."""
    groups: dict[tuple[int, ...], list[Mixture]] = {}
    for item in mixtures:
        if item.usable_outputs:
            groups.setdefault(tuple(item.usable_references), []).append(item)
    total = sum(len(group) for group in groups.values())
    parts = []
    for speakers, group in groups.items():
        share = max(1, min(len(group), round(nj * len(group) / total)))
        parts += [([group[index] for index in part], speakers) for part in np.array_split(np.arange(len(group)), share)]
    return parts


def _prepare(part: Sequence[Mixture], speakers: Sequence[int], folder: Path) -> list[str]:
    """Write the tables of one run and return the command that scores it."""
    folder.mkdir(parents=True)
    write_scp(folder / "keys", {item.key: item.key for item in part})
    command = [sys.executable, "-m", "espnet2.bin.enh_scoring", "--output_dir", str(folder / "out")]
    command += ["--key_file", str(folder / "keys"), "--is_tse", "true"]
    for index in speakers:
        reference, output = folder / f"ref_spk{index + 1}.scp", folder / f"inf_spk{index + 1}.scp"
        write_scp(reference, {item.key: item.references[index] for item in part})
        # The reference stands in for an output that cannot be scored, or that is none of the system's targets.
        scored = {item.key: index in item.usable_outputs for item in part}
        write_scp(output, {item.key: (item.outputs if scored[item.key] else item.references)[index] for item in part})
        command += ["--ref_scp", str(reference), "--inf_scp", str(output)]
    return command


def _run_all(commands: Sequence[Sequence[str]], log_dir: Path, nj: int) -> None:
    """Run the commands, ``nj`` side by side; stop all when one fails."""
    # One thread each: the processes are the parallelism.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    waiting = [(command, log_dir / f"enh_scoring.{number}.log") for number, command in enumerate(commands, 1)]
    running: list[tuple[subprocess.Popen[bytes], Path]] = []
    try:
        while waiting or running:
            while waiting and len(running) < max(1, nj):
                command, log = waiting.pop(0)
                with open(log, "wb") as stream:
                    process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, env=environment)
                running.append((process, log))
            for process, log in list(running):
                status = process.poll()
                if status is None:
                    continue
                if status != 0:
                    raise UserError(f"espnet2.bin.enh_scoring failed: {_last_line(log, status)}; see {log}")
                running.remove((process, log))
            time.sleep(0.05)
    finally:
        for process, _ in running:
            if process.poll() is None:
                process.terminate()
                process.wait()


def _last_line(log: Path, status: int) -> str:
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else f"exit status {status}"


def _collect(
    folder: Path,
    part: Sequence[Mixture],
    speakers: Sequence[int],
    scores: Scores,
    tables: dict[str, dict[str, str]],
) -> None:
    """Add what one run left in ``folder`` to ``scores``, and to ESPnet's ``tables`` by name."""
    names = {name: name for name in ESPNET_COLUMNS} | ESPNET_DNSMOS
    for position, index in enumerate(speakers, 1):
        wanted = {item.key for item in part if index in item.usable_outputs}
        for name, column in names.items():
            path = folder / f"{name}_spk{position}"
            # ESPnet leaves a table empty when PESQ found no utterance in any item.
            if not path.is_file() or not path.stat().st_size:
                continue
            for key, text in read_scp(path).items():
                value = float(text)
                if key in wanted and _valid(name, value):
                    scores[key, index + 1][column] = value
                    tables.setdefault(f"{name}_spk{index + 1}", {})[key] = text


def _valid(name: str, value: float) -> bool:
    """Tell a score from what the tools return where they have none."""
    if name.startswith("PESQ"):
        # The pesq package returns its errors as negative numbers; ESPnet knows only one of them.
        return value > 0
    if name in ("STOI", "ESTOI"):
        # pystoi returns this where too little of the reference is speech; ESPnet makes it a percentage.
        return bool(np.isfinite(value)) and abs(value - 100 * NO_STOI) > 1e-9
    # SIR is infinite where the only other reference cannot be used.
    return bool(np.isfinite(value))


def _report(scores: Scores, options: Sequence[str]) -> None:
    """Log on how many items PESQ and STOI are not defined."""
    with_pesq = options[options.index("--use_pesq") + 1] == "true"
    for name, columns in (("STOI", ("STOI",)), ("PESQ", ("PESQ_WB", "PESQ_NB"))):
        lacking = sorted(key for (key, _), row in scores.items() if not any(column in row for column in columns))
        if lacking and (name != "PESQ" or with_pesq):
            logging.warning(
                "%s has no value on %d of %d items: it finds no speech (first '%s')",
                *(name, len(lacking), len(scores), lacking[0]),
            )
