"""Speech in LibriSpeech's layout, ``ROOT/SUBSET/SPEAKER/CHAPTER/UTTERANCE.flac``: the folder tells the speaker, not the name.

Which speakers may be used for what is said by a JSON file, split by split and subset by subset:

    {"train": {"train-clean-100": ["19", "26"], "dev-clean": ["174"]}, "test": {"test-other": ["367"]}}

Where speakers have one long recording each, pieces of it can serve as target and enrolment in training. They share the room and
the day, so this is not for evaluation.
"""

import functools
import itertools
import json
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from espnet_tse_gen.audio.files import AUDIO_SUFFIXES, read_audio
from espnet_tse_gen.audio.writing import full_scale_factor, write_audio
from espnet_tse_gen.utils.errors import UserError, unknown_name
from espnet_tse_gen.utils.files import atomic_write, read_json, read_text
from espnet_tse_gen.utils.parallel import map_jobs

SPEECH = Path(__file__).resolve().parents[1] / "speech"
"""The recordings inside the package: train-clean-5, dev-clean, and test-other, on which nothing may be trained."""
# A cut may move by this much to where the signal is weakest.
_SEARCH_SECONDS = 0.5


@dataclass(frozen=True)
class Utterance:
    """One recording: its name, speaker, file and subset."""

    name: str
    speaker: str
    path: Path
    subset: str = ""


def is_hidden(path: Path, root: Path) -> bool:
    """Whether the name of a file or of a folder below ``root`` begins with a dot, as macOS's ``._NAME`` do."""
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def list_utterances(root: str | Path, subsets: str | Mapping[str, Collection[str] | None]) -> list[Utterance]:
    """Return the recordings of a subset, or of several with the speakers of each (None: all), in the order of their paths.

    A missing folder, recording or speaker, and a name that has a space or occurs twice, are a :class:`UserError`.
    """
    found: dict[str, Utterance] = {}
    for subset, wanted in ({subsets: None} if isinstance(subsets, str) else subsets).items():
        folder, present = Path(root) / subset, set()
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; expected ROOT/SUBSET/SPEAKER/CHAPTER/UTTERANCE.flac")
        for path in sorted(folder.glob("*/*/*")):
            speaker, is_audio = path.parts[-3], path.suffix.lower() in AUDIO_SUFFIXES
            if not is_audio or is_hidden(path, folder) or speaker not in (wanted or [speaker]):
                continue
            if (path.stem + speaker).split() != [path.stem + speaker]:
                raise UserError(
                    f"{path}: the speaker's or the recording's name has a space, which no table can hold; rename it"
                )
            other = found.setdefault(path.stem, Utterance(path.stem, speaker, path, subset))
            if other.path != path:
                raise UserError(f"{path}: is called like {other.path}; every recording needs its own name")
            present.add(speaker)
        if not present and not wanted:
            raise UserError(f"{folder}: holds no SPEAKER/CHAPTER/UTTERANCE.flac")
        if absent := set(wanted or ()) - present:
            raise UserError(f"{folder}: has no speaker '{min(absent)}'; correct the list of speakers")
    return list(found.values())


def read_speaker_sexes(root: str | Path) -> dict[str, str]:
    """Return speaker -> ``m`` or ``f`` after ``root/SPEAKERS.TXT``, where it tells; empty where there is no such file."""
    path = Path(root) / "SPEAKERS.TXT"
    rows = [line.split("|") for line in read_text(path).splitlines() if line[:1] != ";"] if path.exists() else []
    told = {row[0].strip(): row[1].strip().lower() for row in rows if len(row) > 1}
    return {speaker: sex for speaker, sex in told.items() if sex in ("m", "f")}


def wanted_speakers(
    speakers_json: str | Path | None, split: str | None, subsets: Sequence[str] | None
) -> dict[str, set[str] | None]:
    """Return subset -> speakers, where ``None`` stands for all of them.

    They are those of a split in ``speakers_json``, of some of its subsets only where ``subsets`` are given; without the file,
    all of ``subsets``. A file of another form, a speaker in two splits and unknown names are a :class:`UserError`.
    """
    if speakers_json is None:
        if not subsets:
            raise UserError("--subsets: name at least one, or give --speakers_json and --split")
        return dict.fromkeys(subsets)
    splits, owner = read_json(speakers_json), dict[tuple[str, str], str]()
    expected = f'{speakers_json}: expected {{"SPLIT": {{"SUBSET": ["SPEAKER", ...]}}}}'
    if not isinstance(splits, dict) or not splits:
        raise UserError(f"{expected}, found no split")
    for name, own in splits.items():
        if not isinstance(own, dict):
            raise UserError(f"{expected}, found {type(own).__name__} under '{name}'")
        for subset, speakers in own.items():
            if not isinstance(speakers, list) or not speakers or not all(isinstance(one, str) for one in speakers):
                raise UserError(f"{expected}, found no list of speaker names under '{name}', '{subset}'")
            for speaker in speakers:
                if (other := owner.setdefault((subset, speaker), name)) != name:
                    raise UserError(
                        f"{speakers_json}: speaker '{speaker}' of '{subset}' is in '{other}' and in '{name}'"
                    )
    if split is None:
        raise UserError(f"--split is missing; name one of {speakers_json}: {', '.join(sorted(splits))}")
    if split not in splits:
        raise unknown_name(f"--split of {speakers_json}", split, splits)
    for name in subsets or ():
        if name not in splits[split]:
            raise unknown_name(f"subset of split '{split}' in {speakers_json}", name, splits[split])
    return {name: set(splits[split][name]) for name in splits[split] if subsets is None or name in subsets}


def cut_points(samples: np.ndarray, rate: int, seconds: float) -> list[int]:
    """Return the borders of pieces of about ``seconds``, alike in length up to the search for a pause, from 0 to the length.

    A recording of at least ``seconds`` gives two or more, so that one can enrol for another; a shorter one stays whole.
    """
    count = max(2 if len(samples) >= seconds * rate else 1, round(len(samples) / (seconds * rate)))
    frame, reach = rate // 50, int(_SEARCH_SECONDS * rate)
    borders = [0]
    for index in range(1, count):
        middle = len(samples) * index // count
        start = max(borders[-1] + frame, middle - reach)
        window = samples[start : middle + reach].astype(np.float64)
        power = np.convolve(window**2, np.ones(frame), "valid")
        borders.append(start + int(np.argmin(power)) + frame // 2)
    return [*borders, len(samples)]


def _cut(utterance: Utterance, seconds: float, root: Path, output: Path) -> int:
    samples, rate = read_audio(utterance.path, key=utterance.name)
    borders = cut_points(samples, rate, seconds)
    samples *= np.float32(full_scale_factor([samples]))
    for index, (start, end) in enumerate(itertools.pairwise(borders)):
        path = output / utterance.path.relative_to(root).with_name(f"{utterance.name}{index:02d}.flac")
        if not path.exists():
            write_audio(path, samples[start:end], rate)
    return len(borders) - 1


def segment_corpus(
    root: str | Path,
    subsets: Mapping[str, Collection[str] | None],
    output: str | Path,
    seconds: float,
    num_jobs: int = 1,
) -> int:
    """Cut the recordings of ``subsets`` (and speakers, ``None``: all) of ``root`` into pieces below ``output``.

    Piece ``kk`` of utterance ``A-B-NNNN`` is called ``A-B-NNNNkk``. Pieces already there are kept. The number of all is returned;
    a length out of 1 to 60 s, and an ``output`` with others, are a :class:`UserError`.
    """
    if not 1.0 <= seconds <= 60.0:
        raise UserError(f"--segment_seconds is {seconds}; expected 1 to 60")
    root, output = Path(root), Path(output)
    record, state = output / ".segment.json", {"root": str(root.absolute()), "seconds": seconds}
    if record.exists() and read_json(record) != state:
        raise UserError(f"{output}: holds pieces of another length or corpus; remove it, or change --segment_dir")
    with atomic_write(record) as stream:
        json.dump(state, stream)
    if (root / "SPEAKERS.TXT").exists():
        shutil.copyfile(root / "SPEAKERS.TXT", output / "SPEAKERS.TXT")
    cut = functools.partial(_cut, seconds=seconds, root=root, output=output)
    return sum(map_jobs(cut, list_utterances(root, subsets), num_jobs, "cutting"))
