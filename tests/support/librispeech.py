"""Small corpora in LibriSpeech's layout for the tests: tones with a noise floor, so that making them costs nothing."""

import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from espnet_tse_gen.audio.writing import write_audio

RATE = 16000
GAINS = (0.71234567, 1.9, 0.33)


def tone(seconds: float, frequency: float, seed: int = 0) -> np.ndarray:
    samples = np.arange(round(seconds * RATE))
    noise = np.random.default_rng(seed).standard_normal(len(samples))
    return (0.1 * np.sin(2 * np.pi * frequency / RATE * samples) + 0.005 * noise).astype(np.float32)


def make_corpus(root: Path, subset: str, utterances: Mapping[str, int], seconds: float = 1.5) -> None:
    """Write ``utterances[speaker]`` recordings per speaker, and SPEAKERS.TXT with odd ids male and even ids female."""
    lines = [";ID  |SEX| SUBSET           |MINUTES| NAME\n"]
    for speaker, count in utterances.items():
        for number in range(count):
            name = f"{speaker}-7-{number:04d}"
            length = seconds + 0.1 * number + 0.01 * (int(speaker) % 10)
            samples = tone(length, 100 + 10 * int(speaker) % 400, seed=int(speaker) * 100 + number)
            write_audio(root / subset / speaker / "7" / f"{name}.flac", samples, RATE)
        lines.append(f"{speaker} | {'FM'[int(speaker) % 2]} | {subset} | 1.00 | Nobody\n")
    with open(root / "SPEAKERS.TXT", "a", encoding="utf-8") as stream:
        stream.writelines(lines)


def write_mixtures(path: Path, mixtures: Sequence[Sequence[str]], noises: Sequence[str] = ()) -> None:
    """Write LibriMix metadata ``libri*mix_SUBSET.csv`` of mixtures of utterances SPEAKER-CHAPTER-NUMBER, and noises."""
    subset, lines = path.stem.partition("mix_")[2], []
    for utterances, noise in itertools.zip_longest(mixtures, noises, fillvalue=""):
        places = [f"{subset}/{'/'.join(one.split('-')[:2])}/{one}.flac" for one in utterances]
        sources = [f"{place},{gain}" for place, gain in zip(places, GAINS, strict=False)]
        lines.append(",".join(["_".join(utterances), *sources, noise, "1.31" if noise else ""]))
    columns = [f"source_{k}_{kind}" for k in range(1, len(mixtures[0]) + 1) for kind in ("path", "gain")]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([",".join(["mixture_ID", *columns, "noise_path", "noise_gain"]), *lines]) + "\n")


def enrolled_utterance(path: str) -> str:
    """The utterance that an enrolment holds: a file's name, or the n-th part of ``s{n}/UTT1_UTT2.wav``."""
    folder, name = Path(path).parts[-2:]
    return name.split(".")[0].split("_")[int(folder[1]) - 1] if re.match(r"s[1-9](-|$)", folder) else Path(path).stem
