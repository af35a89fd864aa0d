"""Checks of a data directory before anything long is started on it.

Tables must agree in their keys, recordings must exist with one rate and one channel, the sources of a mixture must be as long
as it is and of different speakers, and an enrolment must be another recording of the target's speaker than the target utterance.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from espnet_tse_gen.audio.files import read_header
from espnet_tse_gen.data.datadir import DYNAMIC_MARK, POOL, DataDir, read_pool
from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.files import read_scp


@dataclass(frozen=True)
class Summary:
    """What a directory holds: mixtures, target speakers (none: not stated), total hours, and rate in Hz."""

    mixtures: int
    speakers: frozenset[str]
    hours: float
    sample_rate: int


def check_directory(folder: str | Path, ref_num: int = 2, sample_rate: int | None = None) -> Summary:
    """Check the data directory ``folder``.

    Args:
        ref_num: Number of speakers in a mixture.
        sample_rate: The rate that all recordings must have; ``None``: that of the first.

    Raises:
        UserError: For the first fault, naming file and key.
    """
    folder = Path(folder)
    if ref_num < 1:
        raise UserError(f"--ref_num is {ref_num}; expected a positive number of speakers")
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; run data preparation, or correct the path")
    numbers = range(1, ref_num + 1)
    data = DataDir.read(folder)
    for name in [*(f"{kind}{n}.scp" for n in numbers for kind in ("spk", "enroll_spk")), "utt2spk"]:
        if name not in data.tables:
            raise UserError(f"{folder / name}: no such file; run data preparation, or correct --ref_num {ref_num}")
    if more := data.numbered("spk{}.scp").keys() - set(numbers):
        raise UserError(f"{folder}/spk{min(more)}.scp: is there, but --ref_num is {ref_num}; correct it")
    rate, total = sample_rate, 0
    for key, path in data.tables["wav.scp"].items():
        length, rate = read_header(path, key, rate)
        total += length
        for number in numbers:
            reference = data.tables[f"spk{number}.scp"][key]
            found, _ = read_header(reference, key, rate)
            if found != length:
                raise UserError(
                    f"{folder}/spk{number}.scp: key '{key}': {reference} has {found} samples, its mixture {length}; they "
                    "must be equally long"
                )
    targets = data.numbered("target_spk{}")
    for key in data.tables["wav.scp"]:
        told = [table[key] for table in targets.values()]
        if len(set(told)) < len(told):
            twice = next(speaker for speaker in told if told.count(speaker) > 1)
            raise UserError(
                f"{folder}: mixture '{key}': speaker '{twice}' is in it more than once, after target_spk1 and the other "
                "tables; expected different speakers, remove it"
            )
    speakers = frozenset(speaker for table in targets.values() for speaker in table.values())
    for number in numbers:
        _check_enrolments(folder, data, number, speakers, rate)
    return Summary(len(data.tables["wav.scp"]), speakers, total / (rate or 1) / 3600, rate or 0)


def speakers_of(folder: str | Path) -> set[str]:
    """Return the speakers of training data: those of mixtures, or, in a folder of clean speech, those of ``utt2spk``.

    Raises:
        UserError: If it is neither.
    """
    folder = Path(folder)
    if (folder / POOL).exists():
        return set(read_pool(folder / POOL))
    tables = sorted(folder.glob("target_spk*")) or [folder / "utt2spk"]
    return {speaker for table in tables for speaker in read_scp(table).values()}


def _check_enrolments(folder: Path, data: DataDir, number: int, speakers: Collection[str], rate: int | None) -> None:
    table = folder / f"enroll_spk{number}.scp"
    rows = data.tables[table.name]
    targets = data.tables.get(f"target_spk{number}", {})
    dynamic = [key for key, value in rows.items() if value.startswith(DYNAMIC_MARK)]
    if dynamic and len(dynamic) < len(rows):
        key = min(rows.keys() - set(dynamic))
        raise UserError(f"{table}: key '{key}': a path among rows '*UTTERANCE SPEAKER'; expected one kind in a table")
    if dynamic:
        _check_drawn(table, data, rows, targets, rate)
        return
    # With --enroll_list_raw, the user wants a published list as it is.
    raw = data.tables.get("protocol", {}).get("enroll_list_raw") == "true"
    told = data.tables.get(f"utterances_spk{number}", {})
    checked: set[str] = set()
    for key, path in rows.items():
        if path not in checked:
            read_header(path, key, rate)
            checked.add(path)
        own, *enrolled = [_talker(word) for word in told.get(key, "").split()] or [("", "")]
        if key not in told:
            parts = key.split("_")
            own = ("", parts[number - 1] if 1 < len(parts) >= number else "")
        # Tables can be edited: a file that is called otherwise tells itself whose it is, as well as names can.
        named = _in_path(path, data, speakers)
        if named[1] not in [utterance for _, utterance in enrolled] and "+" not in named[1]:
            enrolled = [named]
        same = Path(path) == Path(data.tables[f"spk{number}.scp"][key])
        if not raw and (same or (own[1] and own[1] in [utterance for _, utterance in enrolled])):
            raise UserError(
                f"{table}: key '{key}': the enrolment {path} is the target utterance itself; choose another recording"
            )
        for speaker, _ in enrolled:
            if speaker and targets.get(key, speaker) != speaker:
                raise UserError(
                    f"{table}: key '{key}': the enrolment {path} is of speaker {speaker}, the target is {targets[key]}"
                )


def _talker(word: str) -> tuple[str, str]:
    speaker, _, utterance = word.rpartition("/")
    return speaker, utterance


def _in_path(path: str, data: DataDir, speakers: Collection[str]) -> tuple[str, str]:
    """Return the speaker, where one of ``speakers``, and the utterance that a recording's name and folders tell.

    It is an utterance, or ``s{n}/UTT1_UTT2.wav``, source n of a mixture. Formatted files keep the name of their source's folder
    in front of a dash (``s1-0a1b2c3d/UTT1_UTT2.wav``).
    """
    file = Path(path)
    name, parts = file.stem, file.stem.split("_")
    if source := re.fullmatch(r"s(\d+)(-[0-9a-f]{8})?", file.parent.name):
        number = int(source[1])
        if told := data.tables.get(f"utterances_spk{number}", {}).get(name):
            return _talker(told.split()[0])
        name = parts[number - 1] if 1 < len(parts) >= number > 0 else name
    # SPEAKER/CHAPTER/UTTERANCE, or a name that begins with the speaker's, which may be the beginning of another's.
    begins = [speaker for speaker in speakers if name.startswith(speaker) and not name[len(speaker) :][:1].isalnum()]
    folders = [folder for folder in file.parts[-3:-2] if folder in speakers]
    return folders[0] if folders else max(begins, key=len, default=""), name


def _check_drawn(table: Path, data: DataDir, rows: dict[str, str], targets: dict[str, str], rate: int | None) -> None:
    file = table.parent / POOL
    pool = data.pool if data.pool is not None else read_pool(file)
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
