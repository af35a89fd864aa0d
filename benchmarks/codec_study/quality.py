"""What a codec keeps of a recording: measures between recordings and what comes back through the codec.

    rows = evaluate_codec(codec, Recordings("data/test/wav.scp"), levels=[1, 2, 4, 8])

Every recording is encoded once, at the level at which tokens are made, decoded from the first 1, 2, 4, 8 levels of its
codes, and brought back to its own rate, length and level. Nothing is aligned after the fact: a codec's round trip is
aligned by contract, and the lag that is left is reported beside the measures.
"""

from __future__ import annotations

import hashlib
import logging
import math
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch

from espnet_tse_gen.audio.files import read_audio
from espnet_tse_gen.audio.recordings import Recordings
from espnet_tse_gen.codec.base import AbsCodec
from espnet_tse_gen.codec.prepare import lag
from espnet_tse_gen.scoring.metrics import BY_NAME
from espnet_tse_gen.scoring.metrics.base import Column
from espnet_tse_gen.scoring.metrics.espnet import can_use_pesq
from espnet_tse_gen.scoring.signal import is_silent, si_sdr
from espnet_tse_gen.scoring.table import Row
from espnet_tse_gen.utils.errors import UserError, unknown_name
from espnet_tse_gen.utils.parallel import map_jobs

MEASURES: tuple[str, ...] = ("pesq", "stoi", "si_sdr", "dnsmos", "similarity")
"""Groups of measures that can be asked for."""

METRICS: tuple[Column, ...] = (
    replace(BY_NAME["PESQ_WB"], meaning="wideband PESQ, of recordings at 16 kHz"),
    replace(BY_NAME["PESQ_NB"], meaning="narrowband PESQ, of recordings at 8 kHz"),
    replace(BY_NAME["STOI"], meaning="short-time objective intelligibility"),
    replace(BY_NAME["ESTOI"], meaning="extended STOI"),
    BY_NAME["SI_SDR"],
    BY_NAME["OVRL"],
    Column("OVRL_change", "OVRL change", "", 2, "up", "DNSMOS OVRL of the output minus that of the recording"),
    replace(BY_NAME["similarity"], meaning="Resemblyzer cosine between output and recording"),
    Column("lag", "lag", "samples", 1, "", "samples by which the output lags, at the highest cross-correlation"),
)
"""Columns of the table, in its order."""

ORIGINAL = "original"
"""Name of the system that holds the recordings' own figures."""
MIN_CORRELATION = 0.5
"""Below this the waveforms have too little in common for a lag: the codec keeps no phase."""
MAX_LAG_SECONDS = 0.02
SPEED_LIMIT_SECONDS = 20.0


def system_name(tag: str, levels: int) -> str:
    """Return the name under which a codec with so many levels is in the score table."""
    return f"{tag}/{levels}"


def choose_levels(codec: AbsCodec, wanted: Iterable[int | str]) -> list[int]:
    """Return the numbers of levels among ``wanted`` that ``codec`` has, ascending; ``all`` stands for every level.

    Raises:
        UserError: If one is neither ``all`` nor a positive whole number, or the codec has none of them.
    """
    chosen = set()
    for value in wanted:
        number = codec.num_levels if value == "all" else int(value) if str(value).isdigit() else 0
        if number < 1:
            raise UserError(f"--levels: expected numbers from 1 on, or 'all', found '{value}'")
        chosen.add(number)
    available = sorted(number for number in chosen if number <= codec.num_levels)
    if not available:
        raise UserError(
            f"--levels: codec '{codec.name}' has {codec.num_levels} level(s); ask for one of those, or 'all'"
        )
    return available


def check_measures(measures: Iterable[str]) -> tuple[str, ...]:
    """Return ``measures`` in the order of :data:`MEASURES`.

    Raises:
        UserError: For an unknown name.
    """
    wanted = list(measures)
    for name in wanted:
        if name not in MEASURES:
            raise unknown_name("measure", name, MEASURES)
    return tuple(name for name in MEASURES if name in wanted)


def bit_rate(codec: AbsCodec, levels: int) -> float:
    """Return kbit/s of the first ``levels`` levels: the sum of ``log2`` of the codebook sizes, times the frame rate."""
    return sum(math.log2(size) for size in codec.codebook_sizes[:levels]) * codec.frame_rate / 1000


def evaluate_codec(
    codec: AbsCodec,
    recordings: Recordings,
    levels: Iterable[int | str] = (1, 2, 4, 8),
    measures: Iterable[str] = MEASURES,
    *,
    tag: str | None = None,
    set_name: str = "test",
    speakers: Mapping[str, str] | None = None,
    num_jobs: int = 1,
    originals: Mapping[str, float] | None = None,
) -> list[Row]:
    """Measure what comes back of ``recordings``.

    Args:
        codec: A codec with weights, on any device.
        recordings: What to encode and decode; each sets its own level unless they have a ``level_scp``.
        levels: Numbers of levels to decode from; those that the codec has not are left out; ``all`` means every level.
        measures: Names in :data:`MEASURES`.
        tag: Name of the codec in the rows; ``None``: its family's name.
        set_name: Name of the set in the rows.
        speakers: Speaker of each recording, for the rows.
        num_jobs: Processes that compute the measures; coding itself is done in this one.
        originals: OVRL of the recordings as they are, where it is known already.

    Returns:
        One row per recording and number of levels (system ``TAG/LEVELS``), and, if DNSMOS is asked for, one per recording
        as it is (system ``original``). A measure that is not defined for an item is absent.

    Raises:
        UserError: For unknown names, and for recordings that cannot be read or are silent.
    """
    chosen, wanted = choose_levels(codec, levels), check_measures(measures)
    score = partial(_score, measures=wanted)
    jobs = _round_trips(codec, recordings, chosen, originals or {})
    # One process works while the codec does; several get their items as a whole.
    results = map(score, jobs) if num_jobs == 1 else map_jobs(score, list(jobs), num_jobs, chunk=1)
    rows: list[Row] = []
    for number, (key, original, outputs) in enumerate(results, 1):
        speaker = (speakers or {}).get(key, "")
        if original:
            rows.append(Row(ORIGINAL, set_name, key, 1, target=speaker, metrics=original))
        for count, metrics in zip(chosen, outputs, strict=True):
            name = system_name(tag or codec.name, count)
            rows.append(Row(name, set_name, key, 1, target=speaker, metrics=metrics))
        if number % 10 == 0:
            logging.info("%s: %d of %d recordings measured", tag or codec.name, number, len(recordings))
    return rows


@dataclass(frozen=True)
class Speed:
    """How fast a codec is, one recording at a time, from waveform to codes and back from all levels."""

    encode: float  # seconds of audio per second of encoding
    decode: float  # seconds of audio per second of decoding
    both: float  # seconds of audio per second of encoding and decoding
    threads: int  # threads that computed
    seconds: float  # audio that was coded, in seconds


def measure_speed(
    codec: AbsCodec, recordings: Recordings, threads: int = 2, max_seconds: float = 30.0, repeats: int = 5
) -> Speed:
    """Time encoding and decoding; reading and resampling are not counted.

    Args:
        codec: A codec with weights.
        recordings: The first of them, up to ``max_seconds`` of audio, are coded whole.
        threads: Threads that torch may use.
        max_seconds: Audio to code.
        repeats: Passes at most; the fastest counts, which other work on the machine disturbed least. No further one
            begins after 20 seconds.
    """
    signals: list[torch.Tensor] = []
    samples = 0
    for key in sorted(recordings):
        loaded = recordings.load(key, codec.sample_rate).samples
        signals.append(torch.from_numpy(loaded)[None].to(codec.device))
        samples += len(loaded)
        if samples >= max_seconds * codec.sample_rate:
            break
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        codec.decode(codec.encode(signals[0]).codes)
        start = _now(codec)
        passes = [_timed_pass(codec, signals)]
        while len(passes) < repeats and _now(codec) - start < SPEED_LIMIT_SECONDS:
            passes.append(_timed_pass(codec, signals))
    finally:
        torch.set_num_threads(before)
    encoding, decoding = min(passes, key=sum)
    seconds = samples / codec.sample_rate
    return Speed(seconds / encoding, seconds / decoding, seconds / (encoding + decoding), threads, seconds)


def _timed_pass(codec: AbsCodec, signals: Sequence[torch.Tensor]) -> tuple[float, float]:
    spent = [0.0, 0.0]
    for signal in signals:
        start = _now(codec)
        codes = codec.encode(signal).codes
        middle = _now(codec)
        codec.decode(codes)
        spent[0] += middle - start
        spent[1] += _now(codec) - middle
    return max(spent[0], 1e-9), max(spent[1], 1e-9)


def _now(codec: AbsCodec) -> float:
    if codec.device.type == "cuda":
        torch.cuda.synchronize(codec.device)
    return time.perf_counter()


@dataclass(frozen=True)
class _Job:
    key: str
    rate: int
    original: np.ndarray
    outputs: list[np.ndarray]
    ovrl: float | None = None


def _round_trips(
    codec: AbsCodec, recordings: Recordings, levels: Sequence[int], originals: Mapping[str, float]
) -> Iterator[_Job]:
    """Yield every recording, at its own rate and level, with what comes back of it from each number of levels."""
    for key in sorted(recordings):
        original, rate = read_audio(recordings[key], key=key)
        if is_silent(original):
            raise UserError(f"{recordings[key]} (key '{key}'): is silent; remove it from the set")
        recording = recordings.load(key, codec.sample_rate)
        codes = codec.encode(torch.from_numpy(recording.samples)[None]).codes
        decoded = (codec.decode(codes, num_levels=count)[0].cpu().numpy() for count in levels)
        outputs = [recording.restore(wav, codec.sample_rate) for wav in decoded]
        yield _Job(key, rate, original, outputs, originals.get(key))


def _score(job: _Job, measures: tuple[str, ...]) -> tuple[str, dict[str, float], list[dict[str, float]]]:
    """Return the key, the recording's own figures, and those of each output."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _score_job(job, _meter(measures))
    finally:
        torch.set_num_threads(threads)


def _score_job(job: _Job, meter: _Meter) -> tuple[str, dict[str, float], list[dict[str, float]]]:
    known = job.ovrl is not None and meter.dnsmos is not None
    original = {"OVRL": float(job.ovrl or 0.0)} if known else meter.quality(job.original, job.rate)
    voice = meter.voice(job.original, job.rate, "keep")
    outputs = []
    for output in job.outputs:
        silent = is_silent(output)
        heard = faint_noise(len(output), job.key) if silent else output
        row = meter.compare(job.original, heard, job.rate)
        quality = meter.quality(heard, job.rate)
        row |= quality
        if quality:
            row["OVRL_change"] = quality["OVRL"] - original["OVRL"]
        if meter.encoder is not None:
            row["similarity"] = meter.similarity(voice, None if silent else heard, job.rate)
        outputs.append(row)
    return job.key, original, outputs


class _Meter:
    """The measures, with their networks loaded once per process."""

    def __init__(self, measures: tuple[str, ...]) -> None:
        self.measures = measures
        self.encoder: Any = None
        self.dnsmos: Any = None
        if "similarity" in measures:
            from espnet_tse_gen.audio.speaker import SpeakerEncoder

            self.encoder = SpeakerEncoder()
        if "dnsmos" in measures:
            from espnet_tse_gen.scoring.metrics.dnsmos import DNSMOS

            self.dnsmos = DNSMOS()

    def quality(self, samples: np.ndarray, rate: int) -> dict[str, float]:
        """OVRL without reference; empty if it is not asked for."""
        return {"OVRL": self.dnsmos(samples, rate)["OVRL"]} if self.dnsmos is not None else {}

    def voice(self, samples: np.ndarray, rate: int, trim: str) -> np.ndarray | None:
        """Speaker embedding, or ``None``."""
        return self.encoder.embed(samples, rate, trim=trim) if self.encoder is not None else None

    def similarity(self, voice: np.ndarray | None, output: np.ndarray | None, rate: int) -> float:
        """Cosine between ``voice`` and the voice of ``output``; 0 where there is none."""
        from espnet_tse_gen.audio.speaker import cosine

        return cosine(None if output is None else self.voice(output, rate, "drop"), voice)

    def compare(self, original: np.ndarray, output: np.ndarray, rate: int) -> dict[str, float]:
        """The measures that need both signals."""
        row: dict[str, float] = {}
        if "si_sdr" in self.measures:
            row["SI_SDR"] = si_sdr(original, output)
        if "stoi" in self.measures:
            row |= _stoi(original, output, rate)
        if "pesq" in self.measures and _pesq_is_defined(rate):
            row |= _pesq(original, output, rate)
        shift, correlation = lag(original, output, int(MAX_LAG_SECONDS * rate))
        row["correlation"] = correlation
        if abs(correlation) >= MIN_CORRELATION:
            row["lag"] = float(shift)
        return row


@lru_cache(maxsize=1)
def _meter(measures: tuple[str, ...]) -> _Meter:
    return _Meter(measures)


_pesq_is_defined = lru_cache(maxsize=8)(can_use_pesq)


def _pesq(original: np.ndarray, output: np.ndarray, rate: int) -> dict[str, float]:
    """PESQ, wideband at 16 kHz and narrowband at 8 kHz; empty where it finds no speech."""
    from pesq import PesqError, pesq

    wide = rate == 16000
    value = pesq(rate, original, output, "wb" if wide else "nb", on_error=PesqError.RETURN_VALUES)
    # Errors are returned as negative numbers.
    return {"PESQ_WB" if wide else "PESQ_NB": float(value)} if value >= 0 else {}


def _stoi(original: np.ndarray, output: np.ndarray, rate: int) -> dict[str, float]:
    """STOI and ESTOI in per cent; empty where too little of the recording is speech."""
    from pystoi import stoi

    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        try:
            plain, extended = (stoi(original, output, rate, extended=extended) for extended in (False, True))
        except RuntimeWarning:
            return {}
    return {"STOI": 100.0 * float(plain), "ESTOI": 100.0 * float(extended)}


def faint_noise(length: int, key: str) -> np.ndarray:
    """White noise of -100 dBFS RMS, float32 ``[length]``, the same for the same ``key``: stands in for a silent output.

    BSS Eval, SI-SDR and speaker encoders are not defined on silence; faint noise scores as a total failure.
    """
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little")
    noise = np.random.default_rng(seed).standard_normal(length)
    return (10.0 ** (-100.0 / 20.0) * noise).astype(np.float32)
