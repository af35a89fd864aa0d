"""What recordings are heard through, for drawn mixtures: rooms, another microphone's sound, narrow bands, lossy coding.

A synthetic room is the simplest model that has its reverberation time: the direct sound, then white noise that decays
exponentially (Polack's model). No positions, walls or early reflections.

A network that hears only full bands takes the wrong speaker from a recording that lacks them. And where speakers have one
recording each, its sound tells target and enrolment apart from the interferer as well as the voice does, but only the voice
carries over to enrolments from another recording. Filters act on every talker of a mixture alone, so that the sum stays the
sum; coding acts on a recording as a whole.
"""

import io
from collections.abc import Callable, Sequence

import numpy as np

from espnet_tse_gen.data.sources import Source, read_piece

# The decay starts this long after the direct sound.
_GAP_SECONDS = 0.0025
_LONGEST_SECONDS = 2.0
# Telephone band (ITU-T G.712), and the range of cut-off frequencies of other recordings, Hz.
_TELEPHONE = (300.0, 3400.0)
_CUTOFF = (2500.0, 7000.0)
_TELEPHONE_SHARE = 0.3
# Width of a filter's slope relative to its cut-off frequency.
_SLOPE = 0.06
# Formats of libsndfile, and the least and largest compression level (0..1): MP3 at 64 to 24 kbit/s at 16 kHz, Vorbis at 45 to 30.
_CODINGS: tuple[tuple[str, str, tuple[float, float], dict[str, str]], ...] = (
    ("MP3", "MPEG_LAYER_III", (0.6, 0.95), {"bitrate_mode": "VARIABLE"}),
    ("OGG", "VORBIS", (0.7, 0.98), {}),
)


def draw_room(
    rng: np.random.Generator,
    count: int,
    rate: int,
    rt60: tuple[float, float],  # shortest and longest reverberation time of a synthetic room, seconds
    drr_db: tuple[float, float],  # least and largest ratio of direct to reverberant energy in it
    recorded: Sequence[Source] = (),  # responses to draw from instead; of several channels, the first is taken
) -> list[np.ndarray]:
    """Draw ``count`` impulse responses, float32 ``[n]`` at ``rate`` Hz, that start with the direct sound.

    Synthetic ones are of one room; of recorded ones, each is drawn anew.
    """
    if not recorded:
        seconds = rng.uniform(*rt60)
        return [synthetic_response(rng, rate, seconds, rng.uniform(*drr_db)) for _ in range(count)]
    responses = []
    for _ in range(count):
        source = recorded[int(rng.integers(len(recorded)))]
        samples = max(1, int(min(source.seconds, _LONGEST_SECONDS) * rate))
        response = read_piece(source, 0.0, samples, rate, first_channel=True)
        responses.append(response[int(np.argmax(np.abs(response))) :])
    return responses


def synthetic_response(rng: np.random.Generator, rate: int, rt60: float, drr_db: float) -> np.ndarray:
    """Return the response of a synthetic room, float32 ``[rt60 * rate]``, with a direct sound of 1 at its start.

    It falls by 60 dB in ``rt60`` seconds; ``drr_db`` is the ratio of direct to reverberant energy.
    """
    length = max(2, round(rt60 * rate))
    gap = min(max(1, round(_GAP_SECONDS * rate)), length - 1)
    decay = np.exp(np.arange(length - gap, dtype=np.float32) * np.float32(-3.0 * np.log(10.0) / (rt60 * rate)))
    tail = rng.standard_normal(length - gap, dtype=np.float32) * decay
    tail *= np.float32(10.0 ** (-drr_db / 20.0) / np.sqrt(np.sum(np.square(tail, dtype=np.float64))))
    response = np.zeros(length, dtype=np.float32)
    response[0] = 1.0
    response[gap:] = tail
    return response


def reverberate(samples: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Return ``samples`` (float32 ``[L]``) in the room of ``response``, cut to ``[L]``."""
    from scipy.signal import fftconvolve

    return fftconvolve(samples, response)[: len(samples)]


def equalize(samples: np.ndarray, rate: int, gains_db: np.ndarray) -> np.ndarray:
    """Filter ``samples`` (float32 ``[L]`` at ``rate`` Hz) smoothly, without phase.

    ``gains_db`` (``[n]``) stand at points equally apart on the mel scale, from 0 to half of ``rate``; between them, linear.
    """

    def gain(frequencies: np.ndarray) -> np.ndarray:
        mel = 2595.0 * np.log10(1.0 + frequencies / 700.0)
        points = np.linspace(0.0, 2595.0 * np.log10(1.0 + rate / 1400.0), len(gains_db))
        return np.exp(np.interp(mel, points, gains_db) * (np.log(10.0) / 20.0))

    return _filtered(samples, rate, gain)


def draw_band(rng: np.random.Generator) -> tuple[float, float]:
    """Draw the lowest and highest frequency that a recording holds, Hz; the lowest is 0 but for telephones."""
    if rng.random() < _TELEPHONE_SHARE:
        return _TELEPHONE
    return 0.0, float(rng.uniform(*_CUTOFF))


def limit_band(samples: np.ndarray, rate: int, band: tuple[float, float]) -> np.ndarray:
    """Filter ``samples`` (float32 ``[L]`` at ``rate`` Hz) to a band (lowest and highest Hz), without phase."""
    low, high = band

    def gain(frequencies: np.ndarray) -> np.ndarray:
        gains = np.clip((high - frequencies) / (_SLOPE * high) + 1.0, 0.0, 1.0)
        return gains * np.clip((frequencies - low) / (_SLOPE * low) + 1.0, 0.0, 1.0) if low > 0 else gains

    return _filtered(samples, rate, gain)


def _filtered(samples: np.ndarray, rate: int, gain: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    from scipy import fft

    # Room at the end, so that little of the filter's response comes round to the other one.
    size = fft.next_fast_len(len(samples) + rate // 20, real=True)
    response = gain(np.arange(size // 2 + 1) * (rate / size)).astype(np.float32)
    return fft.irfft(fft.rfft(samples, size) * response, size)[: len(samples)]


def code_lossy(samples: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Send ``samples`` (float32 ``[L]``, in -1..1 but for moments) through MP3 or Ogg Vorbis at a drawn bit rate.

    Nothing is shifted. At a ``rate`` that MP3 does not know (8, 11.025, 12, 16, 22.05, 24, 32, 44.1, 48 kHz), nothing is done.
    """
    import soundfile

    chosen, subtype, levels, options = _CODINGS[int(rng.integers(len(_CODINGS)))]
    level, coded = float(rng.uniform(*levels)), io.BytesIO()
    try:
        soundfile.write(coded, samples, rate, subtype, format=chosen, compression_level=level, **options)
        coded.seek(0)
        made, _ = soundfile.read(coded, dtype="float32")
    except (soundfile.SoundFileError, RuntimeError):
        # A rate that the format does not know.
        return samples
    # A decoder that did not remove the coder's delay would return more.
    return made if len(made) == len(samples) else samples
