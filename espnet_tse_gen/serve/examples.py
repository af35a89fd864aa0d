"""Recordings that a page can be tried with: real voices that ship with the package, mixed when they are asked for."""

from pathlib import Path

import numpy as np

from espnet_tse_gen.audio.files import read_audio
from espnet_tse_gen.audio.level import mixture_gain
from espnet_tse_gen.data.sources import AUDIO_SUFFIXES

SPEECH = Path(__file__).resolve().parents[1] / "speech" / "test-other"
"""Speakers whom no model that ships was trained on, in LibriSpeech's layout."""
MOST = 3

Recording = tuple[int, np.ndarray]
"""Rate in Hz, and samples, int16 ``[L]``."""


def example_speakers() -> list[Path]:
    """Return the folders of the targets, one for each example; none where no two speakers ship."""
    found = sorted(path for path in SPEECH.glob("*") if path.is_dir())
    return found[:MOST] if len(found) > 1 else []


def make_example(number: int) -> tuple[Recording, Recording]:
    """Return mixture and enrolment of an example: its target and the next speaker, as loud as each other."""
    folders = example_speakers()
    (mixed, enroll), (other, *_) = (
        sorted(path for path in folder.rglob("*") if path.suffix in AUDIO_SUFFIXES)[:2]
        for folder in (folders[number], folders[(number + 1) % len(folders)])
    )
    (first, rate), (second, _), (alone, _) = (read_audio(path) for path in (mixed, other, enroll))
    size = min(len(first), len(second))
    voices = [samples * np.float32(mixture_gain(samples)) for samples in (first[:size], second[:size], alone)]
    as_int16 = [np.rint(32767 * samples.clip(-1, 1)).astype(np.int16) for samples in (voices[0] + voices[1], voices[2])]
    return (rate, as_int16[0]), (rate, as_int16[1])
