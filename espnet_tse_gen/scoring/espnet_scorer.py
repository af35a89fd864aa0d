"""ESPnet's own scorer, ``espnet2.bin.enh_scoring``, run as subprocesses over splits of the keys.

It is always told that outputs belong to the reference of the same number (``--is_tse true``): without that it permutes
speakers, and a system that extracts the wrong person throughout gets a perfect score.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from espnet_tse_gen.errors import UserError
from espnet_tse_gen.fileio import read_scp, write_audio, write_scp
from espnet_tse_gen.scoring.items import Mixture
from espnet_tse_gen.scoring.metrics import ESPNET_COLUMNS
from espnet_tse_gen.scoring.signal import faint_noise

PESQ_RATES = (8000, 16000)
Scores = dict[tuple[str, int], dict[str, float]]


def can_use_pesq(sample_rate: int) -> bool:
    """Tell whether PESQ can be computed: the ``pesq`` package is installed and the rate is 8 or 16 kHz; log if not."""
    if importlib.util.find_spec("pesq") is None:
        logging.warning("PESQ is left out: the pesq package is not installed (pip install pesq)")
        return False
    if sample_rate not in PESQ_RATES:
        # At other rates ESPnet resamples the first item only and scores the rest at a wrong rate.
        logging.warning("PESQ is left out: it is defined at 8 and 16 kHz, the audio has %d Hz", sample_rate)
        return False
    return True


def run_enh_scoring(mixtures: Sequence[Mixture], output_dir: str | Path, nj: int = 1) -> Scores:
    """Score outputs against their references.

    Leaves ESPnet's tables (``SDR_spk1``, ``STOI_spk1``, ...) in ``output_dir`` and the logs in ``output_dir/log``.

    Args:
        mixtures: Checked items of one rate.
        output_dir: Where tables and logs go.
        nj: Number of subprocesses.

    Returns:
        (key, speaker number from 1) -> column -> value. A column is absent where the scorer gave no finite value.

    Raises:
        UserError: If a subprocess fails, with the path of its log.
    """
    output_dir = Path(output_dir)
    work = output_dir / ".enh_scoring"
    shutil.rmtree(work, ignore_errors=True)
    (output_dir / "log").mkdir(parents=True, exist_ok=True)
    splits = [list(part) for part in np.array_split(np.arange(len(mixtures)), max(1, min(nj, len(mixtures))))]
    use_pesq = can_use_pesq(mixtures[0].sample_rate)
    commands = []
    for number, indices in enumerate(splits, 1):
        part = [mixtures[index] for index in indices]
        commands.append(_prepare(part, work / str(number), use_pesq))
    _run_all(commands, output_dir / "log")
    merged: dict[str, dict[str, str]] = {}
    for number in range(1, len(splits) + 1):
        for path in sorted((work / str(number) / "out").iterdir()):
            # ESPnet leaves a table empty when PESQ found no utterance in any item.
            if path.is_file() and path.stat().st_size and not path.name.startswith("wav_"):
                merged.setdefault(path.name, {}).update(read_scp(path))
    for name, table in merged.items():
        write_scp(output_dir / name, table)
    shutil.rmtree(work, ignore_errors=True)
    return _collect(merged, len(mixtures[0].outputs))


def _prepare(part: Sequence[Mixture], folder: Path, use_pesq: bool) -> list[str]:
    """Write the tables of one split and return the command that scores it."""
    folder.mkdir(parents=True)
    write_scp(folder / "keys", {item.key: item.key for item in part})
    command = [sys.executable, "-m", "espnet2.bin.enh_scoring", "--output_dir", str(folder / "out")]
    command += ["--key_file", str(folder / "keys"), "--is_tse", "true", "--use_pesq", str(use_pesq).lower()]
    for index in range(len(part[0].outputs)):
        outputs = {}
        for item in part:
            outputs[item.key] = item.outputs[index]
            if index in item.silent_outputs:
                path = folder / "silent" / f"{index}_{len(outputs)}.wav"
                # 16-bit samples cannot hold -100 dBFS.
                write_audio(path, faint_noise(item.length, item.key), item.sample_rate, subtype="FLOAT")
                outputs[item.key] = str(path)
        reference, output = folder / f"ref_spk{index + 1}.scp", folder / f"inf_spk{index + 1}.scp"
        write_scp(reference, {item.key: item.references[index] for item in part})
        write_scp(output, outputs)
        command += ["--ref_scp", str(reference), "--inf_scp", str(output)]
    return command


def _run_all(commands: Sequence[Sequence[str]], log_dir: Path) -> None:
    """Run the commands side by side; stop all when one fails."""
    # One thread each: the processes are the parallelism.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    processes: list[tuple[subprocess.Popen[bytes], Path]] = []
    try:
        for number, command in enumerate(commands, 1):
            log = log_dir / f"enh_scoring.{number}.log"
            with open(log, "wb") as stream:
                processes.append(
                    (subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, env=environment), log)
                )
        for process, log in processes:
            if process.wait() != 0:
                lines = [
                    line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()
                ]
                reason = lines[-1] if lines else f"exit status {process.returncode}"
                raise UserError(f"espnet2.bin.enh_scoring failed: {reason}; see {log}")
    finally:
        for process, _ in processes:
            if process.poll() is None:
                process.terminate()
                process.wait()


def _collect(tables: dict[str, dict[str, str]], speakers: int) -> Scores:
    scores: Scores = {}
    for column in ESPNET_COLUMNS:
        for speaker in range(1, speakers + 1):
            for key, text in tables.get(f"{column}_spk{speaker}", {}).items():
                value = float(text)
                row = scores.setdefault((key, speaker), {})
                # SIR is infinite where only one speaker is scored.
                if np.isfinite(value):
                    row[column] = value
    return scores
