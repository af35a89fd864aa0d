"""BSS Eval, SI-SNR, STOI and PESQ by ESPnet's own scorer, the function behind ``espnet2.bin.enh_scoring``, item by item.

It is always told that outputs belong to the reference of the same number: without that it permutes speakers, and a system
that extracts the wrong person throughout gets a perfect score. It takes a mixture whole, so an output that is none of the
targets or cannot be scored is replaced by its reference, whose scores are dropped; that changes no other score: with fixed
speakers BSS Eval looks at one output and all references at a time.
"""

import contextlib
import functools
import importlib.util
import logging
import math
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from espnet_tse_gen.scoring.items import Item
from espnet_tse_gen.scoring.metrics.base import Column, Metric, Scores, decibels, opinion
from espnet_tse_gen.utils.files import write_scp

PESQ_RATES = (8000, 16000)
NO_STOI = 100 * 1e-5
"""What the scorer makes of pystoi's answer where too little of the reference is speech."""
_KEY = "item"


@dataclass(frozen=True)
class ESPnet(Metric):
    """All that the scorer gives; PESQ at 8 and 16 kHz only, as at other rates the scorer resamples the first speaker alone."""

    columns = (
        decibels("SDR", "SDR", "BSS Eval signal-to-distortion ratio (ESPnet enh_scoring)"),
        decibels("SIR", "SIR", "BSS Eval signal-to-interference ratio (ESPnet enh_scoring)"),
        decibels("SAR", "SAR", "BSS Eval signal-to-artefact ratio (ESPnet enh_scoring)"),
        decibels("SI_SNR", "SI-SNR", "SI-SDR with the means removed (ESPnet enh_scoring)"),
        opinion("PESQ_WB", "PESQ-WB", "wideband PESQ (ESPnet enh_scoring)"),
        opinion("PESQ_NB", "PESQ-NB", "narrowband PESQ (ESPnet enh_scoring)"),
        Column("STOI", "STOI", "%", 1, "up", "short-time objective intelligibility (ESPnet enh_scoring)"),
        Column("ESTOI", "ESTOI", "%", 1, "up", "extended STOI (ESPnet enh_scoring)"),
    )
    packages = ("espnet2", "mir_eval", "pystoi")

    def score(self, item: Item) -> dict[str, float]:
        whole = item.whole
        if "espnet" not in whole.shared:
            outputs = [whole.outputs.get(number, clean) for number, clean in whole.references.items()]
            found = enh_scoring([*whole.references.values()], outputs, item.rate)
            whole.shared["espnet"] = dict(zip(whole.references, found, strict=True))
        values = whole.shared["espnet"][item.number]
        return {column.name: values[column.name] for column in self.columns if _is_score(column.name, values)}

    def finish(self, folder: Path, scores: Scores) -> None:
        """Write ESPnet's own tables (``SDR_spk1``, ...), and log on how many items STOI and PESQ are not defined."""
        tables: dict[str, dict[str, str]] = defaultdict(dict)
        for (key, number), row in scores.items():
            for column, value in row.items():
                tables[f"{column}_spk{number}"][key] = str(value)
        for name, table in tables.items():
            write_scp(folder / name, table)
        for name, columns in (("STOI", {"STOI"}), ("PESQ", {"PESQ_WB", "PESQ_NB"})):
            lacking = sorted(key for (key, _), row in scores.items() if not columns & row.keys())
            if lacking and (name == "STOI" or len(lacking) < len(scores)):
                logging.warning(
                    "%s has no value on %d of %d items: it finds no speech (first '%s')",
                    *(name, len(lacking), len(scores), lacking[0]),
                )


@functools.cache
def can_use_pesq(rate: int) -> bool:
    """Tell whether PESQ can be computed: the ``pesq`` package is installed and the rate is 8 or 16 kHz; log if not."""
    if importlib.util.find_spec("pesq") is None:
        logging.warning("PESQ is left out: the pesq package is not installed (pip install 'espnet_tse_gen[score]')")
    elif rate not in PESQ_RATES:
        logging.warning("PESQ is left out: it is defined at 8 and 16 kHz, the audio has %d Hz", rate)
    else:
        return True
    return False


class _Table(dict[str, tuple[int, np.ndarray]]):
    """One recording in place of a table of recordings."""

    data = {_KEY: ""}


def enh_scoring(references: Sequence[np.ndarray], outputs: Sequence[np.ndarray], rate: int) -> list[dict[str, float]]:
    """Return what ESPnet's scorer writes of one mixture, for each of N outputs: its name of a measure -> value.

    ``references`` and ``outputs`` are N signals each, float32 ``[L]``, in one order, at ``rate`` Hz.
    """
    from espnet2.bin import enh_scoring as espnet

    written: dict[str, dict[str, str]] = defaultdict(dict)
    readers = iter([[_Table({_KEY: (rate, samples)}) for samples in signals] for signals in (references, outputs)])
    # It reads a list of keys and tables, writes tables, and logs every item.
    inside: dict[str, Any] = {"open": lambda *_, **__: [_KEY], "get_readers": lambda *_: (next(readers), "sound")}
    inside |= {"DatadirWriter": lambda _: contextlib.nullcontext(written), "logging": mock.MagicMock()}
    with mock.patch.multiple(espnet, **inside), warnings.catch_warnings():
        # That mir_eval will take BSS Eval out of its next version.
        warnings.simplefilter("ignore", FutureWarning)
        names = [str(number) for number in range(len(references))]
        espnet.scoring(
            output_dir="", dtype="float32", log_level="INFO", key_file="", ref_scp=names, inf_scp=names, ref_channel=0,
            flexible_numspk=False, is_tse=True, use_dnsmos=False, dnsmos_args={}, use_pesq=can_use_pesq(rate),
        )  # fmt: skip
    found: list[dict[str, float]] = [{} for _ in references]
    for name, table in written.items():
        measure, _, number = name.rpartition("_spk")
        if measure != "wav":
            found[int(number) - 1][measure] = float(table[_KEY])
    return found


def _is_score(name: str, values: dict[str, float]) -> bool:
    """Tell a score from what the tools return where they have none; SIR is infinite with one reference."""
    value = values.get(name, math.nan)
    if name.startswith("PESQ"):
        return value > 0  # Errors are negative numbers, of which ESPnet knows only one.
    return math.isfinite(value) and not (name in ("STOI", "ESTOI") and abs(value - NO_STOI) < 1e-9)
