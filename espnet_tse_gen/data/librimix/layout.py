"""LibriMix: where its files lie, what its metadata say, and who speaks in its mixtures."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from espnet_tse_gen.utils.errors import UserError, unknown_name
from espnet_tse_gen.utils.files import read_csv, read_json

MIX_TYPES = ("mix_clean", "mix_both", "mix_single")
_RATES = {"8k": 8000, "16k": 16000}


class Talker(NamedTuple):
    """Who speaks, which utterance, and in which file, each empty where it is not known or asked."""

    speaker: str
    utterance: str
    path: str = ""


@dataclass(frozen=True)
class Mixture:
    """A mixture of a tree: its id ``UTT1_UTT2``, the set it belongs to, and its talkers."""

    name: str
    subset: str
    talkers: tuple[Talker, ...]


@dataclass(frozen=True)
class Row:
    """One mixture of a metadata file; source paths are relative to LibriSpeech, the noise path to WHAM."""

    name: str
    sources: tuple[str, ...]
    gains: tuple[float, ...]
    noise: str
    noise_gain: float


@dataclass(frozen=True)
class MixtureTree:
    """Where the files of one rate and mode are: ``ROOT/wav{8k,16k}/{min,max}``; others are a :class:`UserError`."""

    root: Path | str
    sample_rate: str = "16k"
    mode: str = "min"

    def __post_init__(self) -> None:
        if self.sample_rate not in _RATES:
            raise unknown_name("--sample_rate", self.sample_rate, _RATES)
        if self.mode not in ("min", "max"):
            raise unknown_name("--min_or_max", self.mode, ("min", "max"))

    @property
    def rate(self) -> int:
        """Sampling rate in Hz."""
        return _RATES[self.sample_rate]

    @property
    def folder(self) -> Path:
        """The folder that holds the sets and ``metadata``."""
        return Path(self.root) / f"wav{self.sample_rate}" / self.mode

    def audio(self, subset: str, kind: str, name: str) -> Path:
        """Return the file of mixture ``name`` in ``kind`` (``s1``, ``s2``, ``noise``, ``mix_clean`` ...) of a set."""
        return self.folder / subset / kind / f"{name}.wav"

    def csv(self, subset: str, mix_type: str) -> Path:
        """Return the table of the mixtures of a set; of a set that was generated here, it is written last."""
        return self.folder / "metadata" / f"mixture_{subset}_{mix_type}.csv"

    def record(self, subset: str) -> Path:
        """Return the file that says from what a set was generated here; other programs leave none."""
        return self.folder / "metadata" / f".{subset}.json"

    def read_record(self, subset: str) -> dict:
        """Return what :meth:`record` says; empty where there is none."""
        return dict(read_json(self.record(subset))) if self.record(subset).is_file() else {}


def set_name(metadata: str | Path) -> str:
    """Return the name of the set that a metadata file makes: ``train-100`` for ``libri2mix_train-clean-100.csv``."""
    return Path(metadata).stem.split("mix_", 1)[-1].replace("-clean", "")


def find_metadata(folder: str | Path, subset: str) -> Path:
    """Return the metadata file in ``folder`` that makes ``subset``; none, or two of two and three speakers, are a UserError."""
    tables = [path for path in sorted(Path(folder).glob("libri*mix_*.csv")) if "_info" not in path.stem]
    if not tables:
        raise UserError(f"{folder}: holds no libri2mix_*.csv; give --metadata the folder of LibriMix's metadata files")
    found = [path for path in tables if set_name(path) == subset]
    if not found:
        raise unknown_name(f"set (no libri2mix_{subset}.csv in {folder})", subset, set(map(set_name, tables)))
    if len(found) > 1:
        raise UserError(
            f"{folder}: holds {' and '.join(path.name for path in found)}; give --metadata a folder with the files of one "
            "number of speakers, such as LibriMix's metadata/Libri2Mix"
        )
    return found[0]


def read_info_sexes(metadata: str | Path) -> dict[str, str]:
    """Return speaker -> ``m`` or ``f`` after the ``*_info.csv`` that LibriMix ships beside a metadata file, if there."""
    path = Path(metadata).with_name(f"{Path(metadata).stem}_info.csv")
    # The official files write a speaker as "3536.0".
    return {
        speaker: sex
        for line in (read_csv(path)[1] if path.is_file() else ())
        for number in range(1, 10)
        if (speaker := line.get(f"speaker_{number}_ID", "").removesuffix(".0"))
        and (sex := line.get(f"speaker_{number}_sex", "").strip().lower()) in ("m", "f")
    }


def read_metadata(path: str | Path) -> list[Row]:
    """Read a LibriMix metadata file.

    A column or value that it lacks, and a row that is there twice or not named after its sources (``UTTERANCE1_UTTERANCE2``), are
    a :class:`UserError`.
    """
    columns, lines = read_csv(path)
    numbers = [number for number in range(1, 10) if f"source_{number}_path" in columns]
    wanted = {"mixture_ID", "source_1_path", *(f"source_{number}_gain" for number in (numbers or [1, 2]))}
    if missing := wanted - set(columns):
        raise UserError(f"{path}: has no column '{min(missing)}'; expected a LibriMix metadata file")
    rows: dict[str, Row] = {}
    for line in lines:
        name = line["mixture_ID"]
        if name in rows:
            raise UserError(f"{path}: mixture '{name}' appears twice; every mixture_ID must be unique")
        try:
            rows[name] = Row(
                name,
                tuple(line[f"source_{number}_path"] for number in numbers),
                tuple(float(line[f"source_{number}_gain"]) for number in numbers),
                line.get("noise_path", ""),
                float(line.get("noise_gain") or 0.0),
            )
        except ValueError:
            raise UserError(f"{path}: mixture '{name}' lacks a path or a gain; expected numbers as gains") from None
        expected = "_".join(Path(source).stem for source in rows[name].sources)
        if name != expected:
            raise UserError(f"{path}: mixture '{name}' is not named after its sources; expected '{expected}'")
    return list(rows.values())


def talker_of(source: str) -> Talker:
    """Return who speaks in ``SUBSET/SPEAKER/CHAPTER/UTTERANCE.flac``: the folder tells, and only without one the name."""
    path = Path(source)
    return Talker(path.parts[-3] if len(path.parts) > 3 else path.stem.split("-")[0], path.stem)


def talkers_of(name: str, known: Mapping[str, str]) -> tuple[Talker, ...]:
    """Return the talkers of a mixture that only its name ``UTTERANCE1_UTTERANCE2`` tells; none where it does not.

    Utterances are ``known`` (with their speaker; they may have underscores in their names), or called SPEAKER-CHAPTER-NUMBER as
    LibriSpeech's are.
    """
    if name in known:
        return (Talker(known[name], name),)
    for place in (match.start() for match in re.finditer("_", name)):
        if name[:place] in known and (rest := talkers_of(name[place + 1 :], known)):
            return (Talker(known[name[:place]], name[:place]), *rest)
    parts = name.split("_")
    told = all(re.fullmatch(r"[^-]+-[^-]+-[^-]+", part) for part in parts)
    return tuple(Talker(part.split("-")[0], part) for part in parts) if told else ()
