"""A data directory: its tables by file name, read, checked and written together.

Keys are mixtures in ``wav.scp``, ``spk{n}.scp``, ``enroll_spk{n}.scp``, ``noise{n}.scp``, ``target_spk{n}`` (speaker),
``utterances_spk{n}`` (``SPEAKER/UTTERANCE`` of the target, then of its enrolments), ``utt2spk`` and ``spk2utt`` (both itself, as
every mixture is a "speaker" of its own); in ``text_spk{n}`` some of the mixtures. ``spk2gender`` and ``protocol`` have others.
``spk2enroll.json`` lists the recordings that training draws its enrolments from.

Before anything long is started on it, it is checked: tables must agree in their keys, recordings must exist with one rate and
one channel, the sources of a mixture must be as long as it is and of different speakers, and an enrolment must be another
recording of the target's speaker than the target utterance.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from espnet_tse_gen.audio.files import read_header
from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.files import atomic_write, check_same_keys, read_json, read_scp, write_scp

DYNAMIC_MARK = "*"
POOL = "spk2enroll.json"
_OF_MIXTURES = re.compile(r"(wav|(enroll_)?spk\d+|noise\d+)\.scp|(target|utterances)_spk\d+|utt2spk|spk2utt")
_OTHER = re.compile(r"text_spk\d+|spk2gender|protocol")

Pool = dict[str, list[tuple[str, str]]]
"""Speaker to ``(utterance, path)``."""


@dataclass
class DataDir:
    """Tables by file name, ``wav.scp`` among them, and the pool of training enrolments."""

    tables: dict[str, dict[str, str]]
    pool: Pool | None = None

    @classmethod
    def read(cls, folder: str | Path) -> "DataDir":
        """Read a data directory; a table that cannot be read, lacks a mixture or has another one is a :class:`UserError`."""
        folder = Path(folder)
        if not (folder / "wav.scp").is_file():
            raise UserError(f"{folder / 'wav.scp'}: no such file; expected a data directory, made by data preparation")
        names = sorted(path.name for path in folder.iterdir())
        keyed = sorted((name for name in names if _OF_MIXTURES.fullmatch(name)), key="wav.scp".__ne__)
        tables = dict(zip(keyed, check_same_keys(*(folder / name for name in keyed)), strict=True))
        tables |= {name: read_scp(folder / name) for name in names if _OTHER.fullmatch(name)}
        return cls(tables, read_pool(folder / POOL) if (folder / POOL).exists() else None)

    def write(self, folder: str | Path) -> None:
        """Write all tables that have a line, and remove others; ``wav.scp`` comes last: without it, a directory is not whole."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "wav.scp").unlink(missing_ok=True)
        for path in folder.iterdir():
            if _OF_MIXTURES.fullmatch(path.name) or _OTHER.fullmatch(path.name) or path.name == POOL:
                path.unlink()
        if self.pool is not None:
            with atomic_write(folder / POOL) as stream:
                json.dump(self.pool, stream)
        for name in sorted(self.tables, key="wav.scp".__eq__):
            if self.tables[name]:
                write_scp(folder / name, self.tables[name])

    def of_speakers(self, prefix: str) -> dict[str, dict[str, str]]:
        """Return the tables called ``prefix`` and the number of a speaker, as ``enroll_spk``."""
        return {name: table for name, table in self.tables.items() if re.fullmatch(rf"{prefix}\d+(\.scp)?", name)}


def read_pool(path: str | Path) -> Pool:
    """Read ``spk2enroll.json``; a file that is missing or of another form is a :class:`UserError`."""
    content = read_json(path)
    try:
        return {str(speaker): [(str(name), str(file)) for name, file in own] for speaker, own in content.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: expected JSON {{speaker: [[utterance, path], ...]}} ({error})") from None


def remove_short(folder: str | Path, min_seconds: float) -> tuple[int, int]:
    """Take the mixtures shorter than ``min_seconds`` out of every table; return how many were kept and removed.

    If none would be left, or a table lacks a key, it is a :class:`UserError` and nothing is changed.
    """
    data = DataDir.read(folder)
    mixtures = data.tables["wav.scp"]
    headers = {key: read_header(path, key) for key, path in mixtures.items()}
    short = {key for key, (samples, rate) in headers.items() if samples < min_seconds * rate}
    if len(short) == len(mixtures):
        raise UserError(f"{folder}: all {len(mixtures)} mixtures are shorter than {min_seconds} s; lower --min_seconds")
    if short:
        for name in data.tables.keys() - {"spk2gender", "protocol"}:
            data.tables[name] = {key: value for key, value in data.tables[name].items() if key not in short}
        data.write(folder)
    return len(mixtures) - len(short), len(short)


def check_directory(
    folder: str | Path, ref_num: int = 2, sample_rate: int | None = None
) -> tuple[int, set[str], float, int]:
    """Check the data directory ``folder``, of ``ref_num`` speakers in a mixture and one ``sample_rate`` (None: the first's).

    Return the number of mixtures, the targets' speakers (none: not stated), hours and rate. The first fault is a
    :class:`UserError` that names file and key.
    """
    folder = Path(folder)
    if ref_num < 1:
        raise UserError(f"--ref_num is {ref_num}; expected a positive number of speakers")
    numbers = range(1, ref_num + 1)
    data = DataDir.read(folder)
    for name in [*(f"{kind}{n}.scp" for n in numbers for kind in ("spk", "enroll_spk")), "utt2spk"]:
        if name not in data.tables:
            raise UserError(f"{folder / name}: no such file; run data preparation, or correct --ref_num {ref_num}")
    if more := data.of_speakers("spk").keys() - {f"spk{n}.scp" for n in numbers}:
        raise UserError(f"{folder}/{min(more)}: is there, but --ref_num is {ref_num}; correct it")
    mixtures, targets = data.tables["wav.scp"], data.of_speakers("target_spk").values()
    key, path = next(iter(mixtures.items()))
    rate = read_header(path, key)[1] if sample_rate is None else sample_rate
    total = 0
    for key, path in mixtures.items():
        length, _ = read_header(path, key, rate)
        total += length
        for number in numbers:
            reference = data.tables[f"spk{number}.scp"][key]
            found, _ = read_header(reference, key, rate)
            if found != length:
                raise UserError(
                    f"{folder}/spk{number}.scp: key '{key}': {reference} has {found} samples, its mixture {length}; they "
                    "must be equally long"
                )
        told = [table[key] for table in targets]
        if twice := next((speaker for speaker in told if told.count(speaker) > 1), None):
            raise UserError(
                f"{folder}: mixture '{key}': speaker '{twice}' is in it more than once, after target_spk1 and the other "
                "tables; expected different speakers, remove it"
            )
    speakers = {speaker for table in targets for speaker in table.values()}
    for number in numbers:
        _check_enrolments(folder / f"enroll_spk{number}.scp", data, number, speakers, rate)
    return len(mixtures), speakers, total / rate / 3600, rate


def speakers_of(folder: str | Path) -> set[str]:
    """Return the speakers of training data, those of mixtures or of clean speech; a folder of neither is a :class:`UserError`."""
    folder = Path(folder)
    if (folder / POOL).exists():
        return set(read_pool(folder / POOL))
    tables = sorted(folder.glob("target_spk*")) or [folder / "utt2spk"]
    return {speaker for table in tables for speaker in read_scp(table).values()}


def _check_enrolments(table: Path, data: DataDir, number: int, speakers: set[str], rate: int) -> None:
    rows = data.tables[table.name]
    targets = data.tables.get(f"target_spk{number}", {})
    paths = [key for key, value in rows.items() if not value.startswith(DYNAMIC_MARK)]
    if not paths:
        _check_drawn(table, data, rows, targets, rate)
        return
    if len(paths) < len(rows):
        raise UserError(
            f"{table}: key '{min(paths)}': a path among rows '*UTTERANCE SPEAKER'; expected one kind in a table"
        )
    # With --enroll_list_raw, the user wants a published list as it is.
    raw = data.tables.get("protocol", {}).get("enroll_list_raw") == "true"
    first = dict[str, str]()
    for key, path in rows.items():
        if first.setdefault(path, key) == key:
            read_header(path, key, rate)
    for key, path in rows.items():
        words = data.tables.get(f"utterances_spk{number}", {}).get(key)
        told = [word.rpartition("/")[::2] for word in words.split()] if words else [("", _part(key, number))]
        own, enrolled = told[0][1], told[1:]
        # Tables can be edited: a file that is called otherwise tells itself whose it is, as well as names can.
        named = _in_path(path, data, speakers)
        if named[1] not in [utterance for _, utterance in enrolled] and "+" not in named[1]:
            enrolled = [named]
        same = Path(path) == Path(data.tables[f"spk{number}.scp"][key])
        if not raw and (same or (own and own in [utterance for _, utterance in enrolled])):
            raise UserError(
                f"{table}: key '{key}': the enrolment {path} is the target utterance itself; choose another recording"
            )
        for speaker, _ in enrolled:
            if speaker and targets.get(key, speaker) != speaker:
                raise UserError(
                    f"{table}: key '{key}': the enrolment {path} is of speaker {speaker}, the target is {targets[key]}"
                )


def _part(name: str, number: int) -> str:
    """Return utterance ``number`` of a mixture called ``UTT1_UTT2``, or nothing."""
    parts = name.split("_")
    return parts[number - 1] if 1 < len(parts) >= number else ""


def _in_path(path: str, data: DataDir, speakers: set[str]) -> tuple[str, str]:
    """Return the speaker, where one of ``speakers``, and the utterance that a recording's name and folders tell.

    It is an utterance, or ``s{n}/UTT1_UTT2.wav``, source n of a mixture. Formatted files keep the name of their source's folder
    in front of a dash (``s1-0a1b2c3d/UTT1_UTT2.wav``).
    """
    file = Path(path)
    name = file.stem
    if source := re.fullmatch(r"s([1-9]\d*)(-[0-9a-f]{8})?", file.parent.name):
        number = int(source[1])
        if told := data.tables.get(f"utterances_spk{number}", {}).get(name):
            return told.split()[0].rpartition("/")[::2]
        name = _part(name, number) or name
    # SPEAKER/CHAPTER/UTTERANCE, or a name that begins with the speaker's, which may be the beginning of another's.
    begins = [speaker for speaker in speakers if name.startswith(speaker) and not name[len(speaker) :][:1].isalnum()]
    folders = [folder for folder in file.parts[-3:-2] if folder in speakers]
    return folders[0] if folders else max(begins, key=len, default=""), name


def _check_drawn(table: Path, data: DataDir, rows: dict[str, str], targets: dict[str, str], rate: int) -> None:
    file = table.parent / POOL
    pool = read_pool(file) if data.pool is None else data.pool
    for key, value in rows.items():
        fields = value[len(DYNAMIC_MARK) :].split()
        if len(fields) != 2:
            raise UserError(f"{table}: key '{key}': expected '*UTTERANCE SPEAKER', found '{value}'")
        utterance, speaker = fields
        if targets and targets[key] != speaker:
            raise UserError(f"{table}: key '{key}': enrols speaker {speaker}, the target is {targets[key]}")
        if speaker not in pool:
            raise UserError(f"{file}: has no speaker '{speaker}', whom {table} asks for with key '{key}'")
        if all(other == utterance for other, _ in pool[speaker]):
            raise UserError(
                f"{file}: speaker '{speaker}' has no recording but the target '{utterance}' of key '{key}'; add "
                "recordings, or remove such mixtures"
            )
    for path, utterance in {path: utterance for own in pool.values() for utterance, path in own}.items():
        read_header(path, utterance, rate)
