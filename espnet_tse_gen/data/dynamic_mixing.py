"""Dynamic mixing: training items drawn on the fly from clean utterances, instead of read from mixtures on disk.

An item is a piece of the target's utterance and one of an utterance of every other talker, in rooms where that is asked for,
at drawn ratios and offsets, with or without noise, and an enrolment from another utterance of every target. All of it follows
from the seed, the epoch and the item's number in the epoch alone: not from the worker or process that makes it, nor from what
was made before. So a training that is resumed, or given more workers or GPUs, sees the same data.

    mixer = DynamicMixer(read_sources("data/wav.scp", "data/utt2spk"), MixingOptions(sir_db=5.0), rate=16000, samples=64000)
    item = mixer.draw(epoch=1, index=0)      # item.mixture == item.parts[0] + item.parts[1]
"""

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from espnet_tse_gen.audio.level import LEVEL_DBFS, mixture_gain
from espnet_tse_gen.data import degradation
from espnet_tse_gen.data.mixing_options import MixingOptions
from espnet_tse_gen.data.sources import Source, at_speeds, group_by_speaker, read_audio_list, read_piece, speaker_at
from espnet_tse_gen.utils.errors import UserError, unknown_name

# However little talkers overlap, each speaks for this share of a mixture at least.
_LEAST_SHARE = 0.1
_FADE_SECONDS = 0.01
# A piece below this power (-60 dBFS) is a pause; a few others are tried.
_AUDIBLE_POWER = 1e-6
_TRIES = 5
# Places to choose from in a recording that is silent for the most part.
_PLACES = 200
# Enough for a tilt, a resonance or a dip of a few hundred mel; the harmonics of a voice are finer.
_FILTER_POINTS = 9
# One stream of random numbers for each purpose.
_ITEM, _SPEAKERS, _UTTERANCES, _EQUALIZATION, _DEGRADATION = 1, 2, 3, 4, 5


@dataclass(frozen=True)
class Piece:
    """A part of a recording: ``samples`` from sample ``start``, at the rate of the mixtures."""

    source: Source
    start: int
    samples: int


@dataclass(frozen=True, eq=False)
class DrawnTarget:
    """One target of an item, all of it float32 at the mixer's rate."""

    speech: np.ndarray  # `[L]`: what it says in the mixture; zero where it is absent
    enroll: np.ndarray  # `[Le]`, at the common level
    present: bool  # whether it speaks
    enroll_piece: Piece  # what was read for `enroll`


@dataclass(frozen=True, eq=False)
class DrawnMixture:
    """One item, all of it float32 at the mixer's rate, and how it was made."""

    mixture: np.ndarray  # `[L]`: the sum of `parts` (and `noise`), in this order; coded, where coding was drawn
    parts: list[np.ndarray]  # `[L]` each: the talkers as they are in it, the first target first where it speaks
    noise: np.ndarray | None  # `[L]`
    targets: list[DrawnTarget]  # one or more
    pieces: list[Piece]  # what was read for `parts`
    spans: list[tuple[int, int]]  # first sample of each talker in the mixture, and the one after the last
    sir_db: list[float]  # drawn ratios of the first talker to each other one
    snr_db: float | None  # drawn ratio of speech to noise


class SilentError(UserError):
    """A recording has no sound where a mixture or an enrolment needs some."""


class DynamicMixer:
    """Draws training items.

    Speakers are the target in turn, in an order drawn for every round, and so are the utterances of a speaker: nobody is
    the target twice before everybody was once. The other talkers are drawn freely. Too few speakers are a :class:`UserError`.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        options: MixingOptions,
        rate: int,  # sampling rate of what is drawn, Hz
        samples: int,  # length of a mixture; it is shorter where an utterance is too short for it
        # shortest and longest enrolment; an utterance that is shorter serves whole
        enroll_seconds: tuple[float, float] = (2.0, 6.0),
        talkers: int = 2,  # speakers in a mixture
        level_dbfs: float = LEVEL_DBFS,  # the common level
        band_rate: int = 0,  # of the recordings that the model is for, if lower than `rate`: nothing above half of it is left
        seed: int = 0,  # everything follows from it
        items_per_epoch: int = 0,  # number of items that make an epoch; 0 takes the number of usable utterances
        where: str = "the sources",  # what messages call the sources
    ) -> None:
        if samples < 1:
            raise UserError("preprocessor_conf: crop_seconds: dynamic mixing needs a mixture's length; give one")
        self.options, self.rate, self.samples, self.talkers = options, rate, samples, talkers
        self.enroll_seconds, self.level_dbfs, self.band_rate, self.seed = enroll_seconds, level_dbfs, band_rate, seed
        played = at_speeds(sources, options.speeds)
        usable = [source for source in played if source.seconds >= options.min_seconds]
        self.given, self.usable = len(played), group_by_speaker(usable)
        self.speakers = list(self.usable)
        # Who a speaker at a speed is.
        self._persons = {speaker_at(one.speaker, speed): one.speaker for one in sources for speed in options.speeds}
        enough = options.min_seconds + enroll_seconds[0] if options.single_utterance == "cut" else float("inf")
        self.targets = [name for name, own in self.usable.items() if len(own) > 1 or own[0].seconds >= enough]
        self.items_per_epoch = items_per_epoch or len(usable)
        self._collection_of = {speaker: own[0].collection for speaker, own in self.usable.items()}
        for name in options.collections or ():
            if name not in {self._collection_of[speaker] for speaker in self.targets}:
                known = sorted(set(self._collection_of.values()) - {""})
                raise unknown_name(f"collection (--dynamic_mixing_conf collections) of {where}", name, known)
        # Whoever may be drawn as a further target must be one that can be enrolled.
        self.others = self.targets if options.targets > 1 else self.speakers
        if options.collections is not None:
            self.others = [one for one in self.others if self._collection_of[one] in options.collections]
        needed = max(2, talkers + (options.absent_share > 0) + (options.crowd_share > 0), options.targets)
        persons = len({self._persons[speaker] for speaker in self.others})
        if persons < needed or not self.targets:
            raise UserError(
                f"{where}: {persons} speaker(s) with utterances of {options.min_seconds:g} s or more, {len(self.targets)} of "
                f"whom can be enrolled; expected at least {needed} and 1: add speakers, or lower dynamic_mixing_conf min_seconds"
            )
        self._told: set[str] = set()
        self.noises = read_audio_list(options.noise, "--dynamic_mixing_conf noise") if options.noise else []
        recorded = options.reverb if options.reverb != "synthetic" else None
        self.responses = read_audio_list(recorded, "--dynamic_mixing_conf reverb") if recorded else []

    def __repr__(self) -> str:
        """Return what it draws from, in one line."""
        utterances = f"{sum(map(len, self.usable.values()))} of {self.given} utterances"
        speakers = f"{len(self.speakers)} speakers, {len(self.targets)} of them as targets"
        return f"DynamicMixer({utterances}, {speakers}, {len(self.noises)} noises, seed {self.seed}, {self.options})"

    def draw(self, epoch: int, index: int) -> DrawnMixture:
        """Return item ``index`` (from 0) of ``epoch`` (from 1); always the same.

        Where a recording is digital silence, but for a moment too short for what is wanted of it, another item is drawn: one
        recording of thousands must not end a training. It is named once. A recording that cannot be read, or items one after the
        other of nothing but digital silence, are a :class:`UserError`.
        """
        for attempt in range(_TRIES):
            try:
                return self._draw(epoch, index, attempt)
            except SilentError as error:
                silent = error
                if str(error) not in self._told:
                    self._told.add(str(error))
                    logging.warning("%s; drawing another", error)
        raise silent

    def _draw(self, epoch: int, index: int, attempt: int) -> DrawnMixture:
        options, rng = self.options, self._rng(_ITEM, epoch, index, *[attempt] * (attempt > 0))
        turn = (epoch - 1) * self.items_per_epoch + index + attempt
        utterance = self._by_share(rng) if options.collections else self._in_turn(turn)
        present = bool(rng.random() >= options.absent_share)
        spoken = self._spoken(rng, utterance, present)
        # Each target's utterance, and its place among the talkers where it is one of them.
        enrolled: list[tuple[Source, int | None]] = [(utterance, 0 if present else None)]
        enrolled += [(source, place) for place, source in enumerate(spoken) if source is not utterance]
        known = [utterance.speaker, *(source.speaker for source in spoken)]
        absent = self._others(rng, known, options.targets - len(enrolled), self.others)
        enrolled = [*enrolled, *((source, None) for source in absent)][: options.targets]

        # The enrolment of somebody with one utterance is cut from it, apart from what is in the mixture.
        apart = {place for source, place in enrolled if place is not None and len(self.usable[source.speaker]) == 1}
        least = round(self.enroll_seconds[0] * self.rate)
        available = [self._length(source) - (least if place in apart else 0) for place, source in enumerate(spoken)]
        shares = self._layout(rng, len(spoken))
        rooms = list(zip(available, shares, strict=True))
        length = min(self.samples, *(int(room / (end - start)) for room, (start, end) in rooms))
        begins = [int(start * length) for start, _ in shares]
        spans = [
            (first, min(int(end * length), first + room)) for first, (room, (_, end)) in zip(begins, rooms, strict=True)
        ]

        read = []
        for place, (source, (first, last)) in enumerate(zip(spoken, spans, strict=True)):
            wanted = (rng, source, last - first)
            read.append(self._apart(*wanted, self._enroll_length(rng)) if place in apart else [self._anywhere(*wanted)])
        enrolments = [
            read[place][1] if place is not None and place in apart else self._enrolment(rng, source, place is not None)
            for source, place in enrolled
        ]
        pieces, heard = map(list, zip(*(found[0] for found in read), strict=True))
        enrolls = [samples for _, samples in enrolments]
        if options.equalize_db > 0:
            # Every recording through a filter of its own, drawn apart from all else in the item.
            filters, most = self._rng(_EQUALIZATION, epoch, index), options.equalize_db
            heard, enrolls = (
                [degradation.equalize(one, self.rate, filters.uniform(-most, most, _FILTER_POINTS)) for one in several]
                for several in (heard, enrolls)
            )
        if options.reverb and rng.random() < options.reverb_share:
            room = (self.rate, options.rt60, options.drr_db, self.responses)
            responses = degradation.draw_room(rng, len(heard), *room)
            heard = [degradation.reverberate(*each) for each in zip(heard, responses, strict=True)]
        sir_db = [float(rng.uniform(-options.sir_db, options.sir_db)) for _ in heard[1:]]
        scale = [10.0 ** (-ratio / 20.0) for ratio in (0.0, *sir_db)]
        noise, snr_db = self._noise(rng, length)

        images = [self._place(*each, length) for each in zip(heard, spans, scale, strict=True)]
        degrading = self._rng(_DEGRADATION, epoch, index)
        if degrading.random() < options.band_share:
            band = degradation.draw_band(degrading)
            images = [degradation.limit_band(image, self.rate, band) for image in images]
            noise = degradation.limit_band(noise, self.rate, band) if noise is not None else None
        speech = functools.reduce(np.add, images)
        noise_scale = 0.0
        if noise is not None:
            noise_scale = np.sqrt(_power(speech) / _power(noise)) * 10.0 ** (-snr_db / 20.0)
            speech = speech + noise * np.float32(noise_scale)
        gain = mixture_gain(speech, self.level_dbfs) * 10.0 ** (rng.uniform(-options.gain_db, options.gain_db) / 20.0)
        parts = [image * np.float32(gain) for image in images]
        # In order, so that whoever adds them again gets the same numbers.
        mixture = functools.reduce(np.add, parts)
        if noise is not None:
            noise = noise * np.float32(noise_scale * gain)
            mixture = mixture + noise
        if degrading.random() < options.coding_share:
            mixture = degradation.code_lossy(mixture, self.rate, degrading)
        silence = np.zeros_like(mixture)
        targets = []
        for (_, where), (piece, _), enroll in zip(enrolled, enrolments, enrolls, strict=True):
            speech = silence if where is None else parts[where]
            targets.append(DrawnTarget(speech, self._degraded(enroll, degrading), where is not None, piece))
        return DrawnMixture(mixture, parts, noise, targets, pieces, spans, sir_db, None if noise is None else snr_db)

    def _spoken(self, rng: np.random.Generator, utterance: Source, present: bool) -> list[Source]:
        """Draw the talkers' utterances, the first target's first where it is present."""
        number, options = rng.random(), self.options
        alone, crowd = number < options.alone_share, number >= 1.0 - options.crowd_share
        talkers = 1 if alone else self.talkers + crowd
        own, pool = [utterance] if present else [], self.others
        if options.collection_share > 0 and rng.random() < options.collection_share:
            alike = self._of_collection(utterance.collection, self.others)
            # Of a small collection, there may be too few.
            if len({self._persons[speaker] for speaker in alike} - {self._persons[utterance.speaker]}) >= talkers:
                pool = alike
        return [*own, *self._others(rng, [utterance.speaker], talkers - len(own), pool)]

    def _enroll_length(self, rng: np.random.Generator) -> int:
        return round(rng.uniform(*self.enroll_seconds) * self.rate)

    def _enrolment(self, rng: np.random.Generator, source: Source, speaks: bool) -> tuple[Piece, np.ndarray]:
        """Draw an enrolment of ``source``'s speaker, from another utterance where ``source`` is in the mixture."""
        own = [one for one in self.usable[source.speaker] if not speaks or one is not source]
        other, wanted = own[int(rng.integers(len(own)))], self._enroll_length(rng)
        return self._anywhere(rng, other, min(wanted, self._length(other)))

    def _degraded(self, enroll: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return an enrolment at the common level, in a drawn band or coded where that is drawn."""
        if rng.random() < self.options.band_share:
            enroll = degradation.limit_band(enroll, self.rate, degradation.draw_band(rng))
        enroll = enroll * np.float32(mixture_gain(enroll, self.level_dbfs))
        return degradation.code_lossy(enroll, self.rate, rng) if rng.random() < self.options.coding_share else enroll

    def _rng(self, purpose: int, *numbers: int) -> np.random.Generator:
        return np.random.default_rng([purpose, self.seed, *numbers])

    def _length(self, source: Source) -> int:
        return int(source.seconds * self.rate)

    def _in_turn(self, turn: int) -> Source:
        """Return the target utterance of the ``turn``-th item since the training began."""
        lap, place = divmod(turn, len(self.targets))
        number = int(self._rng(_SPEAKERS, lap).permutation(len(self.targets))[place])
        own = self.usable[self.targets[number]]
        lap, place = divmod(lap, len(own))
        return own[int(self._rng(_UTTERANCES, number, lap).permutation(len(own))[place])]

    def _of_collection(self, name: str, speakers: Sequence[str]) -> list[str]:
        return [speaker for speaker in speakers if self._collection_of[speaker] == name]

    def _by_share(self, rng: np.random.Generator) -> Source:
        """Draw a target utterance by the shares of the collections."""
        shares = self.options.collections or {}
        weights = np.array([*shares.values()], dtype=np.float64)
        own = self._of_collection([*shares][int(rng.choice(len(weights), p=weights / weights.sum()))], self.targets)
        # Between all speakers alike and all utterances alike.
        amounts = np.sqrt([len(self.usable[speaker]) for speaker in own])
        spoken = self.usable[own[int(rng.choice(len(own), p=amounts / amounts.sum()))]]
        return spoken[int(rng.integers(len(spoken)))]

    def _others(self, rng: np.random.Generator, known: Sequence[str], count: int, pool: Sequence[str]) -> list[Source]:
        """Draw an utterance each of ``count`` different people of ``pool`` who are not among the speakers ``known``."""
        if count < 1:
            return []
        drawn = {self._persons[speaker]: speaker for speaker in known}
        first = len(drawn)
        # Enough for the known ones to be among them, and everybody at all speeds.
        enough = min((count + first) * len(self.options.speeds), len(pool))
        for number in rng.choice(len(pool), enough, replace=False):
            drawn.setdefault(self._persons[pool[number]], pool[number])
        chosen = [self.usable[speaker] for speaker in list(drawn.values())[first : first + count]]
        return [own[int(rng.integers(len(own)))] for own in chosen]

    def _layout(self, rng: np.random.Generator, count: int) -> list[tuple[float, float]]:
        """Draw when each talker speaks, as shares of the mixture."""
        if count == 1:
            return [(0.0, 1.0)]
        overlap = rng.uniform(*self.options.overlap)
        start = rng.uniform(max(0.0, _LEAST_SHARE - overlap), min(1.0 - overlap, 1.0 - _LEAST_SHARE))
        early = rng.random(count) < 0.5
        begins, ends = rng.choice(count, 2, replace=False)
        early[begins], early[ends] = True, False
        return [(0.0, min(1.0, start + overlap)) if first else (start, 1.0) for first in early]

    def _read(self, piece: Piece) -> np.ndarray:
        return read_piece(piece.source, piece.start / self.rate, piece.samples, self.rate, band_rate=self.band_rate)

    def _audible(self, source: Source, propose: Callable[[], list[Piece]]) -> list[tuple[Piece, np.ndarray]]:
        """Read the pieces of ``source`` that ``propose`` draws, trying again where one is a pause."""
        for _ in range(_TRIES):
            read = [(piece, self._read(piece)) for piece in propose()]
            if min(_power(heard) for _, heard in read) > _AUDIBLE_POWER:
                return read
        # Much of the recording is silence, or all of it is faint: read as a whole, it shows where to look.
        whole = self._read(Piece(source, 0, self._length(source)))
        energy = np.concatenate([[0.0], np.cumsum(np.square(whole, dtype=np.float64))])
        ends = [[(piece.start, piece.start + piece.samples) for piece in propose()] for _ in range(_PLACES)]
        best = max(ends, key=lambda pieces: min(energy[end] - energy[start] for start, end in pieces))
        if not all(whole[start:end].any() for start, end in best):
            raise SilentError(f"{source.path} (key '{source.name}'): is digital silence, but for a moment; remove it")
        return [(Piece(source, start, end - start), whole[start:end]) for start, end in best]

    def _anywhere(self, rng: np.random.Generator, source: Source, samples: int) -> tuple[Piece, np.ndarray]:
        """Draw and read one piece."""
        free = self._length(source) - samples
        return self._audible(source, lambda: [Piece(source, int(rng.integers(free + 1)), samples)])[0]

    def _apart(
        self, rng: np.random.Generator, source: Source, samples: int, wanted: int
    ) -> list[tuple[Piece, np.ndarray]]:
        """Draw and read a piece for the mixture and one for the enrolment that do not overlap."""
        enrolment = min(wanted, self._length(source) - samples)
        free = self._length(source) - samples - enrolment

        def propose() -> list[Piece]:
            first, second = (int(place) for place in np.sort(rng.integers(free + 1, size=2)))
            if rng.random() < 0.5:
                return [Piece(source, first, samples), Piece(source, second + samples, enrolment)]
            return [Piece(source, second + enrolment, samples), Piece(source, first, enrolment)]

        return self._audible(source, propose)

    def _noise(self, rng: np.random.Generator, samples: int) -> tuple[np.ndarray | None, float]:
        """Draw a piece of noise and its ratio; None for an item without, or where only silence was found."""
        if not self.noises or rng.random() >= self.options.noise_share:
            return None, 0.0
        snr_db = float(rng.uniform(*self.options.noise_snr_db))
        for _ in range(_TRIES):
            source = self.noises[int(rng.integers(len(self.noises)))]
            size = max(1, min(self._length(source), samples))
            start = int(rng.integers(max(0, self._length(source) - size) + 1)) / self.rate
            noise = read_piece(source, start, size, self.rate, band_rate=self.band_rate, first_channel=True)
            # A short one is repeated, from a drawn place.
            offset = int(rng.integers(size)) if size < samples else 0
            noise = np.take(noise, np.arange(offset, offset + samples), mode="wrap")
            if _power(noise) > 0:
                return noise, snr_db
        return None, 0.0

    def _place(self, samples: np.ndarray, span: tuple[int, int], scale: float, length: int) -> np.ndarray:
        """Return ``samples`` at their place in a mixture, with ``scale`` squared as their mean power."""
        start, end = span
        fade = min(round(_FADE_SECONDS * self.rate), len(samples) // 2)
        rise = (0.5 - 0.5 * np.cos(np.pi * (np.arange(fade) + 0.5) / max(1, fade))).astype(np.float32)
        samples = samples.copy()
        if start > 0:
            samples[:fade] *= rise
        if end < length:
            samples[len(samples) - fade :] *= rise[::-1]
        image = np.zeros(length, dtype=np.float32)
        image[start:end] = samples * np.float32(scale / np.sqrt(_power(samples)))
        return image


def _power(samples: np.ndarray) -> float:
    # NumPy sums pairwise, in a fixed order: exact enough, and the same whatever the number of threads.
    return float(np.sum(samples * samples)) / len(samples)
