"""The recordings that the report page plays: chosen, copied into its folder, each with a spectrogram.

Mixtures are taken evenly from each gender pair and evenly through the sorted keys, so that the page is neither one
speaker's nor anyone's choice of the best items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from espnet_tse_gen.audio.files import read_audio, write_audio
from espnet_tse_gen.report.spectrogram import peak_magnitude, write_spectrogram
from espnet_tse_gen.scoring.items import gender_pair, read_side_tables
from espnet_tse_gen.scoring.results import GENDER_PAIRS
from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.files import read_scp


@dataclass
class Clip:
    """A recording on the page.

    Attributes:
        label: What it is: "mixture", "clean", "enrolment", or the system's name.
        audio: Path of the wav, relative to the page.
        image: Path of the spectrogram, relative to the page.
        seconds: Duration.
        system: Name of the system in the score table; "" for what is no system's output.
    """

    label: str
    audio: str
    image: str
    seconds: float
    system: str = ""


@dataclass
class Target:
    """One target speaker of a mixture: clean speech, enrolment and every system's output."""

    number: int
    speaker: str
    gender: str
    clips: list[Clip] = field(default_factory=list)


@dataclass
class Case:
    """One mixture on the page."""

    key: str
    group: str
    mixture: Clip
    targets: list[Target]
    sample_rate: int


@dataclass
class DemoSet:
    """A test set on the page: name, data directory, and system -> directory with ``spk{n}.scp`` of its outputs."""

    name: str
    data_dir: Path
    outputs: Mapping[str, Path]


def choose(groups: Mapping[str, str], count: int) -> list[str]:
    """Choose ``count`` keys, spread over groups.

    Args:
        groups: Key -> gender pair.
        count: How many; all if there are fewer.

    Returns:
        Keys, those of one gender pair together and sorted.
    """
    by_group: dict[str, list[str]] = {}
    for key in sorted(groups):
        by_group.setdefault(groups[key], []).append(key)
    quota = dict.fromkeys(by_group, 0)
    order = [name for name in GENDER_PAIRS if name in by_group] + sorted(set(by_group) - set(GENDER_PAIRS))
    left = min(count, len(groups))
    while left > 0:
        for name in order:
            if left > 0 and quota[name] < len(by_group[name]):
                quota[name] += 1
                left -= 1
    chosen: list[str] = []
    for name in order:
        keys = by_group[name]
        # The middles of equal stretches of the list.
        chosen += [keys[int((index + 0.5) * len(keys) / quota[name])] for index in range(quota[name])]
    return chosen


def collect_cases(demo: DemoSet, folder: Path, count: int, position: int = 1) -> list[Case]:
    """Copy the recordings of up to ``count`` mixtures of ``demo`` to ``folder`` and draw their spectrograms.

    Args:
        demo: The set and the systems' outputs.
        folder: The page's folder.
        count: How many mixtures.
        position: Number of the set on the page; keeps the file names of two sets apart.

    Returns:
        The mixtures, those of one gender pair together.

    Raises:
        UserError: For missing tables, keys or files.
    """
    mixtures = read_scp(demo.data_dir / "wav.scp")
    numbers: list[int] = []
    while (demo.data_dir / f"spk{len(numbers) + 1}.scp").exists():
        numbers.append(len(numbers) + 1)
    if not numbers:
        raise UserError(
            f"{demo.data_dir / 'spk1.scp'}: no such file; a data directory must hold spk1.scp, spk2.scp, ..."
        )
    side = read_side_tables(demo.data_dir, len(numbers))
    groups = {key: gender_pair([genders.get(key, "") for _, genders in side]) for key in mixtures}
    tables: dict[tuple[str, int], dict[str, str]] = {}
    for number in numbers:
        tables["clean", number] = read_scp(demo.data_dir / f"spk{number}.scp")
        path = demo.data_dir / f"enroll_spk{number}.scp"
        if path.exists():
            tables["enrolment", number] = read_scp(path)
        for system, directory in demo.outputs.items():
            path = directory / f"spk{number}.scp"
            # Some protocols have the first speaker as the only target.
            if path.exists() or number == 1:
                tables[system, number] = read_scp(path)
    cases: list[Case] = []
    for key in choose(groups, count):
        writer = _Writer(folder, f"{position}_{demo.name}", len(cases) + 1)
        samples, rate = read_audio(mixtures[key], key=key)
        scale = peak_magnitude(samples, rate)
        mixture = writer.add("mixture", "mixture", samples, rate, scale)
        targets = []
        for number, (speakers, genders) in zip(numbers, side, strict=True):
            target = Target(number, speakers.get(key, ""), genders.get(key, ""))
            for label in ("clean", "enrolment", *demo.outputs):
                table = tables.get((label, number))
                if table is None:
                    continue
                if key not in table:
                    raise UserError(
                        f"set '{demo.name}': '{label}' of speaker {number} has no key '{key}'; make it again"
                    )
                samples, rate = read_audio(_first_path(table[key]), key=key)
                full_scale = peak_magnitude(samples, rate) if label == "enrolment" else scale
                clip = writer.add(label, f"spk{number}_{len(target.clips)}", samples, rate, full_scale)
                clip.system = label if label in demo.outputs else ""
                target.clips.append(clip)
            targets.append(target)
        cases.append(Case(key, groups[key], mixture, targets, rate))
    return cases


def _first_path(value: str) -> str:
    """The recording of a table's line; an enrolment table may name several, of which the page plays the first."""
    return value if Path(value).exists() else value.split(maxsplit=1)[0]


class _Writer:
    """Writes wav and png of one mixture under names that need no escaping, whatever the keys are."""

    def __init__(self, folder: Path, set_name: str, number: int) -> None:
        safe = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in set_name)
        self.folder = folder
        self.prefix = f"{safe}_{number:03d}"

    def add(self, label: str, name: str, samples: np.ndarray, rate: int, full_scale: float) -> Clip:
        audio, image = f"audio/{self.prefix}_{name}.wav", f"images/{self.prefix}_{name}.png"
        write_audio(self.folder / audio, samples, rate)
        write_spectrogram(self.folder / image, samples, rate, full_scale)
        return Clip(label, audio, image, len(samples) / rate)


def check_outputs(sets: Sequence[DemoSet]) -> None:
    """Require the output tables of every system in every set, before anything is written.

    Raises:
        UserError: Naming the first table that is missing.
    """
    for demo in sets:
        for system, directory in demo.outputs.items():
            if not (directory / "spk1.scp").exists():
                raise UserError(
                    f"{directory / 'spk1.scp'}: no such file; decode set '{demo.name}' with system '{system}' first, "
                    "or leave it out of --systems"
                )
