"""Which recordings enrol for the targets of an evaluation set: a list is applied, or recordings are drawn.

An enrolment that is the target utterance itself ("leak") would give the answer away. Published lists hold some; they
are replaced, by a seeded choice among the speaker's other recordings, unless the list is wanted as it is.
"""

import functools
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from espnet_tse_gen.audio.files import AUDIO_SUFFIXES, read_audio
from espnet_tse_gen.audio.writing import full_scale_factor, write_audio
from espnet_tse_gen.data.datadir import Pool
from espnet_tse_gen.data.enrolment.lists import EnrolmentList, EnrolmentOptions, list_file, read_list
from espnet_tse_gen.data.enrolment.protocol import Protocol
from espnet_tse_gen.data.librimix.layout import Mixture, MixtureTree, Talker, talkers_of
from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.parallel import map_jobs
from espnet_tse_gen.utils.state import state_of


def tree_pool(tree: MixtureTree, mixtures: Sequence[Mixture]) -> Pool:
    """Return the sources of ``mixtures``, each utterance once, for use where LibriSpeech itself is not at hand."""
    found: dict[str, dict[str, str]] = {}
    for mixture in mixtures:
        for number, who in enumerate(mixture.talkers, 1):
            path = tree.audio(mixture.subset, f"s{number}", mixture.name)
            found.setdefault(who.speaker, {}).setdefault(who.utterance, str(path.absolute()))
    return {speaker: sorted(utterances.items()) for speaker, utterances in found.items()}


class EnrolmentChooser:
    """Chooses the enrolments of one evaluation set."""

    def __init__(
        self,
        tree: MixtureTree,  # the mixtures' tree
        mixtures: Sequence[Mixture],  # all mixtures of the set
        pool: Pool,  # the speakers' recordings to draw from: LibriSpeech's, or where that is not at hand the tree's
        options: EnrolmentOptions,
        mix_type: str = "mix_clean",
        librispeech: str | Path | None = None,  # folder that the files in a list are relative to
        number_of_speakers: int = 2,  # how many speakers of a mixture need an enrolment
    ) -> None:
        self.tree, self.mixtures, self.pool, self.options = tree, mixtures, pool, options
        self.mix_type, self.librispeech = mix_type, Path(librispeech or "")
        self.numbers = range(1, number_of_speakers + 1)
        self.targets = range(1, 2) if options.only_first else self.numbers
        self._talkers = {mixture.name: mixture.talkers for mixture in mixtures}
        self._paths = {utterance: path for own in pool.values() for utterance, path in own}
        self._speakers = {utterance: speaker for speaker, own in pool.items() for utterance, _ in own}
        self._speakers |= {one.utterance: one.speaker for talkers in self._talkers.values() for one in talkers}
        self.lists: dict[str, EnrolmentList] = {}
        for subset in sorted({mixture.subset for mixture in mixtures}):
            own = {one.name: [who.utterance for who in one.talkers] for one in mixtures if one.subset == subset}
            if path := list_file(options, subset, len(next(iter(own.values())))):
                self.lists[subset] = read_list(path, own)

    @functools.cached_property
    def _sources(self) -> Pool:
        return tree_pool(self.tree, self.mixtures)

    def choose(self) -> tuple[list[Mixture], dict[tuple[str, int], list[Talker]], Protocol]:
        """Return the mixtures that have enrolments, these by mixture and number of the speaker from 1, and the protocol.

        A mixture of which a speaker has no other recording is left out, and counts nowhere. A list that lacks a target or a
        recording (unless that is allowed), or has one of another speaker, is a :class:`UserError`.
        """
        kept: list[Mixture] = []
        enrolments: dict[tuple[str, int], list[Talker]] = {}
        counts: Counter[str] = Counter()
        for mixture in self.mixtures:
            rows = {number: self._row(mixture, number) for number in self.numbers}
            if all(chosen for chosen, _ in rows.values()):
                kept.append(mixture)
                for number, (chosen, events) in rows.items():
                    enrolments[mixture.name, number] = chosen
                    counts.update(events if number in self.targets else ())
        digests = [one.sha256 for one in self.lists.values()]
        protocol = Protocol(
            enroll_list=self.options.title,
            enroll_list_sha256=",".join(digests) or "-",
            enroll_list_raw=self.options.enroll_list_raw and bool(digests),
            targets="first" if self.options.only_first else "all",
            mixtures=len(kept),
            target_rows=len(kept) * len(self.targets),
            left_out=len(self.mixtures) - len(kept),
            num_enrollments=self.options.num_enrollments,
            seed=self.options.seed,
            mix_type=self.mix_type,
            min_or_max=self.tree.mode,
            sample_rate=self.tree.sample_rate,
            **counts,
        )
        return kept, enrolments, protocol

    def _row(self, mixture: Mixture, number: int) -> tuple[list[Talker], set[str]]:
        """Return the enrolments of one speaker of a mixture (none if there is no other recording), and what to count."""
        listed = self.lists.get(mixture.subset)
        entries = listed.rows.get((mixture.name, number), ()) if listed else ()
        if listed and not entries and number in self.targets and not self.options.allow_missing:
            raise UserError(
                f"{listed.path}: has no line for speaker {number} of '{mixture.name}'; give a list of all targets, "
                "--targets first if it is for speaker 1 only, or draw such enrolments with --allow_missing true"
            )
        if listed and entries and len(entries) < self.options.num_enrollments:
            raise UserError(
                f"{listed.path}: names {len(entries)} enrolment(s) for speaker {number} of '{mixture.name}', but "
                f"--num_enrollments is {self.options.num_enrollments}; give a smaller number"
            )
        chosen: list[Talker] = []
        events = {"missing_replaced"} if listed and not entries else set()
        for position in range(self.options.num_enrollments):
            entry = entries[position] if entries else ""
            one = self._listed(mixture, number, entry, listed.path, events) if entry and listed else None
            if one is None:
                # Of the kind that the list has.
                source = self._is_source(entry) or self.options.enroll_list == "but"
                one = self._draw(mixture, number, chosen, self._sources if source else self.pool)
            chosen += [one] if one else []
        if len(chosen) < self.options.num_enrollments:
            events.add("fewer_enrollments")
        return chosen, events

    def _is_source(self, entry: str) -> bool:
        return self.options.enroll_list != "full" and re.fullmatch(r"s[1-9]/.+", entry) is not None

    def _listed(self, mixture: Mixture, number: int, entry: str, where: Path, events: set[str]) -> Talker | None:
        """Return the recording that a list names, or None if another is to be drawn for it."""
        target, one = mixture.talkers[number - 1], self._resolve(entry, mixture)
        if one.speaker not in ("", target.speaker):
            raise UserError(
                f"{where}: '{entry}' is of speaker {one.speaker}, but speaker {number} of '{mixture.name}' is "
                f"{target.speaker}; correct the list"
            )
        own = str(self.tree.audio(mixture.subset, f"s{number}", mixture.name).absolute())
        if one.utterance == target.utterance or one.path == own:
            identical = one.path == own or entry == f"s{number}/{mixture.name}"
            events |= {"leaks"} | ({"leaks_identical"} if identical else set())
            if not self.options.enroll_list_raw:
                events.add("leaks_replaced")
                return None
        if not one.path or not Path(one.path).is_file():
            if not self.options.allow_missing:
                raise UserError(
                    f"{where}: names '{entry}' for speaker {number} of '{mixture.name}', but "
                    f"{one.path or 'that recording in --librispeech'} is not there; complete the corpus, or draw another "
                    "recording in such rows with --allow_missing true"
                )
            events.add("missing_replaced")
            return None
        return one

    def _resolve(self, entry: str, mixture: Mixture) -> Talker:
        """Return the recording that ``entry`` of a list names."""
        path = ""
        if source := re.fullmatch(r"s([1-9])/(.+?)(\.wav)?", entry):
            name, position = source[2], int(source[1])
            who = self._talker(name, position)
            if self._is_source(entry):
                path = str(self.tree.audio(mixture.subset, f"s{position}", name).absolute())
        elif Path(entry).suffix.lower() in AUDIO_SUFFIXES:
            file = self.librispeech / entry if (self.librispeech / entry).is_file() else Path(entry)
            path, folder = str(file.absolute()), re.fullmatch(r"s([1-9])", file.parent.name)
            if folder and file.stem not in self._speakers:
                who = self._talker(file.stem, int(folder[1]))
            else:
                # A file may be called after the mixture; then its name does not tell its utterance.
                who = self._known(file.stem if file.stem != mixture.name else "")
        else:
            who = self._known(entry)
        return who._replace(path=path or self._paths.get(who.utterance, ""))

    def _talker(self, name: str, position: int) -> Talker:
        talkers = self._talkers.get(name) or talkers_of(name, self._speakers)
        return talkers[position - 1] if position <= len(talkers) else Talker("", "")

    def _known(self, utterance: str) -> Talker:
        # The name of a recording from elsewhere need not tell the speaker, unless it is LibriSpeech's.
        told = re.fullmatch(r"(\d+)-\d+-\d+", utterance)
        return Talker(self._speakers.get(utterance, told[1] if told else ""), utterance)

    def _draw(self, mixture: Mixture, number: int, chosen: Sequence[Talker], pool: Pool) -> Talker | None:
        """Return another recording of the speaker, or None if there is none."""
        target = mixture.talkers[number - 1]
        taken = {one.utterance for one in (target, *chosen)}
        others = [one for one in pool.get(target.speaker, []) if one[0] not in taken]
        draw = f"enrolment {self.options.seed} {mixture.name} {number}" + (f" {len(chosen)}" if chosen else "")
        return Talker(target.speaker, *random.Random(draw).choice(others)) if others else None


def enrolment_files(
    enrolments: Mapping[tuple[str, int], Sequence[Talker]], folder: str | Path, num_jobs: int = 1
) -> dict[tuple[str, int], str]:
    """Return the file of each enrolment; several recordings, of one sampling rate, are joined into one file below ``folder``."""
    files: dict[tuple[str, int], str] = {}
    jobs: dict[str, tuple[str, ...]] = {}
    for key, recordings in enrolments.items():
        paths = tuple(one.path for one in recordings)
        files[key] = paths[0]
        if len(paths) > 1:
            digest = state_of(files=paths)[:8]
            # The name begins with the speaker's, as an utterance's does.
            name = "+".join(one.utterance or Path(one.path).stem for one in recordings)[:150]
            files[key] = str(Path(folder).absolute() / f"{name}-{digest}.wav")
            jobs[files[key]] = paths
    list(map_jobs(_join, list(jobs.items()), num_jobs, f"joining enrolments in {folder}"))
    return files


def _join(job: tuple[str, tuple[str, ...]]) -> None:
    target, paths = job
    if Path(target).exists():
        return
    pieces, rates = zip(*(read_audio(path) for path in paths), strict=True)
    if len(set(rates)) > 1:
        raise UserError(f"{', '.join(paths)}: have different sampling rates; they cannot be joined into one enrolment")
    samples = np.concatenate(pieces)
    write_audio(target, samples * np.float32(full_scale_factor([samples])), rates[0])
