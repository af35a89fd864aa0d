"""Extraction from files to files, as a command line names them: one recording, or many with the model loaded once."""

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from espnet_tse_gen.audio.files import AUDIO_SUFFIXES, MEAN, AudioFile, read_audio
from espnet_tse_gen.audio.segments import Forward
from espnet_tse_gen.audio.writing import OUTPUT_FORMATS, as_stored, check_output, output_subtype, writing_audio
from espnet_tse_gen.utils.errors import UserError, hear_warnings, one_line, print_error, shown, warn
from espnet_tse_gen.utils.files import OutputError, read_scp

if TYPE_CHECKING:
    from espnet_tse_gen.inference.base import Progress, TargetSpeakerExtractor

ABSENT = 0.5
"""Confidence below which a warning is given."""
BAR_AFTER = 1.0
"""Seconds of work on a recording after which a bar is shown."""


class Item(NamedTuple):
    """One mixture, and where what is made of it goes."""

    path: Path
    key: str | None  # in a table
    output: Path
    residual: Path | None


@dataclass
class Result:
    """What is said about one mixture; ``output`` and what follows are None where it could not be used."""

    file: str
    output: str | None = None
    residual: str | None = None
    seconds: float | None = None
    rate: int | None = None  # Hz
    confidence: float | None = None  # None, too, of a model that does not say
    clipped: int = 0  # samples
    warnings: Sequence[str] = ()
    error: str | None = None


def extract_files(
    mixtures: Sequence[Path],
    enroll: Sequence[Path],
    output: Path,
    *,
    residual: Path | None = None,
    overwrite: bool = False,
    channel: int | None = None,
    enroll_range: Sequence[tuple[float, float]] = (),
    as_json: bool = False,
    quiet: bool = False,
    **extractor: Any,
) -> int:
    """Extract a voice from one mixture into a file, or from several into a folder, and print what was written.

    Arguments are the options of ``tse-gen extract``; what is in ``extractor``, ``inference.base.open_extractor`` takes. Stderr
    says where the target is probably absent or an output silent. One of several mixtures that cannot be read is named there,
    too, and the others go on.

    Returns:
        The exit status: 2 if one of several mixtures could not be used.

    Raises:
        UserError: If an enrolment, the model, an option, the only mixture or a place for outputs cannot be used.
    """
    with hear_warnings(not quiet) as common:
        items, single = _items(mixtures, output, residual)
        if not enroll and not enroll_range:
            raise UserError(
                "--enroll: required, or --enroll-range where the target speaks alone in the mixture; see --help"
            )
        if enroll_range and not single:
            raise UserError(
                "--enroll-range: is of one mixture, which goes into a file; give --enroll, or extract one by one"
            )
        _check_places(items, enroll, overwrite)
        # The recordings first: a mistake in their names should not wait for torch.
        only = [AudioFile(items[0].path, items[0].key, channel or MEAN)] if single else []
        voices = [read_audio(path, channel=MEAN) for path in enroll]
        voices += [
            (part(mixed, mixed.rate, *times, str(mixed.path), "--enroll-range"), mixed.rate)
            for mixed in only
            for times in enroll_range
        ]
        enrolls, rates = ([*each] for each in zip(*voices, strict=True))
        name = "enrolment" if len(voices) > 1 else str(enroll[0]) if enroll else f"{items[0].path}: --enroll-range"
        del voices
        from espnet_tse_gen.inference.base import open_extractor

        model = open_extractor(**extractor)
    enrolment = {
        "enroll": enrolls if len(enrolls) > 1 else enrolls[0],
        "enroll_sample_rate": rates,
        "enroll_name": name,
    }
    results = []
    try:
        for number, item in enumerate(items, 1):
            bar = item.path.name if single else f"{number}/{len(items)} {item.path.name}"
            with hear_warnings(not quiet) as heard:
                try:
                    mixed = only[0] if single else AudioFile(item.path, item.key, channel or MEAN)
                    result = _extract(model, item, mixed, enrolment, "" if quiet or as_json else bar)
                    if result.clipped and (as_json or not single):
                        warn(f"{result.output}: {_clipped(result)}")
                except UserError as error:
                    if single or isinstance(error, OutputError):
                        raise
                    print_error("tse-gen", error)
                    result = Result(str(item.path), error=one_line(error))
            result.warnings = [*common, *heard]
            results.append(result)
    finally:
        # Also where the disk is full, or somebody pressed Ctrl-C: what is done is done.
        if as_json and results:
            print(json.dumps({"results": [_plain(result) for result in results]}, indent=1))
        elif results:
            print(_told(results[0]) if single else _table(results))
    return 2 if any(result.error for result in results) else 0


def _items(mixtures: Sequence[Path], output: Path, residual: Path | None) -> tuple[list[Item], bool]:
    """Return the mixtures, and whether they are one that goes into a file."""
    if not mixtures:
        raise UserError("MIXTURE: expected a recording, a folder of them or a table *.scp, got none")
    several = len(mixtures) > 1 or os.path.isdir(mixtures[0]) or mixtures[0].suffix == ".scp"
    if not several and (output.suffix.lower() in OUTPUT_FORMATS or not os.path.isdir(output)):
        return [Item(mixtures[0], None, output, residual)], True
    why = f"MIXTURE {mixtures[0]} is a folder or table" if len(mixtures) == 1 else f"there are {len(mixtures)} mixtures"
    for option, folder in (("--output", output), ("--residual", residual)):
        if folder is not None and (folder.suffix.lower() in OUTPUT_FORMATS or os.path.isfile(folder)):
            hint = "; each enrolment has an --enroll of its own" if len(mixtures) > 1 else ""
            raise UserError(f"{option} {folder}: expected a folder, as {why if several else '--output is one'}{hint}")
    items: dict[str, Item] = {}
    for path, key in (found for mixture in mixtures for found in _found(mixture)):
        stem = key or ("standard_input" if str(path) == "-" else path.stem)
        if os.sep in stem:
            raise UserError(f"{path} (key '{key}'): no file can be called so; choose a key without '{os.sep}'")
        name = stem + (".flac" if path.suffix.lower() == ".flac" else ".wav")
        if name in items:
            raise UserError(
                f"--output {output / name}: would be that of {items[name].path} and of {path}; rename one, or extract them "
                "into folders of their own"
            )
        items[name] = Item(path, key, output / name, residual / name if residual else None)
    return list(items.values()), False


def _found(mixture: Path) -> list[tuple[Path, str | None]]:
    """Return path and key of the recordings that ``mixture`` names."""
    if os.path.isdir(mixture):
        # Names with a dot are what macOS puts beside files, as `._NAME`.
        try:
            files = [path for path in sorted(mixture.iterdir()) if not path.name.startswith(".")]
        except OSError as error:
            raise UserError(f"{mixture}: cannot be read ({error.strerror}); check its permissions") from None
        paths = [path for path in files if path.suffix.lower() in AUDIO_SUFFIXES]
        left = [path.name for path in files if path.suffix.lower() not in AUDIO_SUFFIXES and not path.is_dir()]
        if not paths:
            raise UserError(f"{mixture}: is a folder without audio files ({', '.join(AUDIO_SUFFIXES)}); name another")
        if left:
            warn(f"{mixture}: files left out, which are no recordings by their names: {len(left)}, first '{left[0]}'")
        return [(path, None) for path in paths]
    if mixture.suffix == ".scp":
        return [(Path(path), key) for key, path in read_scp(mixture).items()]
    return [(mixture, None)]


def _check_places(items: Sequence[Item], enroll: Sequence[Path], overwrite: bool) -> None:
    """Require that all outputs can be written, and that none is a recording that is read, or another output."""
    given = {_file_id(item.path): ("the mixture", item.path) for item in items}
    given |= {_file_id(path): ("--enroll", path) for path in enroll}
    outputs = {os.path.realpath(item.output) for item in items}
    places = [("--output", item.output) for item in items]
    for option, path in places + [("--residual", item.residual) for item in items if item.residual]:
        file = _file_id(path)
        check_output(path, [given[file]] if file and file in given else [], overwrite, option)
        if option == "--residual" and os.path.realpath(path) in outputs:
            raise UserError(f"--residual {path}: is the file of --output; choose another name")
        folder = next((parent for parent in path.parents if os.path.exists(parent)), path.parent)
        if not os.path.isdir(folder) or not os.access(folder, os.W_OK):
            raise UserError(f"{option} {path}: cannot be written into {folder}; check its permissions, or name another")


def _file_id(path: Path) -> tuple[int, int] | None:
    with contextlib.suppress(OSError, ValueError):
        found = os.stat(path)
        return found.st_dev, found.st_ino
    return None


def part(mixed: np.ndarray | Forward, rate: int, start: float, end: float, name: str, what: str) -> np.ndarray:
    """Return what is said from ``start`` to ``end``, seconds, of a recording at ``rate`` Hz, float32.

    Raises:
        UserError: If it is shorter; the error calls it ``name``, and the range ``what``.
    """
    seconds = len(mixed) / rate
    # As long as people are told it is, in hundredths.
    if end > seconds + 0.005:
        raise UserError(f"{what} {start:g}-{end:g}: {name} ends at {seconds:.2f} s; choose a part of it")
    return mixed[round(start * rate) : round(end * rate)].copy()


def _extract(
    model: "TargetSpeakerExtractor", item: Item, mixed: AudioFile, enrolment: dict[str, Any], bar: str
) -> Result:
    """Extract a voice, and write it and, if it is wanted, what is left as they are made, both or none; warn of what is odd."""
    request = model.request(mixed, **enrolment)
    result = Result(str(item.path), str(item.output), str(item.residual) if item.residual else None)
    result.seconds, result.rate = round(len(mixed) / mixed.rate, 3), mixed.rate
    with contextlib.ExitStack() as files:
        # The first one gets its name last.
        paths = [item.output] if item.residual is None else [item.residual, item.output]
        *left, voice = (
            files.enter_context(writing_audio(path, mixed.rate, output_subtype(path, mixed.subtype))) for path in paths
        )

        def write(part: np.ndarray) -> None:
            start = voice.frames
            voice.write(part)
            for file in left:
                # What the file of the voice will hold, which rounds and clips: the other file makes up for that.
                stored = as_stored(item.output, part, mixed.rate, output_subtype(item.output, mixed.subtype))
                file.write(mixed[start : start + len(part)] - stored)

        with _progress(bar) as progress:
            sure = model.extract([request], progress=progress, write=write)[0].confidence
        for file in (*left, voice):
            file.close()
    result.confidence = sure = None if sure is None else round(sure, 4)
    result.clipped = sum(file.clipped for file in (*left, voice))
    if voice.peak == 0.0:
        warn(f"{result.output}: is silent; in {result.file} there is nothing to extract from")
    elif sure is not None and sure < ABSENT:
        warn(f"{result.output}: the enrolled speaker is probably not in {result.file} (confidence {sure:.2f})")
    return result


def _clipped(result: Result) -> str:
    return f"{result.clipped} samples were clipped: the mixture is close to full scale"


@contextlib.contextmanager
def _progress(label: str) -> "Iterator[Progress | None]":
    """Show on a terminal, where there is a ``label``, how much of a long recording is done, and how long the rest will take."""
    if not label or not sys.stderr.isatty():
        yield None
        return
    from tqdm import tqdm

    form = "{desc}: {percentage:3.0f}%|{bar}| {elapsed} gone, {remaining} left"
    with tqdm(total=1.0, desc=shown(label), delay=BAR_AFTER, leave=False, bar_format=form) as bar:
        yield lambda share: bar.update(share - bar.n)


def _plain(result: Result) -> dict[str, Any]:
    """Return a result for JSON."""
    unsaid = {"clipped"} | {key for key in ("residual", "error") if getattr(result, key) is None}
    return {key: value for key, value in vars(result).items() if key not in unsaid}


def _told(result: Result) -> str:
    """Return what is said of one mixture."""
    told = "" if result.confidence is None else f", confidence {result.confidence:.2f}"
    told += f" ({_clipped(result)})" if result.clipped else ""
    told = f"{shown(str(result.output))}: {result.seconds:.2f} s at {result.rate} Hz{told}"
    return told + (f"\n{shown(result.residual)}: what is left" if result.residual else "")


def _table(results: Sequence[Result]) -> str:
    """Return what is said of several mixtures, in columns."""
    rows = [("file", "seconds", "confidence", "output")]
    for result in results:
        seconds = "" if result.seconds is None else f"{result.seconds:.2f}"
        sure = "" if result.confidence is None else f"{result.confidence:.2f}"
        rows.append((shown(result.file), seconds, sure, shown(result.output or "none, see its error")))
    first, second = max(len(row[0]) for row in rows), max(len(row[1]) for row in rows)
    lines = [f"{row[0]:{first}}  {row[1]:>{second}}  {row[2]:>10}  {row[3]}" for row in rows]
    failed = sum(result.error is not None for result in results)
    return "\n".join(lines + ([f"{failed} of {len(results)} could not be used"] if failed else []))
