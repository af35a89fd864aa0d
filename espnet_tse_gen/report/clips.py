"""The recordings that the report page plays: chosen, copied into its folder, each with a spectrogram.

Mixtures are taken evenly from each gender pair and evenly through the sorted keys, so that the page is neither one
speaker's nor anyone's choice of the best items.
"""

import itertools
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from espnet_tse_gen.audio.files import read_audio
from espnet_tse_gen.audio.writing import write_audio
from espnet_tse_gen.report.pictures import write_spectrogram
from espnet_tse_gen.scoring.items import SEXES, gender_pair, read_speakers, speaker_tables
from espnet_tse_gen.scoring.results import GENDER_PAIRS
from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.files import read_scp

GROUP_TITLES = {
    "different": "Different gender",
    "female+female": "Female with female",
    "male+male": "Male with male",
    "": "Gender not known",
}


def choose(groups: Mapping[str, str], count: int) -> list[str]:
    """Choose ``count`` keys (or all) of ``groups``, key -> gender pair, spread over the pairs, which stand together, sorted."""
    by_group: dict[str, list[str]] = {}
    for key in sorted(groups, key=lambda key: ([*GENDER_PAIRS, groups[key]].index(groups[key]), groups[key], key)):
        by_group.setdefault(groups[key], []).append(key)
    turns = itertools.zip_longest(*([name] * len(keys) for name, keys in by_group.items()))
    quota = Counter([name for turn in turns for name in turn if name is not None][:count])
    # The middles of equal stretches of the list.
    return [
        keys[int((n + 0.5) * len(keys) / quota[name])] for name, keys in by_group.items() for n in range(quota[name])
    ]


def collect_cases(
    name: str, data_dir: Path, outputs: Mapping[str, Path], folder: Path, count: int, position: int
) -> list[dict[str, Any]]:
    """Copy the recordings of up to ``count`` mixtures of a set to the page's ``folder`` and draw their spectrograms.

    The case of each is returned as the template shows it: its targets have clean speech, enrolment and outputs by their labels.

    Args:
        outputs: System -> directory with ``spk{n}.scp`` of its outputs.
        position: The number of the set on the page; it keeps the file names of two sets apart.

    Raises:
        UserError: For missing tables, keys or files.
    """
    mixtures = read_scp(data_dir / "wav.scp")
    references = speaker_tables(data_dir)
    speakers = read_speakers(data_dir, len(references))
    groups = {key: gender_pair([table.get(key, ("", ""))[1] for table in speakers]) for key in mixtures}
    tables: dict[tuple[str, int], dict[str, str]] = {}
    for number, path in enumerate(references, 1):
        optional = {"clean": path, "enrolment": data_dir / f"enroll_spk{number}.scp"}
        optional |= {system: directory / f"spk{number}.scp" for system, directory in outputs.items()}
        # Some protocols have the first speaker as the only target.
        tables |= {(label, number): read_scp(path) for label, path in optional.items() if path.exists()}
    # Names that need no escaping, whatever the keys are.
    safe = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in name)

    def add(label: str, path: str, key: str, stem: str, full_scale: float | None = None) -> dict[str, Any]:
        samples, rate = read_audio(path, key=key)
        audio, image = (f"{kind}/{position}_{safe}_{stem}" for kind in ("audio", "images"))
        write_audio(folder / f"{audio}.wav", samples, rate)
        scale = write_spectrogram(folder / f"{image}.jpg", samples, rate, full_scale)
        paths = {"label": label, "audio": f"{audio}.wav", "image": f"{image}.jpg"}
        return {**paths, "seconds": len(samples) / rate, "rate": rate, "scale": scale}

    cases = []
    for index, key in enumerate(choose(groups, count), 1):
        mixture = add("mixture", mixtures[key], key, f"{index:03d}_mixture")
        targets = []
        for number, table in enumerate(speakers, 1):
            who, gender = table.get(key, ("", ""))
            about = ", ".join(filter(None, (who, SEXES.get(gender, ""))))
            clips: dict[str, dict[str, Any]] = {}
            for label in ("clean", "enrolment", *outputs):
                if (label, number) in tables:
                    if key not in tables[label, number]:
                        raise UserError(
                            f"set '{name}': '{label}' of speaker {number} has no key '{key}'; make it again"
                        )
                    # An enrolment table may name several recordings, of which the page plays the first.
                    recording = tables[label, number][key]
                    recording = recording if Path(recording).exists() else recording.split(maxsplit=1)[0]
                    scale = None if label == "enrolment" else mixture["scale"]
                    clips[label] = add(label, recording, key, f"{index:03d}_spk{number}_{len(clips)}", scale)
            title = f"speaker {number}" + (f" ({about})" if about else "")
            targets.append({"number": number, "name": title, "clips": clips})
        group = GROUP_TITLES.get(groups[key], groups[key])
        case = {"id": f"case-{position}-{index}", "key": key, "group": group, "mixture": mixture, "targets": targets}
        cases.append(case)
    return cases
