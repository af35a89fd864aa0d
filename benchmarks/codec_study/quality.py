"""What a codec keeps of a recording: measures between recordings and what comes back through the codec.

    rows = evaluate_codec(codec, Recordings("data/test/wav.scp"), codebooks=[1, 2, 4, 8])

Every recording is encoded once, at the level at which tokens are made, decoded from the first 1, 2, 4, 8 codebooks of its
codes, and brought back to its own rate, length and level. Nothing is aligned after the fact: a codec's round trip is
aligned by contract, and the lag that is left is reported beside the measures.
"""

import functools
import logging
import math
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import threadpoolctl
import torch

from espnet_tse_gen.audio.files import read_audio
from espnet_tse_gen.audio.recordings import Recordings
from espnet_tse_gen.audio.speaker import SpeakerEncoder, cosine
from espnet_tse_gen.codec.base import AbsCodec
from espnet_tse_gen.codec.prepare import lag
from espnet_tse_gen.scoring.metrics import BY_NAME
from espnet_tse_gen.scoring.metrics.base import Column
from espnet_tse_gen.scoring.metrics.espnet import can_use_pesq
from espnet_tse_gen.scoring.metrics.mos import dnsmos
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

# Loaded once per process.
_encoder = functools.cache(SpeakerEncoder)


def system_name(tag: str, codebooks: int) -> str:
    """Return the name under which a codec with so many codebooks is in the score table."""
    return f"{tag}/{codebooks}"


def choose_codebooks(codec: AbsCodec, wanted: Iterable[int | str]) -> list[int]:
    """Return the numbers of codebooks among ``wanted`` that ``codec`` has, ascending; ``all`` stands for every codebook."""
    chosen = set()
    for value in wanted:
        number = codec.num_codebooks if value == "all" else int(value) if str(value).isdigit() else 0
        if number < 1:
            raise UserError(f"--codebooks: expected numbers from 1 on, or 'all', found '{value}'")
        chosen.add(number)
    available = sorted(number for number in chosen if number <= codec.num_codebooks)
    if not available:
        raise UserError(
            f"--codebooks: codec '{codec.name}' has {codec.num_codebooks} codebook(s); ask for one of those, or 'all'"
        )
    return available


def check_measures(measures: Sequence[str]) -> tuple[str, ...]:
    """Return ``measures`` in the order of :data:`MEASURES`; raise :class:`UserError` for an unknown name."""
    for name in measures:
        if name not in MEASURES:
            raise unknown_name("measure", name, MEASURES)
    return tuple(name for name in MEASURES if name in measures)


def bit_rate(codec: AbsCodec, codebooks: int) -> float:
    """Return kbit/s of the first ``codebooks`` codebooks: the sum of ``log2`` of the codebook sizes, times the frame rate."""
    return sum(math.log2(size) for size in codec.codebook_sizes[:codebooks]) * codec.frame_rate / 1000


def evaluate_codec(
    codec: AbsCodec,
    recordings: Recordings,
    codebooks: Sequence[int],
    measures: Sequence[str] = MEASURES,
    *,
    tag: str,
    set_name: str = "test",
    speakers: Mapping[str, str] | None = None,
    num_jobs: int = 1,
    originals: Mapping[str, float] | None = None,
) -> list[Row]:
    """Measure what comes back of ``recordings``.

    Args:
        codebooks: Numbers of codebooks to decode from, all of which the codec has.
        num_jobs: Processes that compute the measures; coding itself is done in this one.
        originals: OVRL of the recordings as they are, where it is known already.

    Returns:
        One row per recording and number of codebooks (system ``TAG/CODEBOOKS``), and, if DNSMOS is asked for, one per recording
        as it is (system ``original``). A measure that is not defined for an item is absent.
    """
    score = functools.partial(_score, measures=tuple(measures))
    jobs = _round_trips(codec, recordings, codebooks, originals or {})
    # One process works while the codec does; several get their items as a whole.
    results = map(score, jobs) if num_jobs == 1 else map_jobs(score, list(jobs), num_jobs, chunk=1)
    names = [ORIGINAL, *(system_name(tag, count) for count in codebooks)]
    rows: list[Row] = []
    for number, (key, found) in enumerate(results, 1):
        speaker = (speakers or {}).get(key, "")
        rows += [
            Row(name, set_name, key, 1, target=speaker, metrics=metrics)
            for name, metrics in zip(names, found, strict=True)
            if metrics
        ]
        if number % 10 == 0:
            logging.info("%s: %d of %d recordings measured", tag, number, len(recordings))
    return rows


@dataclass(frozen=True)
class Speed:
    """How fast a codec is, one recording at a time, from waveform to codes and back from all codebooks."""

    encode: float  # seconds of audio per second of encoding
    decode: float  # seconds of audio per second of decoding
    both: float  # seconds of audio per second of encoding and decoding
    threads: int  # threads that computed
    seconds: float  # audio that was coded, in seconds


def measure_speed(
    codec: AbsCodec, recordings: Recordings, threads: int = 2, max_seconds: float = 30.0, repeats: int = 5
) -> Speed:
    """Time encoding and decoding; reading and resampling are not counted.

    The first recordings, up to ``max_seconds`` of audio, are coded whole. Of ``repeats`` passes at most the fastest counts,
    which other work on the machine disturbed least. No further one begins after 20 seconds.
    """
    signals: list[torch.Tensor] = []
    seconds = 0.0
    for key in sorted(recordings):
        signals.append(torch.from_numpy(recordings.load(key, codec.sample_rate).samples)[None].to(codec.device))
        seconds += signals[-1].shape[1] / codec.sample_rate
        if seconds >= max_seconds:
            break
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        codec.decode(codec.encode(signals[0]).codes)
        start, passes = _now(codec), list[tuple[float, float]]()
        while len(passes) < repeats and (not passes or _now(codec) - start < SPEED_LIMIT_SECONDS):
            passes.append(_timed_pass(codec, signals))
    finally:
        torch.set_num_threads(before)
    encoding, decoding = min(passes, key=sum)
    return Speed(seconds / encoding, seconds / decoding, seconds / (encoding + decoding), threads, seconds)


def _timed_pass(codec: AbsCodec, signals: Sequence[torch.Tensor]) -> tuple[float, float]:
    encoding = decoding = 1e-9
    for signal in signals:
        start = _now(codec)
        codes = codec.encode(signal).codes
        middle = _now(codec)
        codec.decode(codes)
        encoding += middle - start
        decoding += _now(codec) - middle
    return encoding, decoding


def _now(codec: AbsCodec) -> float:
    if codec.device.type == "cuda":
        torch.cuda.synchronize(codec.device)
    return time.perf_counter()


class _Job(NamedTuple):
    key: str
    rate: int
    original: np.ndarray
    outputs: list[np.ndarray]
    ovrl: float | None = None


def _round_trips(
    codec: AbsCodec, recordings: Recordings, codebooks: Sequence[int], originals: Mapping[str, float]
) -> Iterator[_Job]:
    """Yield every recording, at its own rate and level, with what comes back of it from each number of codebooks."""
    for key in sorted(recordings):
        original, rate = read_audio(recordings[key], key=key)
        if is_silent(original):
            raise UserError(f"{recordings[key]} (key '{key}'): is silent; remove it from the set")
        recording = recordings.load(key, codec.sample_rate)
        codes = codec.encode(torch.from_numpy(recording.samples)[None]).codes
        decoded = (codec.decode(codes, num_codebooks=count)[0].cpu().numpy() for count in codebooks)
        outputs = [recording.restore(wav, codec.sample_rate) for wav in decoded]
        yield _Job(key, rate, original, outputs, originals.get(key))


def _score(job: _Job, measures: tuple[str, ...]) -> tuple[str, list[dict[str, float]]]:
    """Return the key, the recording's own figures, and those of each output."""
    with threadpoolctl.threadpool_limits(1):
        own, voice = dict[str, float](), None
        if "dnsmos" in measures:
            own["OVRL"] = dnsmos()(job.original, job.rate)["OVRL"] if job.ovrl is None else job.ovrl
        if "similarity" in measures:
            voice = _encoder().embed(job.original, job.rate)
        return job.key, [own, *(_compare(job, output, measures, own, voice) for output in job.outputs)]


def _compare(
    job: _Job, output: np.ndarray, measures: tuple[str, ...], own: Mapping[str, float], voice: np.ndarray | None
) -> dict[str, float]:
    # BSS Eval, SI-SDR and speaker encoders are not defined on silence; noise of -100 dBFS scores as a total failure.
    noise = 1e-5 * np.random.default_rng(0).standard_normal(len(output))
    heard = noise.astype(np.float32) if is_silent(output) else output
    shift, correlation = lag(job.original, heard, int(MAX_LAG_SECONDS * job.rate))
    row = {"correlation": correlation}
    if abs(correlation) >= MIN_CORRELATION:
        row["lag"] = float(shift)
    if "si_sdr" in measures:
        row["SI_SDR"] = si_sdr(job.original, heard)
    if "stoi" in measures:
        row |= _stoi(job.original, heard, job.rate)
    if "pesq" in measures and can_use_pesq(job.rate):
        row |= _pesq(job.original, heard, job.rate)
    if "dnsmos" in measures:
        row["OVRL"] = dnsmos()(heard, job.rate)["OVRL"]
        row["OVRL_change"] = row["OVRL"] - own["OVRL"]
    if "similarity" in measures:
        other = _encoder().embed(heard, job.rate, trim="drop") if heard is output else None
        row["similarity"] = cosine(other, voice)
    return row


def _pesq(original: np.ndarray, output: np.ndarray, rate: int) -> dict[str, float]:
    """PESQ, wideband at 16 kHz and narrowband at 8 kHz; empty where it finds no speech."""
    from pesq import PesqError, pesq

    band = "wb" if rate == 16000 else "nb"
    value = pesq(rate, original, output, band, on_error=PesqError.RETURN_VALUES)
    # Errors are returned as negative numbers.
    return {f"PESQ_{band.upper()}": float(value)} if value >= 0 else {}


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
