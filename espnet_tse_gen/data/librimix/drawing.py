"""Metadata in LibriMix's form, made from any corpus in LibriSpeech's layout.

A row says which two utterances are mixed and by which factor each is multiplied. As in LibriMix (Cosentino et al. 2020,
section 2.2) each source gets a loudness drawn uniformly between -33 and -25, so that their ratio is symmetric around 0
dB, and a pair that could clip is turned down together. Two liberties are taken: loudness is the RMS over active speech,
in dBFS, instead of ITU-R BS.1770, and about half of the pairs are of the same sex by construction.
"""

import csv
import random
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import numpy as np

from espnet_tse_gen.audio.files import read_audio
from espnet_tse_gen.data.corpus import Utterance, list_utterances, read_speaker_sexes
from espnet_tse_gen.data.librimix.layout import read_metadata, talker_of
from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.files import atomic_write, read_csv
from espnet_tse_gen.utils.parallel import map_jobs

LOUDNESS_RANGE = (-33.0, -25.0)
MAX_PEAK = 0.9


def active_level(samples: np.ndarray, frame: int = 512) -> float:
    """Return the RMS of ``samples`` (float ``[L]``) in dBFS over the frames less than 40 dB below the loudest; silence: -inf."""
    padded = np.pad(samples.astype(np.float64), (0, -len(samples) % frame)).reshape(-1, frame)
    power = np.mean(padded**2, axis=1)
    active = power[power > power.max() * 1e-4]
    return float(10.0 * np.log10(np.mean(active))) if len(active) else float("-inf")


def _measure(utterance: Utterance) -> tuple[float, float, float]:
    samples, rate = read_audio(utterance.path, key=utterance.name)
    return active_level(samples), float(np.abs(samples).max()), len(samples) / rate


def make_metadata(
    root: str | Path,
    subsets: Mapping[str, Collection[str] | None],
    num_mixtures: int,
    seed: int = 0,
    *,
    min_seconds: float = 1.0,
    num_jobs: int = 1,
) -> list[dict[str, str]]:
    """Draw rows of ``num_mixtures`` different pairs of utterances of different speakers; their paths are relative to ``root``.

    Every speaker is drawn equally often (up to one), and a speaker's utterances in turn. The partner is of the same sex
    in half of the cases where sexes are known and there is one. ``root`` is a corpus in LibriSpeech's layout, of which
    ``subsets`` are used, and of each these speakers (``None``: all). Utterances shorter than ``min_seconds`` are left out, and
    then speakers with one, who have no other to enrol with; too few are a :class:`UserError`.
    """
    utterances = list_utterances(root, subsets)
    where = f"{root} ({', '.join(subsets)})"
    measures = dict(zip(utterances, map_jobs(_measure, utterances, num_jobs, "measuring levels"), strict=True))
    usable = [one for one in utterances if measures[one][2] >= min_seconds and np.isfinite(measures[one][0])]
    counts = Counter(one.speaker for one in usable)
    by_speaker: dict[str, list[Utterance]] = {}
    for one in usable:
        if counts[one.speaker] > 1:
            by_speaker.setdefault(one.speaker, []).append(one)
    if len(by_speaker) < 2:
        raise UserError(
            f"{where}: {len(by_speaker)} speaker(s) with 2 utterances of {min_seconds} s or more; "
            "expected at least 2 speakers"
        )

    generator = random.Random(f"mixtures {' '.join(subsets)} {seed}")
    sexes = read_speaker_sexes(root)
    next_speaker = _in_turn(sorted(by_speaker), generator)
    next_utterance = {speaker: _in_turn(own, generator) for speaker, own in by_speaker.items()}
    rows: dict[str, dict[str, str]] = {}
    misses = 0
    while len(rows) < num_mixtures:
        first = next(next_speaker)
        second = _draw_partner(first, sorted(by_speaker), sexes, generator)
        pair = [next(next_utterance[first]), next(next_utterance[second])]
        name = "_".join(one.name for one in pair)
        misses += name in rows
        if misses > 100 * num_mixtures:
            raise UserError(f"{where}: has fewer than {num_mixtures} different pairs; ask for fewer mixtures")
        if name not in rows:
            rows[name] = _row(name, pair, [measures[one] for one in pair], Path(root), generator)
    return list(rows.values())


def _in_turn(items: list, generator: random.Random) -> Iterator:
    """Yield all items in random order, again and again."""
    while True:
        yield from generator.sample(items, len(items))


def _draw_partner(first: str, speakers: list[str], sexes: dict[str, str], generator: random.Random) -> str:
    same = generator.random() < 0.5
    others = [speaker for speaker in speakers if speaker != first]
    wanted = [one for one in others if first in sexes and one in sexes and (sexes[one] == sexes[first]) == same]
    return generator.choice(wanted or others)


def _row(
    name: str, pair: list[Utterance], measures: list[tuple[float, float, float]], root: Path, generator: random.Random
) -> dict[str, str]:
    gains = [10.0 ** ((generator.uniform(*LOUDNESS_RANGE) - level) / 20.0) for level, _, _ in measures]
    # An upper bound of the mixture's peak. Both gains shrink together, which keeps their ratio.
    peak = sum(gain * peak for gain, (_, peak, _) in zip(gains, measures, strict=True))
    gains = [gain * min(1.0, MAX_PEAK / peak) for gain in gains]
    row = {"mixture_ID": name}
    for number, (utterance, gain) in enumerate(zip(pair, gains, strict=True), 1):
        row[f"source_{number}_path"] = utterance.path.relative_to(root).as_posix()
        row[f"source_{number}_gain"] = repr(gain)
    return {**row, "noise_path": "", "noise_gain": ""}


def rows_without(metadata: str | Path, speakers: Collection[str]) -> list[dict[str, str]]:
    """Return the rows of a LibriMix metadata file that mix none of ``speakers`` (by the sources' folders); none: a UserError."""
    pairs = zip(read_metadata(metadata), read_csv(metadata)[1], strict=True)
    kept = [line for row, line in pairs if not {talker_of(path).speaker for path in row.sources} & set(speakers)]
    if not kept:
        raise UserError(f"{metadata}: every mixture has one of the {len(speakers)} speakers that are left out")
    return kept


def write_metadata(path: str | Path, rows: list[dict[str, str]]) -> None:
    """Write ``rows`` as a LibriMix metadata CSV, atomically."""
    with atomic_write(path, newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
