"""Recordings as mono 16-bit wav at one sampling rate.

Files that are so already are listed where they are; all others are converted, each once. Every file is read in full, so that
what passes is known to be sound. What exceeds full scale is scaled down, a mixture and its sources by one factor.
"""

import contextlib
import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from espnet_tse_gen.audio.files import read_with_format
from espnet_tse_gen.audio.recordings import resample
from espnet_tse_gen.audio.writing import full_scale_factor, write_audio
from espnet_tse_gen.data.datadir import DYNAMIC_MARK, DataDir
from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.parallel import map_jobs
from espnet_tse_gen.utils.state import state_of

_RECORD = ".converted.jsonl"
_LEAST = 2.0**-16
"""Half of what 16 bits tell apart."""


@dataclass(frozen=True)
class Group:
    """Recordings that are scaled by one factor: a mixture and its sources, or one alone."""

    key: str  # what messages call it
    sources: tuple[str, ...]  # the files
    targets: tuple[str, ...]  # where converted copies go
    enrolment: bool = False  # whether silence is refused


def convert(groups: Sequence[Group], folder: str | Path, rate: int, num_jobs: int = 1) -> tuple[list[list[str]], str]:
    """Convert what is not mono 16-bit wav at ``rate``; what a run converted before, after a record in ``folder``, is kept.

    Return the paths of each group, and in a line what was done. A recording that is missing, corrupt, empty, not mono, holds NaN,
    or is a silent enrolment, is a :class:`UserError`.
    """
    if rate < 1:
        raise UserError(f"--fs is {rate}; expected a sampling rate in Hz")
    record, known = Path(folder) / _RECORD, dict[str, dict]()
    for line in record.read_text(encoding="utf-8").splitlines() if record.exists() else ():
        # The run may have been killed while it wrote a line.
        with contextlib.suppress(ValueError, KeyError, TypeError):
            entry = json.loads(line)
            known[entry["target"]] = entry
    todo = []
    for group in groups:
        state, found = state_of(rate, group.enrolment, files=group.sources), known.get(group.targets[0])
        if found is None or found["state"] != state or not all(Path(path).is_file() for path in found["paths"]):
            todo.append((group, state))
    record.parent.mkdir(parents=True, exist_ok=True)
    with open(record, "a", encoding="utf-8") as stream:
        one = functools.partial(_convert, rate=rate)
        made = map_jobs(one, [group for group, _ in todo], num_jobs, f"formatting into {folder}")
        for (group, state), (paths, scaled) in zip(todo, made, strict=True):
            entry = {"target": group.targets[0], "state": state, "paths": paths, "scaled": scaled}
            known[group.targets[0]] = entry
            # An interrupted run goes on from here.
            print(json.dumps(entry), file=stream, flush=True)
    done = [known[group.targets[0]] for group in groups]
    listed, loud = [one["paths"] for one in done], [one["scaled"] for one in done if one["scaled"]]
    converted = sum(path in group.targets for group, own in zip(groups, listed, strict=True) for path in own)
    told = (
        f"{sum(map(len, listed)) - converted} files listed as they are, {converted} converted to {rate} Hz 16-bit wav"
    )
    told += "" if todo else " before, and kept"
    if loud:
        told += (
            f"; beyond full scale and scaled down, each by one factor with its sources: {len(loud)}, first {loud[0]}"
        )
    return listed, told


def _convert(group: Group, rate: int) -> tuple[list[str], str]:
    """Return the absolute paths of a group in the wanted format, and what was scaled (or an empty text)."""
    signals: list[np.ndarray] = []
    fits, peaks = [], []
    for path in group.sources:
        samples, found, container, subtype = read_with_format(path, key=group.key)
        peak = np.abs(samples).max()
        if group.enrolment and peak == 0:
            raise UserError(f"{path} (key '{group.key}'): is silent; an enrolment must hold the speaker's voice")
        if not signals and 0 < peak < _LEAST:
            raise UserError(
                f"{path} (key '{group.key}'): 16 bits hold nothing of it, so quiet it is (peak {peak:.2g} of full "
                "scale); raise its level"
            )
        fits.append(found == rate and container in ("WAV", "WAVEX") and subtype == "PCM_16")
        signals.append(resample(samples, found, rate))
        peaks.append(float(np.abs(signals[-1]).max()))
    factor = full_scale_factor(signals)
    paths = []
    for source, target, samples, fit in zip(group.sources, group.targets, signals, fits, strict=True):
        if fit and factor == 1.0:
            paths.append(str(Path(source).absolute()))
        else:
            write_audio(target, samples * np.float32(factor), rate)
            paths.append(target)
    loudest, name = max(zip(peaks, group.sources, strict=True), key=lambda each: each[0])
    return paths, "" if factor == 1.0 else f"{name} (key '{group.key}', peak {loudest:.4g})"


def format_directory(source: str | Path, output: str | Path, sample_rate: int, num_jobs: int = 1) -> str:
    """Write ``output``, the data directory ``source`` with all recordings as mono 16-bit wav at ``sample_rate``.

    Enrolments (also those in ``spk2enroll.json``) are formatted too; side tables are copied. Return in a line what was done.
    Where tables disagree in their keys, or a recording cannot be used (see :func:`convert`), it is a :class:`UserError`, and
    tables at ``output`` stay as they are.
    """
    data = DataDir.read(source)
    folder = Path(output).absolute() / "data"
    names = [name for name in data.tables if name.endswith(".scp") and not name.startswith("enroll_")]
    groups = []
    for key in data.tables["wav.scp"]:
        targets = (str(folder / Path(name).stem / f"{key}.wav") for name in names)
        groups.append(Group(key, tuple(data.tables[name][key] for name in names), tuple(targets)))
    there = {path for group in groups for path in group.sources}
    rows = [row for table in data.of_speakers("enroll_spk").values() for row in table.items()]
    rows += [row for own in (data.pool or {}).values() for row in own]
    for key, path in rows:
        if path not in there and not path.startswith(DYNAMIC_MARK):
            there.add(path)
            # Two corpora may use one file name, and a folder one for two formats: what tells them apart enters the target's.
            parent, suffix = Path(path).absolute().parent, Path(path).suffix.removesuffix(".wav")
            digest = hashlib.sha256(f"{parent}{suffix}".encode()).hexdigest()[:8]
            target = folder / "enroll" / f"{parent.name}-{digest}" / f"{Path(path).stem}.wav"
            groups.append(Group(key, (path,), (str(target),), enrolment=True))
    made, told = convert(groups, output, sample_rate, num_jobs)
    paths: dict[str, str] = {}
    for group, found in zip(groups, made, strict=True):
        paths.update(zip(group.sources, found, strict=True))
    for name, table in data.tables.items():
        if name.startswith("enroll_"):
            data.tables[name] = {key: paths.get(path, path) for key, path in table.items()}
    keys = [*data.tables["wav.scp"]]
    for number, name in enumerate(names):
        data.tables[name] = {key: found[number] for key, found in zip(keys, made[: len(keys)], strict=True)}
    if data.pool is not None:
        data.pool = {speaker: [(name, paths[path]) for name, path in own] for speaker, own in data.pool.items()}
    data.write(output)
    return told
