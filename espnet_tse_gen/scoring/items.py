"""What is to be scored: the tables of references, mixtures and outputs, checked as a whole before any is scored.

A mixture has a key; each of its speakers in turn is the target. The checks read every file once: a key that one table
lacks, a silent reference or an output of another length ends the run at the start, not after an hour of scoring.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from espnet_tse_gen.errors import UserError
from espnet_tse_gen.fileio import check_same_keys, read_audio, read_scp
from espnet_tse_gen.scoring.signal import energy_ratio_db, is_silent


@dataclass
class Mixture:
    """One mixture with its references and the outputs of one system.

    Attributes:
        key: Mixture id.
        mixture: Path of the mixture.
        references: Path of each speaker's clean speech.
        outputs: Path of the output for each speaker that is scored (as many as references, or fewer).
        sample_rate: Hz, of all files.
        length: Samples, of all files.
        silent_outputs: Indices (from 0) of the outputs that are digital silence.
        genders: "m" or "f" for each reference, "" where unknown; empty without a data directory.
        speakers: Speaker id of each reference, "" where unknown; empty without a data directory.
        input_sir: For each reference, its energy relative to the other references together, in dB; empty with one.
    """

    key: str
    mixture: str
    references: list[str]
    outputs: list[str]
    sample_rate: int = 0
    length: int = 0
    silent_outputs: list[int] = field(default_factory=list)
    genders: list[str] = field(default_factory=list)
    speakers: list[str] = field(default_factory=list)
    input_sir: list[float] = field(default_factory=list)

    @property
    def gender_pair(self) -> str:
        """Combination of the speakers' genders, named by :func:`gender_pair`."""
        return gender_pair(self.genders)


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
        UserError: For tables of other keys, unreadable files, other rates or lengths, silent references or mixtures.
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
    silent = sum(len(item.silent_outputs) for item in items)
    if silent:
        logging.warning(
            "%d of %d outputs are digital silence; they are scored as noise of -100 dBFS",
            silent,
            len(items) * len(outputs),
        )
    return items


def _check(item: Mixture, rate: int | None) -> int:
    """Read every file of ``item``, fill in its facts, and return the rate that all files have."""
    samples, rate = read_audio(item.mixture, rate, item.key)
    item.sample_rate, item.length = rate, len(samples)
    if is_silent(samples):
        raise UserError(f"{item.mixture} (key '{item.key}'): the mixture is silent; remove the item from the set")
    clean = []
    for path in item.references:
        reference, _ = read_audio(path, rate, item.key)
        _check_length(item, path, len(reference))
        if is_silent(reference):
            raise UserError(f"{path} (key '{item.key}'): the reference is silent; remove the item from the set")
        clean.append(reference)
    for index, path in enumerate(item.outputs):
        output, _ = read_audio(path, rate, item.key)
        _check_length(item, path, len(output))
        if is_silent(output):
            item.silent_outputs.append(index)
    if len(clean) > 1:
        total = sum(clean[1:], start=clean[0])
        item.input_sir = [energy_ratio_db(reference, total - reference) for reference in clean]
    return rate


def _check_length(item: Mixture, path: str, length: int) -> None:
    if length != item.length:
        raise UserError(
            f"{path} (key '{item.key}'): has {length} samples, its mixture {item.length}; "
            "crop or pad it to the mixture's length"
        )
