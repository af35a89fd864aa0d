"""Two- and three-speaker mixtures after LibriMix metadata, sample for sample as the official scripts write them.

The rule (JorisCos/LibriMix, ``create_librimix_from_metadata.py``; Cosentino et al. 2020): read the sources as float32
at 16 kHz; read the first channel of the noise up to the length of the longest source and extend it where it is shorter;
multiply each by its gain; resample each with ``scipy.signal.resample_poly``; cut all to the shortest (``min``) or pad
all to the longest (``max``); sum; write with ``soundfile.write``, hence as 16-bit PCM. Neither mixing nor writing
normalizes anything.

    tree = MixtureTree("Libri2Mix", sample_rate="16k", mode="min")
    generate(tree, "metadata/libri2mix_dev-clean.csv", "LibriSpeech", types=["mix_clean"], num_jobs=4)

makes ``Libri2Mix/wav16k/min/dev/{s1,s2,mix_clean}/*.wav`` and
``Libri2Mix/wav16k/min/metadata/mixture_dev_mix_clean.csv``.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from espnet_tse_gen.data.parallel import map_jobs
from espnet_tse_gen.errors import UserError, unknown_name
from espnet_tse_gen.fileio import atomic_write, read_audio, write_audio

SOURCE_RATE = 16000
MIX_TYPES = ("mix_clean", "mix_both", "mix_single")
_RATES = {"8k": 8000, "16k": 16000}
_MODES = ("min", "max")


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
    """Where the files of one rate and mode are: ``ROOT/wav{8k,16k}/{min,max}``.

    Raises:
        UserError: If the rate or the mode is unknown.
    """

    root: Path | str
    sample_rate: str = "16k"
    mode: str = "min"

    def __post_init__(self) -> None:
        if self.sample_rate not in _RATES:
            raise unknown_name("--sample_rate", self.sample_rate, _RATES)
        if self.mode not in _MODES:
            raise unknown_name("--min_or_max", self.mode, _MODES)

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
        """Return the table of the mixtures of a set."""
        return self.folder / "metadata" / f"mixture_{subset}_{mix_type}.csv"


def set_name(metadata: str | Path) -> str:
    """Return the name of the set that a metadata file makes: ``train-100`` for ``libri2mix_train-clean-100.csv``."""
    return Path(metadata).stem.split("mix_", 1)[-1].replace("-clean", "")


def find_metadata(folder: str | Path, subset: str) -> Path:
    """Return the metadata file in ``folder`` that makes ``subset``.

    Raises:
        UserError: If there is none, naming the sets that there are.
    """
    found = {set_name(path): path for path in sorted(Path(folder).glob("libri*mix_*.csv")) if "_info" not in path.stem}
    if subset not in found:
        if not found:
            raise UserError(
                f"{folder}: holds no libri2mix_*.csv; give --metadata the folder of LibriMix's metadata files"
            )
        raise unknown_name(f"set (no libri2mix_{subset}.csv in {folder})", subset, found)
    return found[subset]


def read_metadata(path: str | Path) -> list[Row]:
    """Read a LibriMix metadata file.

    Raises:
        UserError: If it is missing, lacks a column, or a row lacks a value or appears twice.
    """
    try:
        with open(path, encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream)
            columns = set(reader.fieldnames or ())
            lines = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as a metadata CSV ({error})") from None
    numbers = [number for number in range(1, 10) if f"source_{number}_path" in columns]
    wanted = {"mixture_ID", *(f"source_{number}_gain" for number in (numbers or [1, 2]))}
    if not numbers or wanted - columns:
        missing = min(wanted - columns, default="source_1_path")
        raise UserError(f"{path}: has no column '{missing}'; expected a LibriMix metadata file")
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
                line.get("noise_path") or "",
                float(line.get("noise_gain") or 0.0),
            )
        except (TypeError, ValueError):
            raise UserError(
                f"{path}: mixture '{name}' lacks a path or a gain; expected a number in every gain column"
            ) from None
    return list(rows.values())


def extend_noise(noise: np.ndarray, length: int) -> np.ndarray:
    """Return ``noise`` (float ``[N]``) repeated to ``length`` samples, with a cross-fade of half a Hann window at each
    seam.

    The window has 16,001 points, and rise and fall 8,001 each.

    Raises:
        UserError: If the noise is shorter than the cross-fade, for which the rule is not defined.
    """
    window = np.hanning(SOURCE_RATE + 1)
    half = SOURCE_RATE // 2 + 1
    rise, fall = window[:half], window[half - 1 :: -1]
    if len(noise) < length and len(noise) <= half:
        raise UserError(
            f"noise of {len(noise)} samples is shorter than the cross-fade of {half}; use a longer recording"
        )
    extended = noise
    while len(extended) < length:
        seam = extended[-half:] * fall + noise[:half] * rise
        extended = np.concatenate((extended[:-half], seam, noise[half:]))
    return extended[:length]


def render(sources: Sequence[np.ndarray], gains: Sequence[float], rate: int, mode: str) -> list[np.ndarray]:
    """Return ``sources`` (float ``[L_i]`` at 16 kHz) scaled, resampled to ``rate``, and fitted in length."""
    from scipy.signal import resample_poly

    scaled = [resample_poly(source * gain, rate, SOURCE_RATE) for source, gain in zip(sources, gains, strict=True)]
    lengths = [len(one) for one in scaled]
    if mode == "min":
        return [one[: min(lengths)] for one in scaled]
    return [np.pad(one, (0, max(lengths) - len(one))) for one in scaled]


def mix(signals: Sequence[np.ndarray]) -> np.ndarray:
    """Return the sum, in the precision of the first signal (which the official scripts use)."""
    total = np.zeros_like(signals[0])
    for signal in signals:
        total += signal
    return total


@dataclass(frozen=True)
class _Job:
    tree: MixtureTree
    subset: str
    librispeech: Path
    noise_root: Path | None
    types: tuple[str, ...]


def _source(path: Path, row: Row) -> np.ndarray:
    return read_audio(path, SOURCE_RATE, row.name)[0]


def _noise(path: Path, row: Row, length: int) -> np.ndarray:
    import soundfile

    try:
        noise, rate = soundfile.read(str(path), dtype="float32", stop=length, always_2d=True)
    except (soundfile.SoundFileError, RuntimeError, OSError) as error:
        raise UserError(f"{path} (mixture '{row.name}'): is not a readable audio file ({error})") from None
    if rate != SOURCE_RATE:
        raise UserError(f"{path} (mixture '{row.name}'): sampling rate is {rate} Hz, expected {SOURCE_RATE} Hz")
    try:
        return extend_noise(noise[:, 0], length)
    except UserError as error:
        raise UserError(f"{path} (mixture '{row.name}'): {error}") from None


def _make(row: Row, job: _Job) -> int:
    """Write the files of one row, unless they are all there, and return their length in samples."""
    import soundfile

    number = len(row.sources)
    kinds = [f"s{index}" for index in range(1, number + 1)] + list(job.types)
    with_noise = any(kind != "mix_clean" for kind in job.types)
    if with_noise:
        kinds.append("noise")
    paths = {kind: job.tree.audio(job.subset, kind, row.name) for kind in kinds}
    if all(path.exists() for path in paths.values()):
        return int(soundfile.info(str(paths["s1"])).frames)
    signals = [_source(job.librispeech / path, row) for path in row.sources]
    gains = list(row.gains)
    if with_noise and job.noise_root is not None:
        signals.append(_noise(job.noise_root / row.noise, row, max(map(len, signals))))
        gains.append(row.noise_gain)
    signals = render(signals, gains, job.tree.rate, job.tree.mode)
    outputs = {f"s{index}": signal for index, signal in enumerate(signals[:number], 1)}
    if with_noise:
        outputs["noise"] = signals[-1]
    for kind in job.types:
        parts = {"mix_clean": signals[:number], "mix_both": signals, "mix_single": [signals[0], signals[-1]]}[kind]
        outputs[kind] = mix(parts)
    for kind, samples in outputs.items():
        if not paths[kind].exists():
            write_audio(paths[kind], samples, job.tree.rate)
    return len(signals[0])


def generate(
    tree: MixtureTree,
    metadata: str | Path,
    librispeech: str | Path,
    *,
    noise_root: str | Path | None = None,
    types: Sequence[str] = ("mix_clean",),
    allow_missing: bool = False,
    replace: bool = False,
    num_jobs: int = 1,
) -> tuple[int, int]:
    """Make the mixtures of one metadata file; files already there from the same metadata are kept.

    Args:
        tree: Where, and at which rate and mode.
        metadata: The CSV, whose name gives the set's.
        librispeech: Folder that source paths are relative to.
        noise_root: Folder that noise paths are relative to (``wham_noise``); needed for ``mix_both`` and
        ``mix_single``.
        types: Which mixtures.
        allow_missing: Leave out the rows whose recordings are not there, instead of stopping.
        replace: Remove a set that this function made earlier from other metadata, instead of stopping.
        num_jobs: Number of processes.

    Returns:
        ``(rows made or kept, rows left out)``.

    Raises:
        UserError: If an option, the metadata or a recording cannot be used; the message names the mixture.
    """
    for kind in types:
        if kind not in MIX_TYPES:
            raise unknown_name("--mix_type", kind, MIX_TYPES)
    with_noise = any(kind != "mix_clean" for kind in types)
    if with_noise and noise_root is None:
        raise UserError(f"--mix_type {' '.join(types)} needs noise; give --wham the folder 'wham_noise'")
    subset, rows = set_name(metadata), read_metadata(metadata)
    available = _available(rows, Path(librispeech), Path(noise_root) if with_noise and noise_root else None)
    if (available and not allow_missing and len(available) < len(rows)) or not available:
        _refuse(metadata, rows, available, Path(librispeech), Path(noise_root) if with_noise and noise_root else None)

    _claim(tree, subset, Path(metadata), replace)
    job = _Job(tree, subset, Path(librispeech), Path(noise_root) if noise_root else None, tuple(types))
    title = f"{tree.folder / subset}"
    lengths = list(map_jobs(functools.partial(_make, job=job), available, num_jobs, title))
    for kind in types:
        _write_table(tree, subset, kind, available, lengths)
    return len(available), len(rows) - len(available)


def _needed(row: Row, librispeech: Path, noise_root: Path | None) -> list[Path]:
    paths = [librispeech / path for path in row.sources]
    return paths if noise_root is None else [*paths, noise_root / row.noise]


def _available(rows: list[Row], librispeech: Path, noise_root: Path | None) -> list[Row]:
    known: dict[Path, bool] = {}
    for row in rows:
        for path in _needed(row, librispeech, noise_root):
            if path not in known:
                known[path] = path.is_file()
    return [row for row in rows if all(known[path] for path in _needed(row, librispeech, noise_root))]


def _refuse(metadata: str | Path, rows: list[Row], available: list[Row], librispeech: Path, noise: Path | None) -> None:
    there = {row.name for row in available}
    row = next(row for row in rows if row.name not in there)
    path = next(path for path in _needed(row, librispeech, noise) if not path.is_file())
    raise UserError(
        f"{metadata}: {len(rows) - len(available)} of {len(rows)} mixtures need recordings that are not there, first "
        f"'{row.name}': {path}; complete the corpus, or leave such rows out with --allow_missing true"
    )


def _claim(tree: MixtureTree, subset: str, metadata: Path, replace: bool) -> None:
    """Record from which metadata the set is made; files of other metadata must not be taken for this one's."""
    record = tree.folder / "metadata" / f".{subset}.json"
    digest = hashlib.sha256(metadata.read_bytes()).hexdigest()
    folder = tree.folder / subset
    if record.exists() and json.loads(record.read_text()).get("metadata_sha256") == digest:
        return
    if folder.exists():
        # Without a record the set came from elsewhere (the official scripts), and is never removed.
        if not (replace and record.exists()):
            raise UserError(
                f"{folder}: was not made from {metadata}; remove that folder, choose another --libri2mix, or use the set "
                "as it is by giving no --metadata"
            )
        shutil.rmtree(folder)
    with atomic_write(record) as stream:
        json.dump({"metadata_sha256": digest, "metadata": metadata.name}, stream)


def _write_table(tree: MixtureTree, subset: str, kind: str, rows: list[Row], lengths: list[int]) -> None:
    number = 1 if kind == "mix_single" else len(rows[0].sources)
    parts = [(f"source_{index}_path", f"s{index}") for index in range(1, number + 1)]
    if kind != "mix_clean":
        parts.append(("noise_path", "noise"))
    with atomic_write(tree.csv(subset, kind), newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["mixture_ID", "mixture_path", *(column for column, _ in parts), "length"])
        for row, length in zip(rows, lengths, strict=True):
            paths = [
                str(tree.audio(subset, part, row.name).absolute()) for part in (kind, *(part for _, part in parts))
            ]
            writer.writerow([row.name, *paths, length])
