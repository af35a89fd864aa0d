"""Generation of LibriMix sets from LibriSpeech and metadata, sample for sample as the official scripts write them.

    plan = plan_generation(MixtureTree("Libri2Mix", "16k", "min"), "metadata/libri2mix_dev-clean.csv", "LibriSpeech")
    run_plan(plan, num_jobs=4)

makes ``Libri2Mix/wav16k/min/dev/{s1,s2,mix_clean}/*.wav`` and ``Libri2Mix/wav16k/min/metadata/mixture_dev_mix_clean.csv``.
What is to be done is planned first, so that its disk use can be told before anything is written. Files that are there are kept;
the table of a set comes last, and is missing as long as the set is not whole.

The rule is that of JorisCos/LibriMix, ``create_librimix_from_metadata.py`` (Cosentino et al. 2020), which normalizes nothing: of
the noise, the first channel, up to the length of the longest source and extended where it is shorter; each multiplied by its
gain, resampled, cut to the shortest (``min``) or padded to the longest (``max``); their sum, as 16-bit PCM.
"""

import csv
import functools
import json
import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from espnet_tse_gen.audio.files import read_audio, read_header
from espnet_tse_gen.audio.writing import write_audio
from espnet_tse_gen.data.librimix.layout import MIX_TYPES, MixtureTree, Row, read_metadata, set_name
from espnet_tse_gen.utils.errors import UserError, unknown_name
from espnet_tse_gen.utils.fetch import file_sha256
from espnet_tse_gen.utils.files import atomic_write
from espnet_tse_gen.utils.parallel import map_jobs

SOURCE_RATE = 16000
# Sets of more rows are measured on so many of them, evenly spread.
_MEASURED_ROWS = 4000
_WAV_HEADER = 44


@dataclass(frozen=True)
class Plan:
    """What is to be generated from one metadata file, after all that can be checked beforehand has been."""

    tree: MixtureTree
    subset: str
    metadata: Path
    rows: tuple[Row, ...]  # the mixtures whose recordings are there
    left_out: int  # number of those whose recordings are not
    librispeech: Path
    noise_root: Path | None
    mix_type: str
    replace: bool  # the set is there from other metadata, and is to be removed first

    @property
    def kinds(self) -> tuple[str, ...]:
        """The folders to fill: ``s1``, ``s2``, the mixtures, ``noise``."""
        sources = (f"s{index}" for index in range(1, len(self.rows[0].sources) + 1))
        return (*sources, self.mix_type, *(("noise",) if self.noise_root is not None else ()))

    def lacking(self) -> dict[str, list[Row]]:
        """Return the rows whose files are still to be made, by kind."""
        found = {}
        for kind in self.kinds:
            folder = self.tree.folder / self.subset / kind
            there = set(os.listdir(folder)) if folder.is_dir() and not self.replace else set()
            found[kind] = [row for row in self.rows if f"{row.name}.wav" not in there]
        return found


def plan_generation(
    tree: MixtureTree,
    metadata: str | Path,
    librispeech: str | Path,
    mix_type: str = "mix_clean",
    *,
    noise_root: str | Path | None = None,
    allow_missing: bool = False,
    replace: bool = False,
) -> Plan:
    """Check what is asked for, and write nothing. What cannot be used, is missing or is there from elsewhere is a UserError.

    The name of ``metadata``, a CSV, gives the set's. Its sources lie in ``librispeech``, its noises, for ``mix_both`` and
    ``mix_single``, in ``noise_root`` (``wham_noise``). With ``allow_missing``, rows whose recordings are not there are left out;
    with ``replace``, a set that was generated here earlier from other metadata is to be removed, instead of stopping.
    """
    if mix_type not in MIX_TYPES:
        raise unknown_name("--mix_type", mix_type, MIX_TYPES)
    metadata, speech, noises = Path(metadata), Path(librispeech), None
    rows = read_metadata(metadata)
    if mix_type != "mix_clean":
        if noise_root is None:
            raise UserError(f"--mix_type {mix_type} needs noise; give --wham the folder 'wham_noise'")
        noises = Path(noise_root)
        if silent := [row.name for row in rows if not row.noise]:
            raise UserError(f"{metadata}: mixture '{silent[0]}' has no noise_path; only mix_clean can be made of it")
    is_file = functools.cache(Path.is_file)
    absent: dict[str, Path] = {}
    for row in rows:
        needed = [speech / path for path in row.sources] + ([noises / row.noise] if noises is not None else [])
        absent.update((row.name, path) for path in needed if not is_file(path))
    available = tuple(row for row in rows if row.name not in absent)
    if not rows:
        raise UserError(f"{metadata}: holds no mixture")
    if absent and not (allow_missing and available):
        name, path = next(iter(absent.items()))
        raise UserError(
            f"{metadata}: {len(absent)} of {len(rows)} mixtures need recordings that are not there, first '{name}': {path}; "
            "complete the corpus, or leave such rows out with --allow_missing true"
        )
    subset = set_name(metadata)
    folder, digest = tree.folder / subset, tree.read_record(subset).get("metadata_sha256")
    # Files of other metadata must not pass for this one's.
    other = folder.exists() and digest != file_sha256(metadata)
    # Without a record the set came from elsewhere (the official scripts), and is never removed.
    if other and not (replace and digest):
        raise UserError(
            f"{folder}: was not made from {metadata}; remove that folder, choose another --libri2mix, or use the set "
            "as it is by giving no --metadata"
        )
    return Plan(tree, subset, metadata, available, len(absent), speech, noises, mix_type, other)


def disk_use(plan: Plan) -> dict[Path, tuple[int, int]]:
    """Return for each folder of ``plan`` how many files are to be written and the bytes that they take on this file system."""
    lacking = plan.lacking()
    rows = list({row.name: row for absent in lacking.values() for row in absent}.values())
    frames = functools.cache(lambda path, name: read_header(plan.librispeech / path, name)[0])
    block = os.statvfs(_existing(plan.tree.folder)).f_frsize
    sizes = {}
    for row in rows[:: -(-len(rows) // _MEASURED_ROWS) or 1]:
        length = (min if plan.tree.mode == "min" else max)(frames(path, row.name) for path in row.sources)
        size = _WAV_HEADER + 2 * math.ceil(length * plan.tree.rate / SOURCE_RATE)
        sizes[row.name] = -(-size // block) * block
    use = {}
    for kind, absent in lacking.items():
        measured = [sizes[row.name] for row in absent if row.name in sizes] or list(sizes.values())
        size = round(sum(measured) * len(absent) / len(measured)) if absent else 0
        use[plan.tree.folder / plan.subset / kind] = len(absent), size
    return use


def _existing(path: Path) -> Path:
    """Return ``path``, or the nearest folder above it that exists."""
    return next(one for one in (path.absolute(), *path.absolute().parents) if one.exists())


def report_disk_use(plans: Sequence[Plan]) -> str:
    """Return a table of what ``plans``, all of one tree, will write; if the disk has no space for that, it is a UserError."""
    root = plans[0].tree.folder
    use = {folder: count for plan in plans for folder, count in disk_use(plan).items()}
    files, size = (sum(numbers) for numbers in zip(*use.values(), strict=True))
    if not files:
        return f"{root}: all files are there"
    free = shutil.disk_usage(_existing(root)).free
    lines = [f"{root}: to be written"]
    lines += [f"  {one.relative_to(root)!s:24}{count:8,} files{_size(own):>12}" for one, (count, own) in use.items()]
    lines.append(f"  {'in all':24}{files:8,} files{_size(size):>12}, of {_size(free)} free")
    # What replaced sets take is freed before, and by them only.
    replaced = [plan.tree.folder / plan.subset for plan in plans if plan.replace]
    free += sum(path.stat().st_size for folder in replaced for path in folder.rglob("*.wav"))
    if size > free:
        raise UserError(
            f"{root}: {files:,} files of {_size(size)} are to be written, but {_size(free)} are free; free some space, "
            "choose another --libri2mix, or ask for fewer --sets (nothing was written)"
        )
    return "\n".join(lines)


def _size(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"


def run_plan(plan: Plan, num_jobs: int = 1) -> tuple[int, int]:
    """Make the files of ``plan`` that are not there yet, and the tables; return how many mixtures there are and are left out.

    A file that cannot be read or written is a :class:`UserError`; running it again goes on from there.
    """
    tree, subset, mix_type = plan.tree, plan.subset, plan.mix_type
    if any(plan.lacking().values()):
        for kind in MIX_TYPES if plan.replace else (mix_type,):
            tree.csv(subset, kind).unlink(missing_ok=True)
    if plan.replace:
        shutil.rmtree(tree.folder / subset)
    with atomic_write(tree.record(subset)) as stream:
        # The sources tell the speakers to who has the tree only.
        sources = {row.name: row.sources for row in plan.rows}
        digest = file_sha256(plan.metadata)
        json.dump({"metadata_sha256": digest, "metadata": plan.metadata.name, "sources": sources}, stream)
    make = functools.partial(_make, plan=replace(plan, rows=plan.rows[:1]))
    lengths = list(map_jobs(make, plan.rows, num_jobs, str(tree.folder / subset)))
    columns = {"mixture_path": mix_type}
    columns |= {f"source_{kind[1:]}_path": kind for kind in plan.kinds if kind[0] == "s"}
    if mix_type == "mix_single":
        columns = dict(list(columns.items())[:2])
    if mix_type != "mix_clean":
        columns["noise_path"] = "noise"
    with atomic_write(tree.csv(subset, mix_type), newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["mixture_ID", *columns, "length"])
        for row, length in zip(plan.rows, lengths, strict=True):
            paths = (tree.audio(subset, kind, row.name).absolute() for kind in columns.values())
            writer.writerow([row.name, *paths, length])
    return len(plan.rows), plan.left_out


def extend_noise(noise: np.ndarray, length: int, where: str = "noise") -> np.ndarray:
    """Return ``noise`` (float ``[N]``) repeated to ``length`` samples, with a cross-fade at each seam.

    It is by a Hann window of 16,001 points, of which rise and fall have 8,001 each. A noise shorter than that, for which the rule
    is not defined, is a :class:`UserError` that calls it ``where``.
    """
    half = SOURCE_RATE // 2 + 1
    rise = np.hanning(SOURCE_RATE + 1)[:half]
    if len(noise) < length and len(noise) <= half:
        raise UserError(f"{where}: {len(noise)} samples are shorter than the cross-fade of {half}; use a longer one")
    extended = noise
    while len(extended) < length:
        seam = extended[-half:] * rise[::-1] + noise[:half] * rise
        extended = np.concatenate((extended[:-half], seam, noise[half:]))
    return extended[:length]


def _make(row: Row, plan: Plan) -> int:
    """Write the files of one row that are not there, and return their length in samples."""
    from scipy.signal import resample_poly

    tree, number = plan.tree, len(row.sources)
    paths = {kind: tree.audio(plan.subset, kind, row.name) for kind in plan.kinds}
    if all(path.exists() for path in paths.values()):
        return read_header(paths["s1"], row.name)[0]
    signals = [read_audio(plan.librispeech / path, SOURCE_RATE, row.name)[0] for path in row.sources]
    if plan.noise_root is not None:
        path, longest = plan.noise_root / row.noise, max(map(len, signals))
        noise = read_audio(path, SOURCE_RATE, row.name, channel=1)[0][:longest]
        signals.append(extend_noise(noise, longest, f"{path} (mixture '{row.name}')"))
    gains = (*row.gains, row.noise_gain)[: len(signals)]
    signals = [resample_poly(one * gain, tree.rate, SOURCE_RATE) for one, gain in zip(signals, gains, strict=True)]
    length = (min if tree.mode == "min" else max)(map(len, signals))
    signals = [np.pad(one[:length], (0, max(0, length - len(one)))) for one in signals]
    mixed = {"mix_clean": signals[:number], "mix_both": signals, "mix_single": [signals[0], signals[-1]]}
    total = signals[0].copy()
    for signal in mixed[plan.mix_type][1:]:
        total += signal  # in the precision of the first signal, as the official scripts do
    outputs = {f"s{index}": signal for index, signal in enumerate(signals[:number], 1)}
    outputs |= {plan.mix_type: total, "noise": signals[-1]}
    for kind, path in paths.items():
        if not path.exists():
            write_audio(path, outputs[kind], tree.rate)
    return length
