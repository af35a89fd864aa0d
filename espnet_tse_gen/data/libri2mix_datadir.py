"""Data directories in the format of ESPnet's target speaker extraction recipes, from a tree of LibriMix mixtures.

A directory holds ``wav.scp``, per speaker n ``spk{n}.scp``, ``enroll_spk{n}.scp`` and ``target_spk{n}`` (mixture ->
speaker), ``utt2spk`` and ``spk2utt`` (mixture -> itself, as every mixture is a "speaker" of its own), and
``spk2gender`` where the sexes are known. For training, ``enroll_spk{n}.scp`` says ``*UTTERANCE SPEAKER`` and
``spk2enroll.json`` lists every speaker's recordings, from which another than ``UTTERANCE`` is drawn each time;
otherwise it holds one seeded choice.
"""

from __future__ import annotations

import csv
import json
import random
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet_tse_gen.data.librimix import MixtureTree, read_metadata
from espnet_tse_gen.data.metadata import list_utterances, read_speaker_sexes
from espnet_tse_gen.errors import UserError
from espnet_tse_gen.fileio import atomic_write, write_scp

# speaker -> [(utterance, path)]
Pool = dict[str, list[tuple[str, str]]]


@dataclass(frozen=True)
class Mixture:
    """A mixture of a tree: its id ``UTT1_UTT2``, and the set it belongs to."""

    name: str
    subset: str

    @property
    def utterances(self) -> list[str]:
        """The utterance of each source."""
        return self.name.split("_")

    @property
    def speakers(self) -> list[str]:
        """The speaker of each source."""
        return [utterance.split("-")[0] for utterance in self.utterances]


def list_mixtures(tree: MixtureTree, subset: str, mix_type: str) -> list[Mixture]:
    """Return the mixtures of a set, after its table, or after its files where there is no table.

    Raises:
        UserError: If the set is not there, or an id is not ``UTT1_UTT2``.
    """
    table, folder = tree.csv(subset, mix_type), tree.folder / subset / mix_type
    if not folder.is_dir():
        raise UserError(
            f"{folder}: no such folder; generate it (--librispeech and --metadata), or correct --libri2mix or --sets"
        )
    if table.exists():
        with open(table, encoding="utf-8", newline="") as stream:
            names = sorted(line["mixture_ID"] for line in csv.DictReader(stream))
    else:
        names = sorted(path.stem for path in folder.glob("*.wav"))
    if not names:
        raise UserError(f"{folder}: holds no mixture")
    for name in names:
        if "_" not in name or not all(part for part in name.split("_")):
            raise UserError(f"{folder}: mixture '{name}' is not named UTTERANCE1_UTTERANCE2; expected LibriMix's names")
    return [Mixture(name, subset) for name in names]


def corpus_pool(librispeech: str | Path, subset: str, metadata: str | Path | None, speakers: set[str]) -> Pool:
    """Return the clean recordings of ``speakers`` in the parts of LibriSpeech that a set was made from.

    The parts are those of the metadata's paths, or else follow from the set's name (``train-100``: ``train-clean-100``;
    ``dev``: ``dev-clean``). Empty where there are none.
    """
    root = Path(librispeech)
    if metadata is not None:
        parts = {Path(path).parts[0] for row in read_metadata(metadata) for path in row.sources}
    else:
        kind, _, rest = subset.partition("-")
        parts = {subset, "-".join(filter(None, (kind, "clean", rest)))}
    pool: Pool = defaultdict(list)
    for part in sorted(parts):
        if (root / part).is_dir():
            for one in list_utterances(root, part):
                if one.speaker in speakers:
                    pool[one.speaker].append((one.name, str(one.path.absolute())))
    return dict(pool)


def tree_pool(tree: MixtureTree, mixtures: Sequence[Mixture]) -> Pool:
    """Return the sources of ``mixtures``, each utterance once, for use where LibriSpeech itself is not at hand."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for mixture in mixtures:
        for number, (utterance, speaker) in enumerate(zip(mixture.utterances, mixture.speakers, strict=True), 1):
            path = tree.audio(mixture.subset, f"s{number}", mixture.name)
            found[speaker].setdefault(utterance, str(path.absolute()))
    return {speaker: sorted(utterances.items()) for speaker, utterances in found.items()}


def choose_enrolment(pool: Pool, mixture: Mixture, number: int, seed: int) -> str:
    """Return the path of another recording of the speaker of source ``number`` (from 1); the seed decides which."""
    target, speaker = mixture.utterances[number - 1], mixture.speakers[number - 1]
    others = [path for utterance, path in pool[speaker] if utterance != target]
    return random.Random(f"enrolment {seed} {mixture.name} {number}").choice(others)


def prepare_directory(
    output: str | Path,
    tree: MixtureTree,
    subsets: Sequence[str],
    *,
    mix_type: str = "mix_clean",
    train: bool = False,
    librispeech: str | Path | None = None,
    metadata: Sequence[str | Path | None] | None = None,
    seed: int = 0,
) -> tuple[int, int]:
    """Write the data directory ``output`` for the sets ``subsets`` of ``tree`` together.

    Args:
        output: Data directory.
        tree: The mixtures.
        subsets: For example ``["train-100", "train-360"]``.
        mix_type: Which mixtures.
        train: Write the enrolment tables for drawing on the fly.
        librispeech: LibriSpeech's folder: gives full clean recordings for enrolment, and the speakers' sexes. Without
            it, the sources of other mixtures serve, cut as they are there.
        metadata: The metadata file of each set, where known.
        seed: For the choice of enrolments.

    Returns:
        ``(mixtures written, mixtures left out because a speaker has no second recording)``.

    Raises:
        UserError: If a set or file is missing, or no mixture is left.
    """
    output = Path(output)
    pool: Pool = {}
    mixtures: list[Mixture] = []
    for subset, table in zip(subsets, metadata or [None] * len(subsets), strict=True):
        found = list_mixtures(tree, subset, mix_type)
        speakers = {speaker for mixture in found for speaker in mixture.speakers}
        clean = corpus_pool(librispeech, subset, table, speakers) if librispeech else {}
        if librispeech and not clean:
            print(
                f"{librispeech}: has no recordings of '{subset}'; sources of its mixtures serve as enrolment",
                file=sys.stderr,
            )
        pool.update(clean or tree_pool(tree, found))
        mixtures += found

    def usable(mixture: Mixture) -> bool:
        pairs = zip(mixture.utterances, mixture.speakers, strict=True)
        return all(any(other != own for other, _ in pool.get(speaker, ())) for own, speaker in pairs)

    kept = [mixture for mixture in mixtures if usable(mixture)]
    if not kept:
        raise UserError(
            f"{output}: no mixture of {' '.join(subsets)} has a second recording of both speakers for enrolment; "
            "add recordings (--librispeech), or cut long ones (--segment_seconds)"
        )
    _write_tables(output, tree, kept, pool, mix_type=mix_type, train=train, seed=seed)
    _write_sexes(output, kept, read_speaker_sexes(librispeech) if librispeech else {})
    return len(kept), len(mixtures) - len(kept)


def _write_tables(
    output: Path, tree: MixtureTree, kept: Sequence[Mixture], pool: Pool, *, mix_type: str, train: bool, seed: int
) -> None:
    number_of_speakers = len(kept[0].speakers)
    for number in range(1, number_of_speakers + 1):
        kind = f"s{number}"
        write_scp(output / f"spk{number}.scp", {one.name: _existing(tree, one, kind) for one in kept})
        write_scp(output / f"target_spk{number}", {one.name: one.speakers[number - 1] for one in kept})
        if train:
            enrolments = {one.name: f"*{one.utterances[number - 1]} {one.speakers[number - 1]}" for one in kept}
        else:
            enrolments = {one.name: choose_enrolment(pool, one, number, seed) for one in kept}
        write_scp(output / f"enroll_spk{number}.scp", enrolments)
    if train:
        present = {speaker for one in kept for speaker in one.speakers}
        with atomic_write(output / "spk2enroll.json") as stream:
            json.dump({speaker: pool[speaker] for speaker in sorted(present)}, stream)
    else:
        (output / "spk2enroll.json").unlink(missing_ok=True)
    for name in ("utt2spk", "spk2utt"):
        write_scp(output / name, {one.name: one.name for one in kept})
    write_scp(output / "wav.scp", {one.name: _existing(tree, one, mix_type) for one in kept})


def _existing(tree: MixtureTree, mixture: Mixture, kind: str) -> str:
    path = tree.audio(mixture.subset, kind, mixture.name).absolute()
    if not path.is_file():
        raise UserError(f"{path} (mixture '{mixture.name}'): no such file; complete the Libri2Mix tree")
    return str(path)


def _write_sexes(output: Path, kept: Sequence[Mixture], sexes: dict[str, str]) -> None:
    present = {speaker for one in kept for speaker in one.speakers}
    unknown = present - sexes.keys()
    if not unknown:
        write_scp(output / "spk2gender", {speaker: sexes[speaker] for speaker in present})
    else:
        (output / "spk2gender").unlink(missing_ok=True)
        print(
            f"{output}: no spk2gender, as the sex of {len(unknown)} speaker(s) is unknown, first '{min(unknown)}' "
            "(it is read from SPEAKERS.TXT in --librispeech)",
            file=sys.stderr,
        )
