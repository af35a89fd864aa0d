"""Stretches of clean speech with their tokens, and mixtures of two of them: what the probe is trained and judged on."""

import itertools
import random
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from espnet_tse_gen.audio.recordings import Recordings, duration
from espnet_tse_gen.codec.base import AbsCodec
from espnet_tse_gen.utils.errors import UserError

RATE = 16000
"""Hz, of the waveforms that features are made of, whatever the codec's rate."""
SEGMENT_SECONDS = 6.0
CROP_SECONDS = 2.0
SIR_DB = 5.0


@dataclass(frozen=True)
class Segment:
    """A stretch of clean speech, at most ``SEGMENT_SECONDS`` long, and its tokens."""

    key: str
    speaker: str
    wave: Tensor  # float32 `[L]` at 16 kHz, at the level at which tokens are made
    codes: Tensor  # int64 `[K, T]`


def collect_segments(
    codec: AbsCodec,
    recordings: Recordings,
    speakers: Mapping[str, str],
    max_seconds: float | None = None,
    min_seconds: float = CROP_SECONDS,
) -> list[Segment]:
    """Cut one segment out of each recording and encode it.

    Speakers take turns, so that ``max_seconds`` of audio holds as many voices as possible. Which recordings are taken,
    and where they are cut, does not depend on the codec.

    Args:
        speakers: Speaker of each recording.
        max_seconds: Audio to take; ``None`` takes a segment of every recording.
        min_seconds: Shorter recordings are left out.
    """
    turns: dict[str, list[str]] = {}
    for key in sorted(recordings):
        turns.setdefault(speakers[key], []).append(key)
    dice = random.Random(0)
    for keys in turns.values():
        dice.shuffle(keys)
    names = list(turns)
    dice.shuffle(names)
    order = itertools.chain.from_iterable(itertools.zip_longest(*(turns[name] for name in names)))
    segments: list[Segment] = []
    seconds = 0.0
    for key in filter(None, order):
        seconds_there = duration(recordings[key])
        # A tenth of a second is a whole number of samples at every usual rate.
        start = random.Random(f"0 {key}").randint(0, max(0, int(10 * (seconds_there - SEGMENT_SECONDS)))) / 10
        wave = _cut(recordings, key, RATE, start)
        if wave.shape[0] < min_seconds * RATE:
            continue
        coded = wave if codec.sample_rate == RATE else _cut(recordings, key, codec.sample_rate, start)
        codes = codec.encode(coded[None].to(codec.device)).codes[0].cpu()
        segments.append(Segment(key, speakers[key], wave, codes))
        seconds += wave.shape[0] / RATE
        if max_seconds is not None and seconds >= max_seconds:
            break
    if not segments:
        raise UserError(f"{recordings.wav_scp}: no recording has {min_seconds:g} s; the probe needs longer ones")
    return segments


def _cut(recordings: Recordings, key: str, rate: int, start: float) -> Tensor:
    samples = recordings.load(key, rate).samples
    return torch.from_numpy(samples[round(start * rate) :][: round(SEGMENT_SECONDS * rate)].copy())


def mix(target: Tensor, interferer: Tensor) -> Tensor:
    """Add ``interferer`` to ``target`` (both ``[L]``, of recordings of one level), ``SIR_DB`` lower."""
    return target + 10 ** (-SIR_DB / 20) * interferer
