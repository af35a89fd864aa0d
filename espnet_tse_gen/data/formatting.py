"""Bring a data directory to one format: mono 16-bit wav at one sampling rate.

Files that are so already are listed where they are; all others are converted below the new directory, each once. Every
file is read in full, so that what passes is known to be sound.
"""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from espnet_tse_gen.audio.files import read_audio, write_audio
from espnet_tse_gen.data.datadir import DYNAMIC_MARK, POOL, mixture_tables, numbered_tables
from espnet_tse_gen.data.enrolment.protocol import PROTOCOL
from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.files import atomic_write, check_same_keys, read_scp, write_scp
from espnet_tse_gen.utils.parallel import map_jobs

_RECORD = ".format.json"


@dataclass(frozen=True)
class _File:
    """A source file, the key that it was first met under, where a converted copy goes, and if it is an enrolment."""

    source: str
    key: str
    target: Path
    enrolment: bool


def format_directory(
    source: str | Path, output: str | Path, sample_rate: int, num_jobs: int = 1
) -> tuple[int, int] | None:
    """Write ``output``, the data directory ``source`` with all recordings as mono 16-bit wav at ``sample_rate``.

    Enrolments (also those in ``spk2enroll.json``) are formatted too; side tables are copied.

    Returns:
        ``(files listed as they are, files converted)``, or ``None`` if all of it was made from the same files before;
        the tables are written in either case, as short mixtures may have been removed from them since.

    Raises:
        UserError: If tables disagree in their keys, or a recording is missing, corrupt, empty, not mono, holds NaN, or
            is a silent enrolment; the message names file and key, and tables already at ``output`` stay as they are.
    """
    if sample_rate < 1:
        raise UserError(f"--fs is {sample_rate}; expected a sampling rate in Hz")
    source, output = Path(source), Path(output)
    tables = mixture_tables(source)
    check_same_keys(source / "wav.scp", *tables[:-1])
    contents = {table.name: read_scp(table) for table in tables}
    pool = read_pool(source / POOL) if (source / POOL).exists() else None
    files = _collect(contents, pool, output)

    state = _fingerprint(source, sample_rate, contents, pool, files)
    paths = _recorded_paths(output, state, files)
    done = paths is not None
    if paths is None:
        convert = functools.partial(_format, rate=sample_rate)
        results = map_jobs(convert, list(files.values()), num_jobs, f"formatting {source}")
        paths = dict(zip(files, results, strict=True))
    if pool is not None:
        formatted = {speaker: [[utterance, paths[path]] for utterance, path in own] for speaker, own in pool.items()}
        with atomic_write(output / POOL) as stream:
            json.dump(formatted, stream)
    folders = [folder for folder in (source, output) if folder.is_dir()]
    texts = [path.name for folder in folders for path in numbered_tables(folder, "text_spk", "")]
    for name in ("spk2gender", PROTOCOL, *dict.fromkeys(texts)):
        if (source / name).exists():
            write_scp(output / name, read_scp(source / name))
        else:
            (output / name).unlink(missing_ok=True)
    for name, content in contents.items():
        write_scp(output / name, {key: paths.get(value, value) for key, value in content.items()})
    if done:
        return None
    with atomic_write(output / _RECORD) as stream:
        json.dump({"state": state, "paths": paths}, stream)
    converted = sum(paths[name] == str(file.target.absolute()) for name, file in files.items())
    return len(files) - converted, converted


def read_pool(path: str | Path) -> dict[str, list[list[str]]]:
    """Read ``spk2enroll.json``: speaker -> ``[[utterance, path], ...]``.

    Raises:
        UserError: If it is not of that form.
    """
    try:
        pool: Any = json.loads(Path(path).read_text(encoding="utf-8"))
        return {str(speaker): [[str(utterance), str(file)] for utterance, file in own] for speaker, own in pool.items()}
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; a table of enrolments drawn on the fly needs it") from None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: expected json of the form {{speaker: [[utterance, path], ...]}} ({error})") from None


def _collect(
    contents: dict[str, dict[str, str]], pool: dict[str, list[list[str]]] | None, output: Path
) -> dict[str, _File]:
    """Return every recording once, by its path."""
    files: dict[str, _File] = {}
    folders = {"wav.scp": "wav", **{name: Path(name).stem for name in contents if name.startswith(("spk", "noise"))}}
    folders.pop("spk2utt", None)
    for name, folder in folders.items():
        for key, path in contents[name].items():
            files.setdefault(path, _File(path, key, output / "data" / folder / f"{key}.wav", False))
    enrolments = [
        (key, path) for name in contents if name.startswith("enroll_spk") for key, path in contents[name].items()
        if not path.startswith(DYNAMIC_MARK)
    ]  # fmt: skip
    enrolments += [(utterance, path) for own in (pool or {}).values() for utterance, path in own]
    for key, path in enrolments:
        # Two corpora may use one file name, so the folder's full path enters the target's.
        parent = Path(path).absolute().parent
        digest = hashlib.sha256(str(parent).encode()).hexdigest()[:8]
        target = output / "data" / "enroll" / f"{parent.name}-{digest}" / f"{Path(path).stem}.wav"
        files.setdefault(path, _File(path, key, target, True))
    return files


def _format(file: _File, rate: int) -> str:
    """Return the absolute path of a mono 16-bit wav at ``rate``: the source itself, or a converted copy."""
    import soundfile

    samples, found = read_audio(file.source, key=file.key)
    if file.enrolment and not np.any(samples):
        raise UserError(f"{file.source} (key '{file.key}'): is silent; an enrolment must hold the speaker's voice")
    info = soundfile.info(file.source)
    if found == rate and info.format in ("WAV", "WAVEX") and info.subtype == "PCM_16":
        return str(Path(file.source).absolute())
    target = file.target.absolute()
    if found != rate:
        import soxr

        samples = soxr.resample(samples, found, rate)
    write_audio(target, samples, rate)
    return str(target)


def _fingerprint(
    source: Path,
    sample_rate: int,
    contents: dict[str, dict[str, str]],
    pool: dict[str, list[list[str]]] | None,
    files: dict[str, _File],
) -> str:
    """Return a hash of the tables, of the rate, and of every recording's size and time."""
    digest = hashlib.sha256(json.dumps([str(source.absolute()), sample_rate, contents, pool], sort_keys=True).encode())
    for path, file in files.items():
        try:
            state = Path(path).stat()
        except OSError:
            raise UserError(f"{path} (key '{file.key}'): no such file") from None
        digest.update(f"{path} {state.st_size} {state.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _recorded_paths(output: Path, state: str, files: dict[str, _File]) -> dict[str, str] | None:
    """Return source -> formatted path of an earlier run on the same files, if all that it made is still there."""
    try:
        record = json.loads((output / _RECORD).read_text(encoding="utf-8"))
        if record["state"] != state:
            return None
        paths: dict[str, str] = record["paths"]
        return paths if all(Path(paths[name]).is_file() for name in files) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
