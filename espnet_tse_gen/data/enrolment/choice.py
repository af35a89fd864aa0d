"""Which recordings enrol for the targets of an evaluation set: a list is applied, or recordings are drawn.

An enrolment that is the target utterance itself ("leak") would give the answer away. Published lists hold some; they
are replaced, by a seeded choice among the speaker's other recordings, unless the list is wanted as it is.
"""

from __future__ import annotations

import functools
import hashlib
import random
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from espnet_tse_gen.audio.files import read_audio, write_audio
from espnet_tse_gen.data.datadir import enrolled_utterance
from espnet_tse_gen.data.enrolment.lists import EnrolmentList, EnrolmentOptions, list_file, read_list
from espnet_tse_gen.data.enrolment.protocol import Protocol
from espnet_tse_gen.data.librimix.layout import MixtureTree
from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.parallel import map_jobs

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


@dataclass(frozen=True)
class Recording:
    """A recording that can enrol: its utterance (empty if its name does not tell), file, and whether it is a source."""

    utterance: str
    path: str
    source: bool = False


@dataclass
class Choice:
    """``(mixture, number of the speaker from 1)`` -> its enrolments; the mixtures that have them; the protocol."""

    kept: list[Mixture]
    enrolments: dict[tuple[str, int], list[Recording]]
    protocol: Protocol
    left_out: list[Mixture] = field(default_factory=list)


def tree_pool(tree: MixtureTree, mixtures: Sequence[Mixture]) -> Pool:
    """Return the sources of ``mixtures``, each utterance once, for use where LibriSpeech itself is not at hand."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for mixture in mixtures:
        for number, (utterance, speaker) in enumerate(zip(mixture.utterances, mixture.speakers, strict=True), 1):
            path = tree.audio(mixture.subset, f"s{number}", mixture.name)
            found[speaker].setdefault(utterance, str(path.absolute()))
    return {speaker: sorted(utterances.items()) for speaker, utterances in found.items()}


class EnrolmentChooser:
    """Chooses the enrolments of one evaluation set.

    Args:
        tree: The mixtures' tree.
        mixtures: All mixtures of the set.
        pool: The speakers' recordings to draw from: LibriSpeech's, or where that is not at hand the tree's.
        options: What the user chose.
        librispeech: Folder that the files in a list are relative to.
        number_of_speakers: How many speakers of a mixture need an enrolment.
    """

    def __init__(
        self,
        tree: MixtureTree,
        mixtures: Sequence[Mixture],
        pool: Pool,
        options: EnrolmentOptions,
        *,
        librispeech: str | Path | None = None,
        number_of_speakers: int = 2,
    ) -> None:
        self.tree, self.mixtures, self.pool, self.options = tree, list(mixtures), pool, options
        self.librispeech = Path(librispeech) if librispeech else None
        self.numbers = range(1, number_of_speakers + 1)
        self.targets = range(1, 2) if options.only_first else self.numbers
        self.lists = self._read_lists()
        self._speakers = {speaker for mixture in self.mixtures for speaker in mixture.speakers}
        self._paths = {utterance: path for own in pool.values() for utterance, path in own}
        self._counts: dict[str, int] = defaultdict(int)

    def _read_lists(self) -> dict[str, EnrolmentList]:
        lists = {}
        for subset in sorted({mixture.subset for mixture in self.mixtures}):
            own = {mixture.name: mixture.utterances for mixture in self.mixtures if mixture.subset == subset}
            path = list_file(self.options, subset, len(next(iter(own.values()))))
            if path is not None:
                lists[subset] = read_list(path, own)
        return lists

    @functools.cached_property
    def _sources(self) -> Pool:
        return tree_pool(self.tree, self.mixtures)

    def choose(self) -> Choice:
        """Choose for every mixture.

        Raises:
            UserError: If the list lacks a target or a recording of it is not there (unless that is allowed), or is of
                another speaker.
        """
        choice = Choice([], {}, Protocol())
        for mixture in self.mixtures:
            before = dict(self._counts)
            found = {(mixture.name, number): self._row(mixture, number) for number in self.numbers}
            if all(found.values()):
                choice.kept.append(mixture)
                choice.enrolments.update(found)
            else:
                # A mixture that is left out counts nowhere.
                self._counts = defaultdict(int, before)
                choice.left_out.append(mixture)
        digests = [one.sha256 for one in self.lists.values()]
        choice.protocol = Protocol(
            enroll_list=self.options.title,
            enroll_list_sha256=",".join(digests) or "-",
            enroll_list_raw=self.options.raw and bool(digests),
            targets="first" if self.options.only_first else "all",
            mixtures=len(choice.kept),
            target_rows=len(choice.kept) * len(self.targets),
            leaks=self._counts["leaks"],
            leaks_identical=self._counts["leaks_identical"],
            leaks_replaced=self._counts["leaks_replaced"],
            missing_replaced=self._counts["missing_replaced"],
            left_out=len(choice.left_out),
            num_enrollments=self.options.number,
            fewer_enrollments=self._counts["fewer_enrollments"],
            seed=self.options.seed,
            min_or_max=self.tree.mode,
            sample_rate=self.tree.sample_rate,
        )
        return choice

    def _row(self, mixture: Mixture, number: int) -> list[Recording]:
        """Return the enrolments of one speaker of a mixture; none where the speaker has no other recording."""
        counted = number in self.targets
        listed = self.lists.get(mixture.subset)
        entries = listed.rows.get((mixture.name, number), ()) if listed else ()
        if listed and not entries and counted and not self.options.allow_missing:
            raise UserError(
                f"{listed.path}: has no line for speaker {number} of '{mixture.name}'; give a list of all targets, "
                "--targets first if it is for speaker 1 only, or draw such enrolments with --allow_missing true"
            )
        if entries and len(entries) < self.options.number:
            raise UserError(
                f"{listed.path if listed else ''}: names {len(entries)} enrolment(s) for speaker {number} of "
                f"'{mixture.name}', but --num_enrollments is {self.options.number}; give a smaller number"
            )
        chosen: list[Recording] = []
        events: set[str] = set()
        for position in range(self.options.number):
            one = self._listed(mixture, number, entries[position], listed, events) if entries and listed else None
            if one is None:
                if listed and not entries:
                    events.add("missing_replaced")
                # Of the kind that the list has.
                whole = self.options.name != "but" and not (entries and self._is_source(entries[position]))
                one = self._draw(mixture, number, chosen, whole)
            if one is not None:
                chosen.append(one)
        if len(chosen) < self.options.number:
            events.add("fewer_enrollments")
        for event in events if counted else ():
            self._counts[event] += 1
        return chosen

    def _is_source(self, entry: str) -> bool:
        return self.options.name != "full" and re.fullmatch(r"s[1-9]/.+", entry) is not None

    def _listed(
        self, mixture: Mixture, number: int, entry: str, listed: EnrolmentList, events: set[str]
    ) -> Recording | None:
        """Return the recording that a list names, or None if another is to be drawn for it."""
        target, speaker = mixture.utterances[number - 1], mixture.speakers[number - 1]
        one = self._resolve(entry, mixture)
        other = one.utterance.split("-")[0]
        # The name of a file from elsewhere need not tell the speaker.
        if other != speaker and (other in self._speakers or re.fullmatch(r"\d+-\d+-\d+", one.utterance)):
            raise UserError(
                f"{listed.path}: '{entry}' is of speaker {other}, but speaker {number} of "
                f"'{mixture.name}' is {speaker}; correct the list"
            )
        own = str(self.tree.audio(mixture.subset, f"s{number}", mixture.name).absolute())
        if one.utterance == target or one.path == own:
            events.add("leaks")
            if one.path == own or entry == f"s{number}/{mixture.name}":
                events.add("leaks_identical")
            if not self.options.raw:
                events.add("leaks_replaced")
                return None
        if not one.path or not Path(one.path).is_file():
            if not self.options.allow_missing:
                raise UserError(
                    f"{listed.path}: names '{entry}' for speaker {number} of '{mixture.name}', but "
                    f"{one.path or 'that recording in --librispeech'} is not there; complete the corpus, or draw another "
                    "recording in such rows with --allow_missing true"
                )
            events.add("missing_replaced")
            return None
        return one

    def _resolve(self, entry: str, mixture: Mixture) -> Recording:
        """Return the recording that ``entry`` of a list names; its path is empty if it is in no pool."""
        source = re.fullmatch(r"s([1-9])/(.+?)(\.wav)?", entry)
        if source:
            position = int(source[1]) - 1
            utterances = source[2].split("_")
            utterance = utterances[position] if position < len(utterances) else ""
            if self._is_source(entry):
                path = self.tree.audio(mixture.subset, f"s{position + 1}", source[2])
                return Recording(utterance, str(path.absolute()), source=True)
            return Recording(utterance, self._paths.get(utterance, ""))
        if Path(entry).suffix.lower() in (".wav", ".flac"):
            inside = self.librispeech / entry if self.librispeech is not None else Path(entry)
            path = inside if inside.is_file() else Path(entry)
            utterance = enrolled_utterance(entry)
            # A file may be called after the mixture; then its name does not tell its utterance.
            return Recording("" if utterance == mixture.name else utterance, str(path.absolute()))
        return Recording(entry, self._paths.get(entry, ""))

    def _draw(self, mixture: Mixture, number: int, chosen: Sequence[Recording], whole: bool) -> Recording | None:
        """Return another recording of the speaker, or None if there is none."""
        target, speaker = mixture.utterances[number - 1], mixture.speakers[number - 1]
        pool = (self.pool if whole else self._sources).get(speaker, [])
        taken = {target, *(one.utterance for one in chosen)}
        others = [(utterance, path) for utterance, path in pool if utterance not in taken]
        if not others:
            return None
        draw = f"enrolment {self.options.seed} {mixture.name} {number}" + (f" {len(chosen)}" if chosen else "")
        utterance, path = random.Random(draw).choice(others)
        return Recording(utterance, path, source=not whole)


def enrolment_files(
    enrolments: Mapping[tuple[str, int], Sequence[Recording]], folder: str | Path, num_jobs: int = 1
) -> dict[tuple[str, int], str]:
    """Return the file of each enrolment; several recordings are joined into one file below ``folder``.

    Raises:
        UserError: If recordings cannot be read, or differ in their sampling rate.
    """
    files: dict[tuple[str, int], str] = {}
    jobs: dict[str, tuple[str, ...]] = {}
    for key, recordings in enrolments.items():
        paths = tuple(one.path for one in recordings)
        files[key] = paths[0]
        if len(paths) > 1:
            states = [(path, Path(path).stat().st_size, Path(path).stat().st_mtime_ns) for path in paths]
            digest = hashlib.sha256(repr(states).encode()).hexdigest()[:8]
            # The name begins with the speaker's, as an utterance's does.
            name = "+".join(one.utterance or Path(one.path).stem for one in recordings)[:150]
            target = Path(folder).absolute() / f"{name}-{digest}.wav"
            files[key] = str(target)
            jobs[str(target)] = paths
    for _ in map_jobs(_join, list(jobs.items()), num_jobs, f"joining enrolments in {folder}"):
        pass
    return files


def _join(job: tuple[str, tuple[str, ...]]) -> None:
    target, paths = job
    if Path(target).exists():
        return
    rates, pieces = set(), []
    for path in paths:
        samples, rate = read_audio(path)
        rates.add(rate)
        pieces.append(samples)
    if len(rates) > 1:
        raise UserError(f"{', '.join(paths)}: have different sampling rates; they cannot be joined into one enrolment")
    write_audio(target, np.concatenate(pieces), rates.pop())
