"""Lists of single-speaker speech: the recordings of chosen speakers of a corpus in LibriSpeech's layout.

Which speakers may be used for what is said by a JSON file, split by split and subset by subset:

    {"train": {"train-clean-100": ["19", "26"], "dev-clean": ["174"]}, "test": {"test-other": ["367"]}}

A codec is trained on the list of one split and judged on that of another; the lists are Kaldi tables (``wav.scp``,
``utt2spk``, ``spk2gender``), as every other stage reads them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from espnet_tse_gen.data.librimix.metadata import Utterance, list_utterances, read_speaker_sexes
from espnet_tse_gen.data.sources import COLLECTIONS
from espnet_tse_gen.utils.errors import UserError, unknown_name
from espnet_tse_gen.utils.files import write_scp


def read_splits(path: str | Path) -> dict[str, dict[str, list[str]]]:
    """Read the JSON file of splits: split -> subset -> speakers.

    Raises:
        UserError: If the file is missing, is no JSON of this form, or lists a speaker in two splits.
    """
    try:
        content: Any = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error})") from None
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


def list_speech(
    librispeech: str | Path,
    speakers_json: str | Path | None,
    split: str | None,
    subsets: Sequence[str] | None = None,
) -> list[Utterance]:
    """Return the recordings of a split's speakers, sorted by name.

    Args:
        librispeech: Folder that holds the subsets.
        speakers_json: See :func:`read_splits`; ``None`` takes all speakers of ``subsets``.
        split: Name of a split in it; of no use without it.
        subsets: Take these of the split's subsets only; ``None`` takes all. Lossy material, for example, may be fit
            for one purpose and not for another.

    Raises:
        UserError: For an unknown split or subset, a missing folder or speaker, or a name that occurs twice.
    """
    wanted = wanted_speakers(speakers_json, split, subsets)
    found: dict[str, Utterance] = {}
    for subset, speakers in wanted.items():
        for utterance in list_utterances(librispeech, subset, speakers):
            other = found.setdefault(utterance.name, utterance)
            if other is not utterance:
                raise UserError(f"{utterance.path}: is called like {other.path}; every recording needs its own name")
    return [found[name] for name in sorted(found)]


def wanted_speakers(
    speakers_json: str | Path | None, split: str | None, subsets: Sequence[str] | None
) -> dict[str, set[str] | None]:
    """Return subset -> speakers, where ``None`` stands for all of them; arguments as for :func:`list_speech`.

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


def write_speech_lists(output_dir: str | Path, utterances: Sequence[Utterance], sexes: dict[str, str]) -> None:
    """Write ``wav.scp``, ``utt2spk``, ``utt2collection`` and (where ``sexes`` knows a speaker) ``spk2gender``, keys sorted.

    Paths are absolute. ``wav.scp`` is written last: where it exists, the others do.
    """
    output = Path(output_dir)
    (output / "wav.scp").unlink(missing_ok=True)
    speakers = {utterance.speaker for utterance in utterances}
    genders = {name: sexes[name] for name in speakers if name in sexes}
    if genders:
        write_scp(output / "spk2gender", genders)
    else:
        (output / "spk2gender").unlink(missing_ok=True)
    write_scp(output / COLLECTIONS, {utterance.name: utterance.subset for utterance in utterances})
    write_scp(output / "utt2spk", {utterance.name: utterance.speaker for utterance in utterances})
    write_scp(output / "wav.scp", {utterance.name: str(utterance.path.absolute()) for utterance in utterances})


def prepare_speech_lists(
    librispeech: str | Path,
    speakers_json: str | Path | None,
    split: str | None,
    output_dir: str | Path,
    subsets: Sequence[str] | None = None,
) -> list[Utterance]:
    """List a split's recordings (:func:`list_speech`) and write their tables (:func:`write_speech_lists`)."""
    utterances = list_speech(librispeech, speakers_json, split, subsets)
    write_speech_lists(output_dir, utterances, read_speaker_sexes(librispeech))
    return utterances
