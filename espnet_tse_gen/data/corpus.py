"""Speech in LibriSpeech's layout, ``ROOT/SUBSET/SPEAKER/CHAPTER/UTTERANCE.flac``: the folder tells the speaker, not the name.

Which speakers may be used for what is said by a JSON file, split by split and subset by subset:

    {"train": {"train-clean-100": ["19", "26"], "dev-clean": ["174"]}, "test": {"test-other": ["367"]}}
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet_tse_gen.utils.errors import UserError, unknown_name
from espnet_tse_gen.utils.files import read_json, read_text


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


def list_utterances(
    root: str | Path, subsets: str | Mapping[str, Collection[str] | None], speakers: Collection[str] | None = None
) -> list[Utterance]:
    """Return the recordings of a subset, or of several, in the order of their paths.

    Args:
        root: Folder that holds the subsets.
        subsets: One, for example ``train-clean-100``, or several with the speakers of each (``None``: all).
        speakers: Take these speakers only, of one subset.

    Raises:
        UserError: If there is no such folder, no recording, a wanted speaker is missing, or a name has a space or occurs twice.
    """
    found: dict[str, Utterance] = {}
    for subset, wanted in ({subsets: speakers} if isinstance(subsets, str) else subsets).items():
        folder, present = Path(root) / subset, set()
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; expected ROOT/SUBSET/SPEAKER/CHAPTER/UTTERANCE.flac")
        for path in sorted(folder.glob("*/*/*")):
            speaker = path.parts[-3]
            if (
                path.suffix.lower() not in (".flac", ".wav")
                or is_hidden(path, folder)
                or speaker not in (wanted or [speaker])
            ):
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


def read_splits(path: str | Path) -> dict[str, dict[str, list[str]]]:
    """Read the JSON file of splits: split -> subset -> speakers.

    Raises:
        UserError: If the file is missing, is no JSON of this form, or lists a speaker in two splits.
    """
    content = read_json(path)
    expected = f'{path}: expected {{"SPLIT": {{"SUBSET": ["SPEAKER", ...]}}}}'
    if not isinstance(content, dict) or not content:
        raise UserError(f"{expected}, found no split")
    owner: dict[tuple[str, str], str] = {}
    for split, subsets in content.items():
        if not isinstance(subsets, dict):
            raise UserError(f"{expected}, found {type(subsets).__name__} under '{split}'")
        for subset, speakers in subsets.items():
            if not isinstance(speakers, list) or not speakers or not all(isinstance(name, str) for name in speakers):
                raise UserError(f"{expected}, found no list of speaker names under '{split}', '{subset}'")
            for speaker in speakers:
                other = owner.setdefault((subset, speaker), split)
                if other != split:
                    raise UserError(f"{path}: speaker '{speaker}' of '{subset}' is in '{other}' and in '{split}'")
    return content


def wanted_speakers(
    speakers_json: str | Path | None, split: str | None, subsets: Sequence[str] | None
) -> dict[str, set[str] | None]:
    """Return subset -> speakers, where ``None`` stands for all of them.

    Args:
        speakers_json: See :func:`read_splits`; ``None`` takes all speakers of ``subsets``.
        split: Name of a split in it; of no use without it.
        subsets: Take these of the split's subsets only; ``None`` takes all. Lossy material, for example, may be fit for one
            purpose and not for another.

    Raises:
        UserError: For an unknown split or subset, or where neither file nor subsets are given.
    """
    if speakers_json is None:
        if not subsets:
            raise UserError("--subsets: name at least one, or give --speakers_json and --split")
        return dict.fromkeys(subsets)
    if split is None:
        raise UserError(f"--split: name one of those in {speakers_json}")
    splits = read_splits(speakers_json)
    if split not in splits:
        raise unknown_name(f"split of {speakers_json}", split, splits)
    for name in subsets or ():
        if name not in splits[split]:
            raise unknown_name(f"subset of split '{split}' in {speakers_json}", name, splits[split])
    return {name: set(names) for name, names in splits[split].items() if subsets is None or name in subsets}
