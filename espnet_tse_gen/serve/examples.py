"""Recordings that a page can be tried with: real voices that ship with the package, mixed when they are asked for."""

from itertools import islice
from pathlib import Path

import numpy as np

from espnet_tse_gen.audio.files import read_audio
from espnet_tse_gen.audio.level import mixture_gain
from espnet_tse_gen.data.corpus import SPEECH, list_utterances

SUBSET = "test-other"
"""Speakers whom no model that ships was trained on."""
MOST = 3

Recording = tuple[int, np.ndarray]
"""Rate in Hz, and samples, int16 ``[L]``."""


def example_speakers() -> dict[str, list[Path]]:
    """Return speaker -> recordings of the targets, one target for each example; none where no two speakers ship."""
    by_speaker: dict[str, list[Path]] = {}
    for utterance in list_utterances(SPEECH, SUBSET) if (SPEECH / SUBSET).is_dir() else ():
        by_speaker.setdefault(utterance.speaker, []).append(utterance.path)
    return dict(islice(by_speaker.items(), MOST)) if len(by_speaker) > 1 else {}


def make_example(number: int) -> tuple[Recording, Recording]:
    """Return mixture and enrolment of an example: its target and the next speaker, as loud as each other."""
    speakers = list(example_speakers().values())
    (mixed, enroll, *_), (other, *_) = speakers[number], speakers[(number + 1) % len(speakers)]
    (first, rate), (second, _), (alone, _) = (read_audio(path) for path in (mixed, other, enroll))
    size = min(len(first), len(second))
    voices = [samples * np.float32(mixture_gain(samples)) for samples in (first[:size], second[:size], alone)]
    as_int16 = [np.rint(32767 * samples.clip(-1, 1)).astype(np.int16) for samples in (voices[0] + voices[1], voices[2])]
    return (rate, as_int16[0]), (rate, as_int16[1])
