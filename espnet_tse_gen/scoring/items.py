"""What is to be scored: tables of references, mixtures and outputs, checked as a whole; then the audio, mixture by mixture.

A mixture has a key; each of its speakers in turn is the target of an item. What is wrong with the tables or the head of a file
(a missing key, another rate, no audio) ends the run at the start, not after an hour of scoring. An item on which no measure
is defined (silence, lengths that differ) is a fault of that item alone: it keeps its row, has no scores, and is counted.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from espnet_tse_gen.audio.files import read_audio, read_header
from espnet_tse_gen.scoring.signal import energy_ratio_db, is_silent
from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.files import check_same_keys, read_scp

SILENT_OUTPUT = "silent output"
SILENT_REFERENCE = "silent reference"
# STOI's and PESQ's frames need some.
MIN_SECONDS = 0.1
SEXES = {"f": "female", "m": "male"}


@dataclass(frozen=True)
class Mixture:
    """One mixture in the tables, with the outputs of one system."""

    key: str  # Mixture id
    mixture: str  # Path of the mixture
    references: tuple[str, ...]  # Path of each speaker's clean speech
    # Path of the output for each speaker that is scored: as many as references, or only those of the first
    outputs: tuple[str, ...]
    rate: int  # Hz, of all files
    length: int  # Samples of the mixture
    speakers: tuple[str, ...]  # Speaker id of each reference, "" where unknown
    genders: tuple[str, ...]  # "m" or "f" for each reference, "" where unknown

    @property
    def paths(self) -> tuple[str, ...]:
        """All files."""
        return self.mixture, *self.references, *self.outputs

    def load(self) -> "LoadedMixture":
        """Read the audio, each file once; a file that is no audio of this rate any more, or holds NaN, is a UserError."""
        read = functools.cache(lambda path: read_audio(path, self.rate, self.key)[0])
        loaded = LoadedMixture(self, read(self.mixture))
        length, faults = len(loaded.mixture), loaded.faults
        for number, path in enumerate(self.references, 1):
            clean = read(path)
            if len(clean) != length:
                faults[number] = "reference of another length"
            elif is_silent(clean):
                faults[number] = SILENT_REFERENCE
            else:
                loaded.references[number] = clean
        if len(self.references) > 1 and not faults:
            total = np.sum([*loaded.references.values()], axis=0)
            loaded.input_sir = [energy_ratio_db(clean, total - clean) for clean in loaded.references.values()]
        for number, path in enumerate(self.outputs, 1):
            output = read(path)
            if number in faults:
                if faults[number] == SILENT_REFERENCE and len(output) == length:
                    loaded.false_alarms[number] = energy_ratio_db(output, loaded.mixture)
            elif len(output) != length:
                faults[number] = "output of another length"
            elif is_silent(output):
                faults[number] = SILENT_OUTPUT
            elif length < MIN_SECONDS * self.rate:
                faults[number] = "shorter than 0.1 s"
            else:
                loaded.outputs[number] = output
        return loaded


@dataclass
class LoadedMixture:
    """The audio of a mixture, speakers numbered from 1."""

    source: Mixture  # Where it is from
    mixture: np.ndarray  # float32 ``[L]``
    # Clean speech of each speaker that measures may use
    references: dict[int, np.ndarray] = field(default_factory=dict)
    outputs: dict[int, np.ndarray] = field(default_factory=dict)  # Each output that can be scored
    # Why the others cannot; the fault of its reference comes first, and is known without an output, too
    faults: dict[int, str] = field(default_factory=dict)
    # Energy of outputs relative to the mixture in dB, where the target does not speak
    false_alarms: dict[int, float] = field(default_factory=dict)
    # For each reference, its energy relative to the other references together in dB; empty with one reference, or where one
    # of them cannot be used
    input_sir: list[float] = field(default_factory=list)
    shared: dict[str, Any] = field(default_factory=dict)  # what a measure computes once for all items of the mixture

    def items(self) -> "list[Item]":
        """Return what can be scored."""
        return [Item(self, n, self.source.rate, self.references[n], output) for n, output in self.outputs.items()]


@dataclass(frozen=True)
class Item:
    """One target in one mixture, as measures get it."""

    whole: LoadedMixture
    number: int  # That of the target speaker, from 1
    rate: int  # Hz
    target: np.ndarray  # Clean speech of the target, float32 ``[L]``
    output: np.ndarray  # What was extracted for the target, float32 ``[L]``


def gender_pair(genders: Sequence[str]) -> str:
    """Name a combination of genders ("m" or "f" each): "different", such as "female+female", or "" if unknown."""
    if len(genders) < 2 or any(gender not in SEXES for gender in genders):
        return ""
    return "different" if len(set(genders)) > 1 else "+".join(SEXES[gender] for gender in genders)


def speaker_tables(data_dir: Path) -> list[Path]:
    """Return the ``spk{n}.scp`` of a data directory, in order; raise :class:`UserError` if there is none."""
    found: list[Path] = []
    while (path := data_dir / f"spk{len(found) + 1}.scp").exists():
        found.append(path)
    if not found:
        raise UserError(f"{path}: no such file; a data directory must hold spk1.scp, spk2.scp, ...")
    return found


def read_if_there(path: str | Path) -> dict[str, str]:
    """Read a table that may be lacking, and then is empty."""
    return read_scp(path) if Path(path).exists() else {}


def read_speakers(data_dir: Path, count: int) -> list[dict[str, tuple[str, str]]]:
    """Read who speaks, of ``target_spk{n}`` and ``spk2gender``: of each of ``count`` speakers, mixture id -> (id, gender).

    A gender that is not known is "", and without ``target_spk{n}`` there are no keys.
    """
    genders = read_if_there(data_dir / "spk2gender")
    tables = [read_if_there(data_dir / f"target_spk{number}") for number in range(1, count + 1)]
    return [{key: (name, genders.get(name, "")) for key, name in table.items()} for table in tables]


def read_mixtures(
    mixture_scp: str | Path, ref_scps: Sequence[str | Path], inf_scps: Sequence[str | Path], data_dir: Path
) -> list[Mixture]:
    """Read the tables of what one system is to be scored on, sorted by key, and check the head of every file.

    There is a table of clean speech per speaker, and in the same order of outputs, fewer where only the first speakers are
    targets. In ``data_dir`` ``target_spk{n}`` and ``spk2gender`` may lie.

    Raises:
        UserError: For tables of other keys, unreadable files, or files of another rate than the others.
    """
    count = len(ref_scps)
    if not 1 <= len(inf_scps) <= count:
        raise UserError(
            f"--inf_scp is given {len(inf_scps)} time(s) and --ref_scp {count} time(s); "
            "give one output table per target, in the order of the references"
        )
    tables = check_same_keys(mixture_scp, *ref_scps, *inf_scps)
    who = read_speakers(data_dir, count)
    found: list[Mixture] = []
    for key in sorted(tables[0]):
        mixture, *others = (table[key] for table in tables)
        length, rate = read_header(mixture, key, found[0].rate if found else None)
        for path in dict.fromkeys(others):
            read_header(path, key, rate)
        speakers, genders = zip(*(table.get(key, ("", "")) for table in who), strict=True)
        references, outputs = tuple(others[:count]), tuple(others[count:])
        found.append(Mixture(key, mixture, references, outputs, rate, length, speakers, genders))
    return found
