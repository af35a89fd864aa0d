"""What is to be scored: the tables of references, mixtures and outputs, checked as a whole before any is scored.

A mixture has a key; each of its speakers in turn is the target. The checks read every file once. What is wrong with the
tables or with a file (a missing key, another rate, no audio) ends the run at the start, not after an hour of scoring. An
item on which no measure is defined (silence, lengths that differ) is a fault of that item alone: it keeps its row, has
no scores, and is counted.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from espnet_tse_gen.audio.files import read_audio
from espnet_tse_gen.scoring.signal import energy_ratio_db, is_silent
from espnet_tse_gen.scoring.table import SILENT_OUTPUT
from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.files import check_same_keys, read_scp

SILENT_REFERENCE = "silent reference"
LENGTH_OF_REFERENCE = "reference of another length"
LENGTH_OF_OUTPUT = "output of another length"
TOO_SHORT = "shorter than 0.1 s"
# STOI's and PESQ's frames need some.
MIN_SECONDS = 0.1


@dataclass
class Mixture:
    """One mixture with its references and the outputs of one system.

    Attributes:
        key: Mixture id.
        mixture: Path of the mixture.
        references: Path of each speaker's clean speech.
        outputs: Path of the output for each speaker that is scored (as many as references, or fewer).
        sample_rate: Hz, of all files.
        length: Samples of the mixture, and of every file that can be scored.
        silent_mixture: Whether the mixture is digital silence, so that there is nothing to improve on.
        reference_faults: Index (from 0) of each reference that cannot be used -> why.
        faults: Index of each output that cannot be scored -> why; the fault of its reference comes first.
        genders: "m" or "f" for each reference, "" where unknown; empty without a data directory.
        speakers: Speaker id of each reference, "" where unknown; empty without a data directory.
        input_sir: For each reference, its energy relative to the other references together, in dB, NaN where one of them
            cannot be used; empty with one reference.
    """

    key: str
    mixture: str
    references: list[str]
    outputs: list[str]
    sample_rate: int = 0
    length: int = 0
    silent_mixture: bool = False
    reference_faults: dict[int, str] = field(default_factory=dict)
    faults: dict[int, str] = field(default_factory=dict)
    genders: list[str] = field(default_factory=list)
    speakers: list[str] = field(default_factory=list)
    input_sir: list[float] = field(default_factory=list)

    @property
    def gender_pair(self) -> str:
        """Combination of the speakers' genders, named by :func:`gender_pair`."""
        return gender_pair(self.genders)

    @property
    def usable_references(self) -> list[int]:
        """Indices of the references that measures may use."""
        return [index for index in range(len(self.references)) if index not in self.reference_faults]

    @property
    def usable_outputs(self) -> list[int]:
        """Indices of the outputs that can be scored."""
        return [index for index in range(len(self.outputs)) if index not in self.faults]


def gender_pair(genders: Sequence[str]) -> str:
    """Name a combination of genders ("m" or "f" each): "different", such as "female+female", or "" if unknown."""
    names = {"f": "female", "m": "male"}
    if len(genders) < 2 or any(gender not in names for gender in genders):
        return ""
    if len(set(genders)) > 1:
        return "different"
    return "+".join(names[gender] for gender in genders)


def read_side_tables(data_dir: Path, count: int) -> list[tuple[dict[str, str], dict[str, str]]]:
    """Read ``target_spk{n}`` and ``spk2gender`` of a data directory.

    Returns:
        For each of ``count`` speakers: mixture id -> speaker id, and mixture id -> gender. Empty without a table.
    """
    genders = read_scp(data_dir / "spk2gender") if (data_dir / "spk2gender").exists() else {}
    tables: list[tuple[dict[str, str], dict[str, str]]] = []
    for number in range(1, count + 1):
        path = data_dir / f"target_spk{number}"
        speakers = read_scp(path) if path.exists() else {}
        tables.append((speakers, {key: genders[name] for key, name in speakers.items() if name in genders}))
    return tables


def read_mixtures(
    mixture_scp: str | Path,
    ref_scps: Sequence[str | Path],
    inf_scps: Sequence[str | Path],
    data_dir: str | Path | None = None,
) -> list[Mixture]:
    """Read and check everything that one system is to be scored on.

    Args:
        mixture_scp: Table of mixtures.
        ref_scps: Tables of clean speech, one per speaker.
        inf_scps: Tables of outputs, in the order of ``ref_scps``; fewer where only the first speakers are targets.
        data_dir: Where ``target_spk{n}`` and ``spk2gender`` lie, if anywhere.

    Returns:
        Mixtures sorted by key.

    Raises:
        UserError: For tables of other keys, unreadable files, or files of another rate than the others.
    """
    if not 1 <= len(inf_scps) <= len(ref_scps):
        raise UserError(
            f"--inf_scp is given {len(inf_scps)} time(s) and --ref_scp {len(ref_scps)} time(s); "
            "give one output table per target, in the order of the references"
        )
    check_same_keys(mixture_scp, *ref_scps, *inf_scps)
    mixtures = read_scp(mixture_scp)
    references = [read_scp(path) for path in ref_scps]
    outputs = [read_scp(path) for path in inf_scps]
    side = read_side_tables(Path(data_dir), len(references)) if data_dir is not None else []
    items = []
    rate: int | None = None
    for key in sorted(mixtures):
        item = Mixture(key, mixtures[key], [table[key] for table in references], [table[key] for table in outputs])
        rate = _check(item, rate)
        item.speakers = [speakers.get(key, "") for speakers, _ in side]
        item.genders = [genders.get(key, "") for _, genders in side]
        items.append(item)
    _report(items)
    return items


def _report(items: Sequence[Mixture]) -> None:
    """Log how many items have no scores, and why."""
    outputs = sum(len(item.outputs) for item in items)
    counts = Counter(fault for item in items for fault in item.faults.values())
    for fault, count in sorted(counts.items()):
        first = next(item.key for item in items if fault in item.faults.values())
        logging.warning("%d of %d items have no scores: %s (first '%s')", count, outputs, fault, first)
    silent = [item.key for item in items if item.silent_mixture]
    if silent:
        logging.warning("%d of %d mixtures are silent: no SI-SDRi (first '%s')", len(silent), len(items), silent[0])


def _check(item: Mixture, rate: int | None) -> int:
    """Read every file of ``item``, fill in its facts, and return the rate that all files have."""
    samples, rate = read_audio(item.mixture, rate, item.key)
    item.sample_rate, item.length = rate, len(samples)
    item.silent_mixture = is_silent(samples)
    clean: dict[int, np.ndarray] = {}
    for index, path in enumerate(item.references):
        reference, _ = read_audio(path, rate, item.key)
        if len(reference) != item.length:
            item.reference_faults[index] = LENGTH_OF_REFERENCE
        elif is_silent(reference):
            item.reference_faults[index] = SILENT_REFERENCE
        else:
            clean[index] = reference
    for index, path in enumerate(item.outputs):
        output, _ = read_audio(path, rate, item.key)
        if index in item.reference_faults:
            item.faults[index] = item.reference_faults[index]
        elif len(output) != item.length:
            item.faults[index] = LENGTH_OF_OUTPUT
        elif is_silent(output):
            item.faults[index] = SILENT_OUTPUT
        elif item.length < MIN_SECONDS * rate:
            item.faults[index] = TOO_SHORT
    if len(item.references) > 1:
        item.input_sir = [math.nan] * len(item.references)
        if not item.reference_faults:
            total = np.sum(list(clean.values()), axis=0)
            item.input_sir = [energy_ratio_db(reference, total - reference) for reference in clean.values()]
    return rate
