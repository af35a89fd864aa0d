"""Clean utterances of many speakers, as dynamic mixing draws from them: who says what, how long, and pieces read from disk.

Tables are Kaldi's: ``wav.scp``, ``utt2spk``, and ``utt2dur`` (seconds), with which no header has to be read to know the lengths.
Beside them may stand ``utt2collection``: which corpus or subset an utterance comes from.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from espnet_tse_gen.audio.files import AUDIO_SUFFIXES, check_finite, check_header, open_audio, read_header
from espnet_tse_gen.audio.recordings import resample
from espnet_tse_gen.data.corpus import is_hidden
from espnet_tse_gen.data.formatting import Group, convert
from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.files import check_same_keys, read_scp, write_scp
from espnet_tse_gen.utils.parallel import map_jobs

DURATIONS, COLLECTIONS = "utt2dur", "utt2collection"
# Kaldi writes utt2dur with two or three decimals, so that a file may end this much earlier.
_ROUNDING_SECONDS = 0.02


@dataclass(frozen=True)
class Source:
    """One recording."""

    name: str  # its key
    speaker: str  # or empty
    path: str
    seconds: float  # that it lasts at `speed`
    speed: float = 1.0  # how fast it is played
    collection: str = ""


def read_sources(wav_scp: str | Path, utt2spk: str | Path) -> list[Source]:
    """Return the utterances of ``wav_scp``, sorted by key.

    Durations come from ``utt2dur`` beside it, else from every header; collections from ``utt2collection``, if it is there. A
    table with other keys, a duration that is no number, and a header that cannot be read are a :class:`UserError`.
    """
    paths, speakers = check_same_keys(wav_scp, utt2spk)
    table = Path(wav_scp).with_name(DURATIONS)
    seconds = {} if table.is_file() else _durations(paths, wav_scp)
    for key, text in check_same_keys(wav_scp, table)[1].items() if table.is_file() else ():
        try:
            seconds[key] = float(text)
        except ValueError:
            raise UserError(f"{table}: key '{key}': expected seconds, found '{text}'; make the table again") from None
    collections = read_collections(Path(wav_scp).parent) or {}
    return [
        Source(key, speakers[key], paths[key], seconds[key], collection=collections.get(key, ""))
        for key in sorted(paths)
    ]


def read_collections(folder: str | Path) -> dict[str, str] | None:
    """Return ``utt2collection`` of ``folder``, or None; other keys than those of ``wav.scp`` are a :class:`UserError`."""
    table = Path(folder) / COLLECTIONS
    return check_same_keys(Path(folder) / "wav.scp", table)[1] if table.is_file() else None


def write_sources(
    output_dir: str | Path,
    sources: Iterable[tuple[str, str, str]],
    collections: Mapping[str, str] | None = None,
    sexes: Mapping[str, str] | None = None,
    durations: bool = True,
) -> int:
    """Write ``wav.scp`` and ``utt2spk`` of ``sources`` (key, speaker, path), and return how many these are.

    Beside them, ``utt2dur`` after every header (unless ``durations`` is false), ``utt2collection`` and ``spk2gender`` where
    they are known. ``wav.scp`` is written last: where it exists, the others do. A key that occurs twice, or a recording that
    cannot be used, is a :class:`UserError`.
    """
    output, rows = Path(output_dir), sorted(sources)
    twice = [one for (one, *_), (other, *_) in itertools.pairwise(rows) if one == other]
    if twice:
        raise UserError(f"{output}: utterance '{twice[0]}' is listed twice; every recording needs its own name")
    seconds = _durations({key: path for key, _, path in rows}, output) if durations else {}
    tables = {
        # Rounded down, so that no piece reaches beyond the end.
        DURATIONS: {key: f"{int(value * 1e6) / 1e6:.6f}" for key, value in seconds.items()},
        COLLECTIONS: {key: collections[key] for key, _, _ in rows} if collections else {},
        "spk2gender": {speaker: sexes[speaker] for _, speaker, _ in rows if speaker in sexes} if sexes else {},
        "utt2spk": {key: speaker for key, speaker, _ in rows},
        "wav.scp": {key: path for key, _, path in rows},
    }
    for name in reversed(tables):
        (output / name).unlink(missing_ok=True)
    for name, table in tables.items():
        if table:
            write_scp(output / name, table)
    return len(rows)


def as_wav(
    sources: Sequence[tuple[str, str, str]], folder: str | Path, rate: int, num_jobs: int = 1
) -> tuple[list[tuple[str, str, str]], str]:
    """Return ``sources`` (key, speaker, path) as wav from which pieces are read several times as fast as from FLAC.

    See :func:`convert`, whose line is returned, too: what must be converted goes into ``folder``, a record of it beside that.
    """
    folder = Path(folder).absolute()
    groups = [Group(key, (path,), (f"{folder}/{key}.wav",)) for key, _, path in sources]
    paths, told = convert(groups, folder.parent, rate, num_jobs)
    return [(key, speaker, path) for (key, speaker, _), (path,) in zip(sources, paths, strict=True)], told


def read_audio_list(where: str | Path, option: str) -> list[Source]:
    """Return the recordings of a Kaldi table, or at any depth below a folder, sorted, with their durations.

    Nothing where ``option`` says, or a header that cannot be read, is a :class:`UserError`.
    """
    where = Path(where)
    if not where.exists():
        raise UserError(f"{option}: {where}: no such file or folder")
    if where.is_dir():
        files = [one for one in where.rglob("*") if one.suffix.lower() in AUDIO_SUFFIXES and not is_hidden(one, where)]
        paths = {path.relative_to(where).as_posix(): str(path) for path in files}
        if not paths:
            raise UserError(f"{option}: {where}: holds no audio file ({', '.join(AUDIO_SUFFIXES)}); name another")
    else:
        paths = read_scp(where)
    seconds = _durations(paths, where)
    return [Source(key, "", paths[key], seconds[key]) for key in sorted(paths)]


def read_piece(
    source: Source, start: float, samples: int, rate: int, *, band_rate: int = 0, first_channel: bool = False
) -> np.ndarray:
    """Read a piece of a recording, which begins at ``start`` seconds, as float32 ``[samples]`` at ``rate`` Hz.

    Played faster, as a tape is, it has a higher pitch and resonances, too. With ``band_rate``, a lower rate in between, nothing
    above half of it is left. With ``first_channel``, that one of several is taken instead of refusing. A file that is missing,
    not audio, shorter than its duration says, not mono, holds NaN, or has a lower rate than wanted is a :class:`UserError`.
    """
    name = f"{source.path} (key '{source.name}')"
    with open_audio(source.path, source.name) as (file, _):
        check_header(source.path, source.name, file, None, 1 if first_channel else None)
        own = round(file.samplerate * source.speed)
        wanted = -(-samples * own // rate)
        file.seek(min(round(start * own), file.frames))
        piece = file.read(wanted, dtype="float32", always_2d=True)[:, 0]
    between = min(band_rate or rate, rate)
    if file.samplerate < between:
        raise UserError(f"{name}: sampling rate is {file.samplerate} Hz, expected at least {between} Hz; remove it")
    if len(piece) < wanted - 1 - _ROUNDING_SECONDS * own:
        raise UserError(
            f"{name}: ends before {start + samples / rate:.2f} s, expected {source.seconds:.2f} s;"
            f" correct {DURATIONS}, or replace or remove the recording"
        )
    check_finite(source.path, source.name, piece)
    made = resample(resample(piece, own, between), between, rate)[:samples]
    return np.pad(made, (0, samples - len(made)))


def group_by_speaker(sources: Sequence[Source]) -> dict[str, list[Source]]:
    """Return speaker -> utterances, in the order of the speakers' names and of ``sources``."""
    ordered = sorted(sources, key=lambda source: source.speaker)
    return {name: list(own) for name, own in itertools.groupby(ordered, lambda source: source.speaker)}


def speaker_at(speaker: str, speed: float) -> str:
    """Return what a speaker is called at a speed: ``sp0.9-NAME``, as Kaldi does, or ``NAME`` at speed 1."""
    return speaker if speed == 1.0 else f"sp{speed:g}-{speaker}"


def at_speeds(sources: Sequence[Source], speeds: Sequence[float]) -> list[Source]:
    """Return every recording at every speed; at another speed than 1, its speaker counts as another one."""
    return [
        replace(
            one, name=speaker_at(one.name, at), speaker=speaker_at(one.speaker, at), seconds=one.seconds / at, speed=at
        )
        for at in speeds
        for one in sources
    ]


def _durations(paths: Mapping[str, str], where: str | Path) -> dict[str, float]:
    headers = map_jobs(
        lambda key: read_header(paths[key], key, mono=False), list(paths), description=f"{where}: headers"
    )
    return {key: samples / rate for key, (samples, rate) in zip(paths, headers, strict=True)}
