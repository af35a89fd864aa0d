"""Data directories in the format of ESPnet's target speaker extraction recipes, from a tree of LibriMix mixtures.

A directory holds ``wav.scp``, per speaker n ``spk{n}.scp``, ``enroll_spk{n}.scp`` and ``target_spk{n}`` (mixture ->
speaker), ``utt2spk`` and ``spk2utt`` (mixture -> itself, as every mixture is a "speaker" of its own), and
``spk2gender`` where the sexes are known. For training, ``enroll_spk{n}.scp`` says ``*UTTERANCE SPEAKER`` and
``spk2enroll.json`` lists every speaker's recordings, from which another than ``UTTERANCE`` is drawn each time;
otherwise it holds what an enrolment list says or a seeded draw gave, and ``protocol`` says which, and ``text_spk{n}``
has the transcripts where LibriSpeech is at hand.
"""

from __future__ import annotations

import csv
import json
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from espnet_tse_gen.data.datadir import POOL, numbered_tables
from espnet_tse_gen.data.enrolment.choice import EnrolmentChooser, Mixture, Pool, enrolment_files, tree_pool
from espnet_tse_gen.data.enrolment.lists import EnrolmentOptions
from espnet_tse_gen.data.enrolment.protocol import PROTOCOL, Protocol, write_protocol
from espnet_tse_gen.data.librimix.layout import MixtureTree, read_info_sexes, read_metadata
from espnet_tse_gen.data.librimix.metadata import list_utterances, read_speaker_sexes
from espnet_tse_gen.data.transcripts import describe_transcripts, write_transcripts
from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.files import atomic_write, write_scp

# Of the official sets, with two and with three speakers; a smaller number is worth a remark.
_OFFICIAL_SIZES = {
    2: {"train-100": 13900, "train-360": 50800, "dev": 3000, "test": 3000},
    3: {"train-100": 9300, "train-360": 33900, "dev": 3000, "test": 3000},
}


@dataclass
class Prepared:
    """What was written: mixtures, those left out as a speaker has no second recording, protocol, remarks for the user."""

    mixtures: int
    left_out: int
    protocol: Protocol | None = None
    remarks: list[str] = field(default_factory=list)


def list_mixtures(tree: MixtureTree, subset: str, mix_type: str) -> list[Mixture]:
    """Return the mixtures of a set, after its table, or after its files where there is no table.

    Raises:
        UserError: If the set is not there, its generation was not finished, or an id is not ``UTT1_UTT2``.
    """
    table, folder = tree.csv(subset, mix_type), tree.folder / subset / mix_type
    if not folder.is_dir():
        raise UserError(
            f"{folder}: no such folder; generate it (--librispeech and --metadata), or correct --libri2mix or --sets"
        )
    if table.exists():
        with open(table, encoding="utf-8", newline="") as stream:
            names = sorted(line.get("mixture_ID") or "" for line in csv.DictReader(stream))
    elif tree.record(subset).exists():
        raise UserError(
            f"{folder}: its generation was not finished; finish it with the --metadata that it was begun with"
        )
    else:
        names = sorted(path.stem for path in folder.glob("*.wav"))
    if not names:
        raise UserError(f"{folder}: holds no mixture")
    for name in names:
        if "_" not in name or not all(part for part in name.split("_")):
            raise UserError(f"{folder}: mixture '{name}' is not named UTTERANCE1_UTTERANCE2; expected LibriMix's names")
    mixtures = [Mixture(name, subset) for name in names]
    number = len(mixtures[0].utterances)
    odd = next((one.name for one in mixtures if len(one.utterances) != number), None)
    if odd is not None:
        raise UserError(f"{folder}: mixture '{odd}' has another number of speakers than '{names[0]}'")
    return mixtures


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


def prepare_directory(
    output: str | Path,
    tree: MixtureTree,
    subsets: Sequence[str],
    *,
    mix_type: str = "mix_clean",
    train: bool = False,
    librispeech: str | Path | None = None,
    metadata: Sequence[str | Path | None] | None = None,
    enrolment: EnrolmentOptions | None = None,
    num_jobs: int = 1,
) -> Prepared:
    """Write the data directory ``output`` for the sets ``subsets`` of ``tree`` together.

    Args:
        output: Data directory.
        tree: The mixtures.
        subsets: For example ``["train-100", "train-360"]``.
        mix_type: Which mixtures. Of ``mix_single``, speaker 1 is all there is.
        train: Write the enrolment tables for drawing on the fly.
        librispeech: LibriSpeech's folder: gives full clean recordings for enrolment, and the speakers' sexes. Without
            it, the sources of other mixtures serve, cut as they are there.
        metadata: The metadata file of each set, where known; a ``*_info.csv`` beside it gives the speakers' sexes too.
        enrolment: Which enrolments evaluation sets get; by default, a seeded draw.
        num_jobs: Processes for joining several enrolments of a target.

    Raises:
        UserError: If a set, a file or an enrolment is missing, or no mixture is left.
    """
    output = Path(output)
    tables = list(metadata or [None] * len(subsets))
    prepared = Prepared(0, 0)
    pool: Pool = {}
    mixtures: list[Mixture] = []
    for subset, table in zip(subsets, tables, strict=True):
        found = list_mixtures(tree, subset, mix_type)
        speakers = {speaker for mixture in found for speaker in mixture.speakers}
        clean = corpus_pool(librispeech, subset, table, speakers) if librispeech else {}
        if not clean and not train and enrolment is not None and enrolment.name == "full":
            raise UserError(
                f"--enroll_list full: needs LibriSpeech's recordings of '{subset}'; give --librispeech the folder that "
                f"holds them, such as {subset}-clean, or choose --enroll_list but"
            )
        if librispeech and not clean:
            print(
                f"{librispeech}: has no recordings of '{subset}'; sources of its mixtures serve as enrolment",
                file=sys.stderr,
            )
        pool.update(clean or tree_pool(tree, found))
        mixtures += found
        whole = _OFFICIAL_SIZES.get(len(found[0].speakers), {}).get(subset, 0)
        if len(found) < whole:
            prepared.remarks.append(f"holds {len(found):,} of the {whole:,} mixtures of the official '{subset}'")
    number = 1 if mix_type == "mix_single" else len(mixtures[0].speakers)
    if train:
        kept = [mixture for mixture in mixtures if _has_others(mixture, pool, number)]
        rows = {
            (one.name, n): f"*{one.utterances[n - 1]} {one.speakers[n - 1]}"
            for one in kept
            for n in range(1, number + 1)
        }
    else:
        options = enrolment or EnrolmentOptions()
        chooser = EnrolmentChooser(tree, mixtures, pool, options, librispeech=librispeech, number_of_speakers=number)
        choice = chooser.choose()
        kept = choice.kept
        prepared.protocol = replace(choice.protocol, mix_type=mix_type)
        rows = enrolment_files(choice.enrolments, output / "enroll", num_jobs)
    prepared.mixtures, prepared.left_out = len(kept), len(mixtures) - len(kept)
    if not kept:
        raise UserError(
            f"{output}: no mixture of {' '.join(subsets)} has a second recording of both speakers for enrolment; "
            "add recordings (--librispeech), or cut long ones (--segment_seconds)"
        )
    contents = _tables(tree, kept, rows, mix_type, number)
    # It is written last: a directory without it is not whole.
    (output / "wav.scp").unlink(missing_ok=True)
    sexes = {key: sex for table in tables if table is not None for key, sex in read_info_sexes(table).items()}
    if librispeech:
        sexes |= read_speaker_sexes(librispeech)
    _write_sexes(output, kept, sexes)
    if train:
        present = {speaker for one in kept for speaker in one.speakers}
        with atomic_write(output / POOL) as stream:
            json.dump({speaker: pool[speaker] for speaker in sorted(present)}, stream)
        (output / PROTOCOL).unlink(missing_ok=True)
    elif prepared.protocol is not None:
        (output / POOL).unlink(missing_ok=True)
        write_protocol(output, prepared.protocol)
    for prefix, suffix in (("spk", ".scp"), ("enroll_spk", ".scp"), ("target_spk", "")):
        for path in numbered_tables(output, prefix, suffix)[number:]:
            path.unlink()
    mixture_table = contents.pop("wav.scp")
    for name, content in contents.items():
        write_scp(output / name, content)
    if librispeech and not train:
        found_texts = describe_transcripts(write_transcripts(output, librispeech))
        if found_texts:
            prepared.remarks.append(f"has {found_texts}")
    write_scp(output / "wav.scp", mixture_table)
    return prepared


def _has_others(mixture: Mixture, pool: Pool, number: int) -> bool:
    pairs = list(zip(mixture.utterances, mixture.speakers, strict=True))[:number]
    return all(any(other != own for other, _ in pool.get(speaker, ())) for own, speaker in pairs)


def _tables(
    tree: MixtureTree,
    kept: Sequence[Mixture],
    enrolments: Mapping[tuple[str, int], str],
    mix_type: str,
    number_of_speakers: int,
) -> dict[str, dict[str, str]]:
    """Return the tables by file name, ``wav.scp`` last."""
    tables: dict[str, dict[str, str]] = {}
    for number in range(1, number_of_speakers + 1):
        kind = f"s{number}"
        tables[f"spk{number}.scp"] = {one.name: _existing(tree, one, kind) for one in kept}
        tables[f"target_spk{number}"] = {one.name: one.speakers[number - 1] for one in kept}
        tables[f"enroll_spk{number}.scp"] = {one.name: enrolments[one.name, number] for one in kept}
    for name in ("utt2spk", "spk2utt"):
        tables[name] = {one.name: one.name for one in kept}
    tables["wav.scp"] = {one.name: _existing(tree, one, mix_type) for one in kept}
    return tables


def _existing(tree: MixtureTree, mixture: Mixture, kind: str) -> str:
    path = tree.audio(mixture.subset, kind, mixture.name).absolute()
    if not path.is_file():
        raise UserError(f"{path} (mixture '{mixture.name}'): no such file; complete the Libri2Mix tree")
    return str(path)


def _write_sexes(output: Path, kept: Sequence[Mixture], sexes: Mapping[str, str]) -> None:
    present = {speaker for one in kept for speaker in one.speakers}
    known = {speaker: sexes[speaker] for speaker in present if speaker in sexes}
    if known:
        write_scp(output / "spk2gender", known)
    else:
        (output / "spk2gender").unlink(missing_ok=True)
    if unknown := present - known.keys():
        print(
            f"{output}: the sex of {len(unknown)} of {len(present)} speakers is unknown, first '{min(unknown)}' "
            "(it is read from SPEAKERS.TXT in --librispeech, or from LibriMix's *_info.csv beside --metadata)",
            file=sys.stderr,
        )
