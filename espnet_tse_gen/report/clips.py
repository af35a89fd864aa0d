"""The recordings that the report page plays: chosen, copied into its folder, each with a spectrogram.

Mixtures are taken evenly from each gender pair and evenly through the sorted keys, so that the page is neither one
speaker's nor anyone's choice of the best items.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from espnet_tse_gen.audio.files import read_audio
from espnet_tse_gen.audio.writing import write_audio
from espnet_tse_gen.report.pictures import peak_magnitude, write_spectrogram
from espnet_tse_gen.scoring.items import SEXES, gender_pair, read_side_tables, speaker_tables
from espnet_tse_gen.scoring.results import GENDER_PAIRS
from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.files import read_scp

GROUP_TITLES = {
    "different": "Different gender",
    "female+female": "Female with female",
    "male+male": "Male with male",
    "": "Gender not known",
}


@dataclass
class Clip:
    """A recording on the page."""

    label: str  # What it is: "mixture", "clean", "enrolment", or the system's name
    audio: str  # Path of the wav, relative to the page
    image: str  # Path of the spectrogram, relative to the page
    seconds: float  # Duration


@dataclass
class Target:
    """One target speaker of a mixture: clean speech, enrolment and every system's output, by their labels."""

    number: int
    name: str
    clips: dict[str, Clip] = field(default_factory=dict)


@dataclass
class Case:
    """One mixture on the page; ``id`` is its anchor."""

    id: str
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
    """Choose ``count`` keys (all if there are fewer) of ``groups``, key -> gender pair, spread over the pairs.

    Those of one gender pair stand together and sorted.
    """
    by_group: dict[str, list[str]] = {}
    for key in sorted(groups, key=lambda key: ([*GENDER_PAIRS, groups[key]].index(groups[key]), groups[key], key)):
        by_group.setdefault(groups[key], []).append(key)
    quota = dict.fromkeys(by_group, 0)
    left = min(count, len(groups))
    while left > 0:
        for name, keys in by_group.items():
            if left > 0 and quota[name] < len(keys):
                quota[name] += 1
                left -= 1
    # The middles of equal stretches of the list.
    return [
        keys[int((n + 0.5) * len(keys) / quota[name])] for name, keys in by_group.items() for n in range(quota[name])
    ]


def collect_cases(demo: DemoSet, folder: Path, count: int, position: int) -> list[Case]:
    """Copy the recordings of up to ``count`` mixtures of ``demo`` to the page's ``folder`` and draw their spectrograms.

    ``position`` is the number of the set on the page; it keeps the file names of two sets apart.

    Raises:
        UserError: For missing tables, keys or files.
    """
    mixtures = read_scp(demo.data_dir / "wav.scp")
    references = speaker_tables(demo.data_dir)
    side = read_side_tables(demo.data_dir, len(references))
    groups = {key: gender_pair([genders.get(key, "") for _, genders in side]) for key in mixtures}
    tables: dict[tuple[str, int], dict[str, str]] = {}
    for number, path in enumerate(references, 1):
        tables["clean", number] = read_scp(path)
        optional = {"enrolment": demo.data_dir / f"enroll_spk{number}.scp"}
        optional |= {system: directory / f"spk{number}.scp" for system, directory in demo.outputs.items()}
        # Some protocols have the first speaker as the only target.
        tables |= {(label, number): read_scp(path) for label, path in optional.items() if path.exists()}
    cases: list[Case] = []
    # Names that need no escaping, whatever the keys are.
    safe = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in demo.name)

    def add(label: str, path: str, key: str, name: str, full_scale: float | None = None) -> tuple[Clip, float, int]:
        samples, rate = read_audio(path, key=key)
        stem = f"{position}_{safe}_{name}"
        clip = Clip(label, f"audio/{stem}.wav", f"images/{stem}.jpg", len(samples) / rate)
        scale = peak_magnitude(samples, rate) if full_scale is None else full_scale
        write_audio(folder / clip.audio, samples, rate)
        write_spectrogram(folder / clip.image, samples, rate, scale)
        return clip, scale, rate

    for index, key in enumerate(choose(groups, count), 1):
        mixture, scale, rate = add("mixture", mixtures[key], key, f"{index:03d}_mixture")
        targets = []
        for number, (names, genders) in enumerate(side, 1):
            about = ", ".join(filter(None, (names.get(key, ""), SEXES.get(genders.get(key, ""), ""))))
            target = Target(number, f"speaker {number}" + (f" ({about})" if about else ""))
            for label in ("clean", "enrolment", *demo.outputs):
                if (label, number) in tables:
                    if key not in tables[label, number]:
                        raise UserError(
                            f"set '{demo.name}': '{label}' of speaker {number} has no key '{key}'; make it again"
                        )
                    # An enrolment table may name several recordings, of which the page plays the first.
                    name = tables[label, number][key]
                    name = name if Path(name).exists() else name.split(maxsplit=1)[0]
                    own = None if label == "enrolment" else scale
                    stem = f"{index:03d}_spk{number}_{len(target.clips)}"
                    target.clips[label] = add(label, name, key, stem, own)[0]
            targets.append(target)
        cases.append(
            Case(f"case-{position}-{index}", key, GROUP_TITLES.get(groups[key], groups[key]), mixture, targets, rate)
        )
    return cases


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
