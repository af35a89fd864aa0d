"""A small speech corpus in LibriSpeech's layout, spoken by espeak-ng: what the recipes run on when no corpus is at
hand.

Every voice has its own variant (glottal source and formants), accent, pitch, pitch range, speaking rate, vocal-tract
length and spectral tilt, drawn so that the voices of a sex spread evenly over each of these. The splits share no voice
and no sentence. Everything follows from the seed.

    build_corpus("downloads/mini_librispeech", num_voices=56, utterances_per_voice=25, seed=0, num_jobs=2)

makes ``{train,dev,test}-mini/SPEAKER/CHAPTER/SPEAKER-CHAPTER-NNNN.flac`` (16 kHz, mono, 16 bit) with a ``.trans.txt``
per chapter, ``SPEAKERS.TXT``, and ``corpus.json`` with the parameters and the voices.
"""

import json
import multiprocessing
import random
import shutil
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from espnet_tse_gen.audio.writing import write_audio
from espnet_tse_gen.data.espeak import EspeakEngine, variant_sexes
from espnet_tse_gen.data.grammar import draw_sentences
from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.files import atomic_write

SAMPLE_RATE = 16000
# Counted up when the same parameters would give other audio, so that an older corpus is not taken for this one.
CORPUS_VERSION = 1

ACCENTS = ("en-US", "en", "en-GB-scotland", "en-GB-x-rp", "en-GB-x-gbclan", "en-US-nyc", "en-029")
# Effects rather than voices (whisper, croak, robots, monsters, strong echo, clipping), and near copies of another variant.
_ODD_VARIANTS = {
    "whisper", "whisperf", "croak", "anikaRobot", "UniRobot", "Demonic", "Storm", "Marco", "AnxiousAndy", "Andy", "Lee",
    "steph", "steph2",
}  # fmt: skip
# (lowest, highest) per sex: pitch and pitch range in espeak-ng's units, words per minute, vocal-tract ratio (above 1 is
# shorter: formants and pitch rise), tilt in dB at the Nyquist frequency. Median pitch is then about 80-150 and 150-280
# Hz.
_RANGES: dict[str, dict[str, tuple[float, float]]] = {
    "m": {"pitch": (22, 85), "pitch_range": (25, 80), "rate": (135, 205), "tract": (0.88, 1.07), "tilt": (-6, 6)},
    "f": {"pitch": (18, 64), "pitch_range": (25, 80), "rate": (135, 205), "tract": (0.94, 1.14), "tilt": (-6, 6)},
}


@dataclass(frozen=True)
class Voice:
    """One synthetic speaker."""

    speaker: str  # its id in the corpus
    sex: str  # `m` or `f`
    variant: str  # voice variant of espeak-ng
    accent: str  # language file of espeak-ng
    pitch: float  # base pitch, 0 to 99
    pitch_range: float  # liveliness of the intonation, 0 to 99
    rate: float  # words per minute
    tract: float  # factor on all formants and on the pitch; a shorter vocal tract has a larger one
    tilt: float  # gain at the Nyquist frequency relative to DC, in dB


def draw_voices(count: int, seed: int = 0) -> list[Voice]:
    """Return ``count`` distinct voices, female and male in turn.

    Each property is drawn stratified: the range is cut into as many bands as there are voices of the sex, and every
    band is used once. So two voices of a sex differ in every property, and small corpora already span the ranges.
    """
    generator = random.Random(f"voices {seed}")
    sexes = variant_sexes()
    per_sex = {"f": (count + 1) // 2, "m": count // 2}
    drawn: dict[str, list[dict[str, Any]]] = {}
    for sex, number in per_sex.items():
        variants = [name for name, of in sexes.items() if of == sex and name not in _ODD_VARIANTS]
        generator.shuffle(variants)
        accents = [ACCENTS[index % len(ACCENTS)] for index in range(number)]
        generator.shuffle(accents)
        rows: list[dict[str, Any]] = [
            {"sex": sex, "variant": variants[index % len(variants)], "accent": accents[index]}
            for index in range(number)
        ]
        for name, (low, high) in _RANGES[sex].items():
            bands = list(range(number))
            generator.shuffle(bands)
            for row, band in zip(rows, bands, strict=True):
                row[name] = round(low + (high - low) * (band + generator.random()) / number, 4)
        drawn[sex] = rows
    return [
        Voice(speaker=str(1001 + index), **drawn["f" if index % 2 == 0 else "m"][index // 2]) for index in range(count)
    ]


def split_voices(voices: Sequence[Voice]) -> dict[str, list[Voice]]:
    """Return the voices of each split: of 56, 42 to train, 6 for dev and 8 for test; both sexes in every split.

    Raises:
        UserError: If there are fewer than 8 voices, too few for two of each sex to train and one of each to test.
    """
    count = len(voices)
    if count < 8:
        raise UserError(f"--num_voices is {count}; expected at least 8, so that every split has both sexes")
    # Even numbers, because the voices alternate in sex.
    dev = 2 * min(6, max(1, round(count * 3 / 56)))
    test = 2 * min(8, max(1, round(count * 4 / 56)))
    parts = {"train": voices[dev + test :], "dev": voices[:dev], "test": voices[dev : dev + test]}
    return {f"{name}-mini": list(own) for name, own in parts.items()}


def speak(engine: EspeakEngine, voice: Voice, text: str, seed: str) -> np.ndarray:
    """Return ``text`` in ``voice`` as float32 ``[L]`` at 16 kHz, at about -26 dBFS, pauses at the ends cut to 0.1 s."""
    import soxr

    engine.set_voice(
        f"gmw/{voice.accent}+{voice.variant}",
        # Resampling changes the tempo as well as the formants; the first is taken back here.
        words_per_minute=voice.rate / voice.tract,
        pitch=voice.pitch,
        pitch_range=voice.pitch_range,
    )
    samples = engine.speak(text)
    samples = soxr.resample(samples, engine.sample_rate * voice.tract, SAMPLE_RATE).astype(np.float64)
    # First-order tilt: gain 1 at DC and `ratio` at the Nyquist frequency.
    ratio = 10.0 ** (voice.tilt / 20.0)
    samples[1:] = samples[1:] * (1 + ratio) / 2 + samples[:-1] * (1 - ratio) / 2
    loud = np.flatnonzero(np.abs(samples) > 0.01 * np.abs(samples).max())
    margin = SAMPLE_RATE // 10
    samples = samples[max(0, loud[0] - margin) : loud[-1] + margin]
    samples *= min(0.05 / np.sqrt(np.mean(samples**2)), 0.9 / np.abs(samples).max())
    # A faint noise floor, as every recording has one: pauses are not digital zeros.
    noise = np.random.default_rng(list(seed.encode())).standard_normal(len(samples))
    return (samples + 2e-4 * noise).astype(np.float32)


def _speak_voice(voice: Voice, texts: Sequence[str], folder: str, seed: int) -> None:
    """Write one speaker's chapter (runs in a process of its own)."""
    engine = EspeakEngine()
    chapter = f"{voice.speaker}-{int(voice.speaker) + 100000}"
    lines = []
    for index, text in enumerate(texts):
        utterance = f"{chapter}-{index:04d}"
        samples = speak(engine, voice, text, f"{seed} {utterance}")
        write_audio(Path(folder) / f"{utterance}.flac", samples, SAMPLE_RATE)
        lines.append(f"{utterance} {text.rstrip('.').replace(',', '').upper()}\n")
    with atomic_write(Path(folder) / f"{chapter}.trans.txt") as stream:
        stream.writelines(lines)


def _run_voice(job: tuple[Voice, list[str], str, int]) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_speak_voice, args=job)
    process.start()
    process.join()
    # Another thread's start() may have reaped this child; then its status arrives a moment after join() returned.
    while process.exitcode is None:
        time.sleep(0.01)
    if process.exitcode != 0:
        voice = job[0]
        raise UserError(
            f"espeak-ng failed for voice {voice.speaker} ({voice.accent}+{voice.variant}), exit status "
            f"{process.exitcode}; run it again, or with another --seed"
        )


def synthesize(
    root: str | Path,
    split: str,
    voices: Sequence[Voice],
    texts: Sequence[Sequence[str]],
    *,
    seed: int = 0,
    num_jobs: int = 1,
) -> None:
    """Write the chapters of ``voices`` under ``root/split``, voice ``i`` saying ``texts[i]``.

    Every voice speaks in a process of its own, as the library has global state: the result does not depend on ``num_jobs``, and
    a crash cannot take the caller along.
    """
    jobs = [
        (voice, list(lines), str(Path(root) / split / voice.speaker / str(int(voice.speaker) + 100000)), seed)
        for voice, lines in zip(voices, texts, strict=True)
    ]
    with ThreadPoolExecutor(num_jobs) as pool:
        for done, _ in enumerate(pool.map(_run_voice, jobs), 1):
            if done % 10 == 0 or done == len(jobs):
                print(f"{split}: {done}/{len(jobs)} voices", file=sys.stderr, flush=True)


def build_corpus(
    root: str | Path, num_voices: int = 56, utterances_per_voice: int = 25, seed: int = 0, num_jobs: int = 1
) -> bool:
    """Make the whole corpus at ``root``, and return whether it was made now: one with the same parameters is kept.

    Raises:
        UserError: If ``root`` holds something else, or a number is too small.
    """
    root = Path(root)
    if utterances_per_voice < 2:
        raise UserError(f"--utterances_per_voice is {utterances_per_voice}; expected 2 or more (target and enrolment)")
    parameters = {"version": CORPUS_VERSION, "num_voices": num_voices, "utterances_per_voice": utterances_per_voice}
    parameters["seed"] = seed
    record = root / "corpus.json"
    if record.exists() and json.loads(record.read_text())["parameters"] == parameters:
        return False
    if root.exists() and not record.exists():
        raise UserError(f"{root}: is no corpus made by this command; choose another --output_dir or remove it")

    splits = split_voices(draw_voices(num_voices, seed))
    partial = root.with_name(f".{root.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    sentences = iter(draw_sentences(num_voices * utterances_per_voice, seed))
    for split, voices in splits.items():
        texts = [[next(sentences) for _ in range(utterances_per_voice)] for _ in voices]
        synthesize(partial, split, voices, texts, seed=seed, num_jobs=num_jobs)
    with atomic_write(partial / "SPEAKERS.TXT") as stream:
        stream.write(";ID  |SEX| SUBSET           |MINUTES| NAME\n")
        for split, voices in splits.items():
            for voice in voices:
                name = f"espeak-ng {voice.accent}+{voice.variant}"
                stream.write(f"{voice.speaker:4s} | {voice.sex.upper()} | {split:16s} | {0.0:5.2f} | {name}\n")
    with atomic_write(partial / record.name) as stream:
        everyone = {split: [asdict(voice) for voice in voices] for split, voices in splits.items()}
        json.dump({"parameters": parameters, "voices": everyone}, stream, indent=1)
    if root.exists():
        shutil.rmtree(root)
    partial.rename(root)
    return True
