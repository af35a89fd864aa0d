"""Data directories in the format of ESPnet's target speaker extraction recipes, from a tree of LibriMix mixtures.

For training, ``enroll_spk{n}.scp`` says ``*UTTERANCE SPEAKER`` and ``spk2enroll.json`` lists every speaker's recordings, from
which another than ``UTTERANCE`` is drawn each time; otherwise it holds what an enrolment list says or a seeded draw gave,
``protocol`` says which, and ``text_spk{n}`` has the transcripts where LibriSpeech is at hand.
"""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from espnet_tse_gen.data.corpus import Utterance, list_utterances, read_speaker_sexes
from espnet_tse_gen.data.datadir import DataDir, Pool
from espnet_tse_gen.data.enrolment.choice import EnrolmentChooser, enrolment_files, tree_pool
from espnet_tse_gen.data.enrolment.lists import EnrolmentOptions
from espnet_tse_gen.data.enrolment.protocol import protocol_table
from espnet_tse_gen.data.librimix.layout import (
    Mixture,
    MixtureTree,
    Talker,
    read_info_sexes,
    read_metadata,
    talker_of,
    talkers_of,
)
from espnet_tse_gen.data.transcripts import describe_transcripts, find_transcripts
from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.files import read_csv


def list_mixtures(
    tree: MixtureTree,
    subset: str,
    mix_type: str,
    metadata: str | Path | None = None,
    librispeech: str | Path | None = None,
) -> tuple[list[Mixture], list[Utterance]]:
    """Return the mixtures of a set, after its table or (without one) its files, and the whole recordings of its speakers.

    Who speaks is told by the metadata from which the set was generated, where given, else by LibriSpeech's folders, else by the
    names. The recordings are those of LibriSpeech's parts that the set was made from. A set that is not there or not finished,
    or of which nothing tells who speaks, is a :class:`UserError`.
    """
    table, folder = tree.csv(subset, mix_type), tree.folder / subset / mix_type
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; generate it (--librispeech and --metadata), or correct --sets")
    if table.exists():
        names = sorted(line.get("mixture_ID", "") for line in read_csv(table)[1])
    elif tree.record(subset).exists():
        raise UserError(f"{folder}: its generation was not finished; finish it with the --metadata it was begun with")
    else:
        names = sorted(path.stem for path in folder.glob("[!.]*.wav"))
    if not names:
        raise UserError(f"{folder}: holds no mixture")
    sources: Mapping[str, Sequence[str]] = tree.read_record(subset).get("sources", {})
    if metadata is not None:
        sources = {row.name: row.sources for row in read_metadata(metadata)}
    # Where nothing says from which parts: "train-100" is of "train-clean-100", "dev" of "dev-clean".
    kind, _, rest = subset.partition("-")
    parts = {Path(path).parts[0] for paths in sources.values() for path in paths}
    parts = parts or {subset, "-".join(filter(None, (kind, "clean", rest)))}
    there = [part for part in sorted(parts) if librispeech and (Path(librispeech) / part).is_dir()]
    recordings = [one for part in there for one in list_utterances(librispeech or "", part)]
    known = {one.name: one.speaker for one in recordings}
    mixtures: list[Mixture] = []
    for name in names:
        told = tuple(map(talker_of, sources[name])) if name in sources else talkers_of(name, known)
        if len(told) < 2:
            raise UserError(
                f"{folder}: mixture '{name}' does not tell its speakers; expected UTTERANCE1_UTTERANCE2, of utterances "
                "called SPEAKER-CHAPTER-NUMBER or that are in --librispeech, or give --metadata"
            )
        if mixtures and len(told) != len(mixtures[0].talkers):
            raise UserError(f"{folder}: mixture '{name}' has another number of speakers than '{names[0]}'")
        mixtures.append(Mixture(name, subset, told))
    return mixtures, recordings


def prepare_directory(
    output: Path,
    tree: MixtureTree,
    metadata: Mapping[
        str, Path | None
    ],  # by set: its metadata file, where known; a `*_info.csv` beside it tells the sexes
    mix_type: str,  # of `mix_single`, speaker 1 is all there is
    librispeech: str
    | Path
    | None,  # has whole recordings for enrolment and tells the sexes; without it, other sources serve
    enrolment: EnrolmentOptions | None,  # of an evaluation set; None: for training, which draws on the fly
    num_jobs: int,
) -> list[str]:
    """Write the data directory ``output`` for sets of ``tree`` together, and return what to tell the user.

    A set, a file or an enrolment that is missing, or no mixture that is left, is a :class:`UserError`.
    """
    pool: Pool = {}
    mixtures: list[Mixture] = []
    sexes: dict[str, str] = {}
    whole: dict[str, str] = {}
    for subset, table in metadata.items():
        found, recordings = list_mixtures(tree, subset, mix_type, table, librispeech)
        clean: Pool = {}
        for one in recordings:
            whole[one.name] = str(one.path.absolute())
            clean.setdefault(one.speaker, []).append((one.name, whole[one.name]))
        if not clean and enrolment and enrolment.enroll_list == "full":
            raise UserError(
                f"--enroll_list full: needs LibriSpeech's recordings of '{subset}'; give --librispeech the folder that "
                f"holds them, such as {subset}-clean, or choose --enroll_list but"
            )
        if librispeech and not clean:
            print(
                f"{librispeech}: has no recordings of '{subset}'; sources of its mixtures serve as enrolment",
                file=sys.stderr,
            )
        pool |= clean or tree_pool(tree, found)
        mixtures += found
        sexes |= read_info_sexes(table) if table is not None else {}
    numbers = range(1, 2 if mix_type == "mix_single" else len(mixtures[0].talkers) + 1)
    protocol, chosen = None, dict[tuple[str, int], list[Talker]]()
    if enrolment is None:
        kept = [
            one
            for one in mixtures
            if all(any(other != own for other, _ in pool.get(who, ())) for who, own, _ in one.talkers[: len(numbers)])
        ]
        rows = {(one.name, n): "*{1} {0}".format(*one.talkers[n - 1]) for one in kept for n in numbers}
    else:
        chooser = EnrolmentChooser(tree, mixtures, pool, enrolment, mix_type, librispeech, len(numbers))
        kept, chosen, protocol = chooser.choose()
        rows = enrolment_files(chosen, output / "enroll", num_jobs)
    if not kept:
        raise UserError(
            f"{output}: no mixture of {' '.join(metadata)} has a second recording of both speakers for enrolment; "
            "add recordings (--librispeech), or cut long ones (--segment_seconds)"
        )

    def existing(mixture: Mixture, kind: str) -> str:
        path = tree.audio(mixture.subset, kind, mixture.name).absolute()
        if not path.is_file():
            raise UserError(f"{path} (mixture '{mixture.name}'): no such file; complete the Libri2Mix tree")
        return str(path)

    tables: dict[str, dict[str, str]] = {"wav.scp": {one.name: existing(one, mix_type) for one in kept}}
    tables |= {name: {one.name: one.name for one in kept} for name in ("utt2spk", "spk2utt")}
    counts: Counter[str] = Counter()
    for n in numbers:
        talkers = {one.name: one.talkers[n - 1] for one in kept}
        sources = {one.name: existing(one, f"s{n}") for one in kept}
        tables[f"spk{n}.scp"] = sources
        tables[f"target_spk{n}"] = {name: who.speaker for name, who in talkers.items()}
        tables[f"enroll_spk{n}.scp"] = {name: rows[name, n] for name in talkers}
        if protocol:
            told = {name: [who, *chosen[name, n]] for name, who in talkers.items()}
            tables[f"utterances_spk{n}"] = {
                name: " ".join(f"{one.speaker}/{one.utterance}".strip("/") or "/" for one in several)
                for name, several in told.items()
            }
            recorded = {name: whole[who.utterance] for name, who in talkers.items() if who.utterance in whole}
            tables[f"text_spk{n}"] = find_transcripts(sources, recorded, counts)
    present = {who.speaker for one in kept for who in one.talkers}
    sexes |= read_speaker_sexes(librispeech) if librispeech else {}
    tables["spk2gender"] = {speaker: sexes[speaker] for speaker in present if speaker in sexes}
    if unknown := present - sexes.keys():
        print(
            f"{output}: the sex of {len(unknown)} of {len(present)} speakers is unknown, first '{min(unknown)}' "
            "(it is read from SPEAKERS.TXT in --librispeech, or from LibriMix's *_info.csv beside --metadata)",
            file=sys.stderr,
        )
    left_out = f", {len(mixtures) - len(kept)} left out because a speaker has no second recording to enrol with"
    remarks = [f"{len(kept)} mixtures{left_out if len(kept) < len(mixtures) else ''}"]
    if protocol:
        tables["protocol"] = protocol_table(protocol)
        remarks.append(protocol.describe())
    data = DataDir(tables, None if protocol else {name: pool[name] for name in sorted(present & pool.keys())})
    data.write(output)
    transcripts = describe_transcripts(counts)
    return [*remarks, f"has {transcripts}"] if transcripts else remarks
