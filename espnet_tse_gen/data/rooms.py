"""Rooms for dynamic mixing: impulse responses from recordings, or synthetic ones.

A synthetic response is the simplest model of a room that has its reverberation time: the direct sound, then white noise that
decays exponentially (Polack's model). No positions, walls or early reflections.
"""

import numpy as np

from espnet_tse_gen.data.sources import Source, read_audio_list, read_piece

SYNTHETIC = "synthetic"
# The decay starts this long after the direct sound.
_GAP_SECONDS = 0.0025
_LONGEST_SECONDS = 2.0


class Rooms:
    """Draws impulse responses.

    Raises:
        UserError: If there are no responses.
    """

    def __init__(
        self,
        where: str,  # `synthetic`, or a table or folder of recorded responses (of several channels, the first is taken)
        rate: int,  # Hz
        rt60: tuple[float, float],  # shortest and longest reverberation time of a synthetic room, seconds
        drr_db: tuple[float, float],  # least and largest ratio of direct to reverberant energy in it
    ) -> None:
        self.rate, self.rt60, self.drr_db = rate, rt60, drr_db
        self.recorded = [] if where == SYNTHETIC else read_audio_list(where, "--dynamic_mixing_conf reverb")

    def draw(self, rng: np.random.Generator, count: int) -> list[np.ndarray]:
        """Return ``count`` responses, float32 ``[n]``, that start with the direct sound.

        Synthetic ones are of one room; of recorded ones, each is drawn anew.
        """
        if self.recorded:
            return [self._read(self.recorded[int(rng.integers(len(self.recorded)))]) for _ in range(count)]
        rt60 = rng.uniform(*self.rt60)
        return [synthetic_response(rng, self.rate, rt60, rng.uniform(*self.drr_db)) for _ in range(count)]

    def _read(self, source: Source) -> np.ndarray:
        samples = max(1, int(min(source.seconds, _LONGEST_SECONDS) * self.rate))
        response = read_piece(source, 0.0, samples, self.rate, first_channel=True)
        return response[int(np.argmax(np.abs(response))) :]


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
    from scipy import fft

    size = fft.next_fast_len(len(samples) + len(response) - 1, real=True)
    return fft.irfft(fft.rfft(samples, size) * fft.rfft(response, size), size)[: len(samples)]
