"""Checks of a data directory before anything long is started on it.

Tables must agree in their keys, recordings must exist with one rate and one channel, the sources of a mixture must be
as long as it is, and an enrolment must be another recording of the target speaker, never the target utterance itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from espnet_tse_gen.data.datadir import DYNAMIC_MARK, POOL, enrolled_utterance, numbered_tables, read_header
from espnet_tse_gen.data.enrolment.protocol import read_protocol
from espnet_tse_gen.data.formatting import read_pool
from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.files import check_same_keys, read_scp


@dataclass(frozen=True)
class Summary:
    """What a directory holds: number of mixtures, of target speakers (0: not stated), total hours, rate in Hz."""

    mixtures: int
    speakers: int
    hours: float
    sample_rate: int


def check_directory(folder: str | Path, ref_num: int = 2, sample_rate: int | None = None) -> Summary:
    """Check the data directory ``folder``.

    Args:
        folder: Data directory.
        ref_num: Number of speakers in a mixture.
        sample_rate: The rate that all recordings must have; ``None``: that of the first.

    Returns:
        A summary.

    Raises:
        UserError: For the first fault, naming file and key.
    """
    folder = Path(folder)
    if ref_num < 1:
        raise UserError(f"--ref_num is {ref_num}; expected a positive number of speakers")
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; run data preparation, or correct the path")
    numbers = range(1, ref_num + 1)
    sources = [folder / f"spk{number}.scp" for number in numbers]
    enrolments = [folder / f"enroll_spk{number}.scp" for number in numbers]
    more = numbered_tables(folder, "spk")[ref_num:]
    if more and more[0] not in sources:
        raise UserError(f"{more[0]}: there are {ref_num + len(more)} speakers, but --ref_num is {ref_num}")
    optional = [folder / f"target_spk{number}" for number in numbers] + [folder / "spk2utt"]
    check_same_keys(folder / "wav.scp", *sources, *enrolments, folder / "utt2spk", *filter(Path.exists, optional))

    rate = sample_rate
    total = 0
    mixtures = read_scp(folder / "wav.scp")
    references = [read_scp(path) for path in sources]
    for key, path in mixtures.items():
        length, rate = _header(path, key, rate)
        total += length
        for table, reference in zip(sources, references, strict=True):
            found, _ = _header(reference[key], key, rate)
            if found != length:
                raise UserError(
                    f"{table}: key '{key}': {reference[key]} has {found} samples, its mixture {length}; they must be "
                    "equally long"
                )
    speakers: set[str] = set()
    targets = [read_scp(path) if path.exists() else {} for path in optional[:ref_num]]
    for target in targets:
        speakers |= set(target.values())
    protocol = read_protocol(folder)
    raw = protocol is not None and protocol.enroll_list_raw
    for number, table in enumerate(enrolments, 1):
        _check_enrolments(
            table, references[number - 1], targets[number - 1], number=number, speakers=speakers, rate=rate, raw=raw
        )
    return Summary(len(mixtures), len(speakers), total / (rate or 1) / 3600, rate or 0)


def _header(path: str, key: str, rate: int | None) -> tuple[int, int]:
    length, found, channels = read_header(path, key)
    if channels != 1:
        raise UserError(
            f"{path} (key '{key}'): has {channels} channels, expected 1; mix it down or choose one channel first"
        )
    if rate is not None and found != rate:
        raise UserError(
            f"{path} (key '{key}'): sampling rate is {found} Hz, expected {rate} Hz; run format_wav with --fs {rate}"
        )
    return length, found


def _check_enrolments(
    table: Path,
    references: dict[str, str],
    targets: dict[str, str],
    *,
    number: int,
    speakers: set[str],
    rate: int | None,
    raw: bool,
) -> None:
    rows = read_scp(table)
    dynamic = [key for key, value in rows.items() if value.startswith(DYNAMIC_MARK)]
    if dynamic and len(dynamic) < len(rows):
        key = next(key for key, value in rows.items() if not value.startswith(DYNAMIC_MARK))
        raise UserError(f"{table}: key '{key}': a path among rows '*UTTERANCE SPEAKER'; expected one kind in a table")
    if dynamic:
        _check_drawn(table, rows, targets, rate)
        return
    checked: set[str] = set()
    for key, path in rows.items():
        if path not in checked:
            _header(path, key, rate)
            checked.add(path)
        enrolled = enrolled_utterance(path)
        # With --enroll_list_raw, the user wants a published list as it is.
        if not raw and (enrolled == _target_utterance(key, number) or Path(path) == Path(references[key])):
            raise UserError(
                f"{table}: key '{key}': the enrolment {path} is the target utterance itself; choose another recording"
            )
        speaker = enrolled.split("-")[0]
        if targets and speaker in speakers and speaker != targets[key]:
            raise UserError(
                f"{table}: key '{key}': the enrolment {path} is of speaker {speaker}, the target is {targets[key]}"
            )


def _target_utterance(key: str, number: int) -> str | None:
    parts = key.split("_")
    return parts[number - 1] if 1 < len(parts) >= number else None


def _check_drawn(table: Path, rows: dict[str, str], targets: dict[str, str], rate: int | None) -> None:
    pool = read_pool(table.parent / POOL)
    for key, value in rows.items():
        fields = value[len(DYNAMIC_MARK) :].split()
        if len(fields) != 2:
            raise UserError(f"{table}: key '{key}': expected '*UTTERANCE SPEAKER', found '{value}'")
        utterance, speaker = fields
        if targets and targets[key] != speaker:
            raise UserError(f"{table}: key '{key}': enrols speaker {speaker}, the target is {targets[key]}")
        if speaker not in pool:
            raise UserError(
                f"{table.parent / POOL}: has no speaker '{speaker}', whom {table} asks for with key '{key}'"
            )
        if all(other == utterance for other, _ in pool[speaker]):
            raise UserError(
                f"{table.parent / POOL}: speaker '{speaker}' has no recording but the target '{utterance}' of key "
                f"'{key}'; add recordings, or remove such mixtures"
            )
    for utterance, path in _once(pool.values()):
        _header(path, utterance, rate)


def _once(pools: Iterable[list[list[str]]]) -> Iterable[tuple[str, str]]:
    return {path: (utterance, path) for own in pools for utterance, path in own}.values()
