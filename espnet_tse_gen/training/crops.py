"""Crops of one length from recordings of speech, in batches: what a codec is trained on.

A codec meets, after training, whatever stands in a mixture: a target some decibels below or above the mixture's level. So a crop
is brought to the common level (:mod:`espnet_tse_gen.audio.level`) by its whole recording, and in training moved by a random gain.
"""

import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from espnet_tse_gen.audio.level import mixture_gain
from espnet_tse_gen.audio.recordings import resample
from espnet_tse_gen.data.preprocessor import one_channel
from espnet_tse_gen.utils.errors import UserError


class CropPreprocessor:
    """Preprocessor of the ``codec`` task: what ESPnet's dataset calls with every recording that it read.

    Training draws from NumPy's global generator, which ESPnet seeds with epoch and worker.
    """

    def __init__(
        self,
        train: bool,  # whether crops and gains are random, or fixed by the recording's name and none
        codec_sample_rate: int,  # Hz of what the codec gets
        samples: int,  # length of a crop at that rate
        sample_rate: int = 0,  # Hz of the recordings; 0 means the codec's rate
        gain_db: Sequence[float] = (0.0, 0.0),  # lowest and highest gain relative to the common level, decibels
        # lowest and highest coefficient of the first difference that is drawn; above 0, crops become brighter, below, duller
        tilt: Sequence[float] = (0.0, 0.0),
    ) -> None:
        if samples < 1:
            raise UserError("--segment_seconds: is shorter than a sample; give more")
        if len(gain_db) != 2 or not gain_db[0] <= gain_db[1]:
            raise UserError(f"--gain_db: expected the lowest and the highest gain in dB, got {list(gain_db)}")
        if len(tilt) != 2 or not -1 < tilt[0] <= tilt[1] < 1:
            raise UserError(f"--tilt: expected the lowest and the highest coefficient, within -1..1, got {list(tilt)}")
        self.train, self.rate, self.samples = train, codec_sample_rate, samples
        self.data_rate = sample_rate or codec_sample_rate
        self.gain_db = (float(gain_db[0]), float(gain_db[1]))
        self.tilt = (float(tilt[0]), float(tilt[1]))

    def __call__(self, uid: str, data: Mapping[str, str | np.ndarray]) -> dict[str, np.ndarray]:
        """Return ``audio``, float32 ``[samples]``. A recording shorter than that is followed by silence."""
        recorded = one_channel(data["audio"], uid, "audio")
        gain = mixture_gain(recorded)
        if self.train:
            gain *= 10.0 ** (np.random.uniform(*self.gain_db) / 20.0)
        # Only what the crop needs is resampled.
        wanted = -(-self.samples * self.data_rate // self.rate)
        places = max(1, len(recorded) - wanted + 1)
        start = int(np.random.randint(places)) if self.train else zlib.crc32(uid.encode()) % places
        crop = resample(recorded[start : start + wanted], self.data_rate, self.rate)[: self.samples]
        if self.train and any(self.tilt):
            # Microphones and voices differ in tilt more than those of one corpus do.
            tilted = crop - np.float32(np.random.uniform(*self.tilt)) * np.pad(crop, (1, 0))[:-1]
            crop = tilted * np.sqrt(np.square(crop).sum() / max(np.square(tilted).sum(), np.float32(1e-12)))
        return {"audio": np.pad(crop * np.float32(gain), (0, self.samples - len(crop)))}


def shuffled_batches(keys: Sequence[str], size: int, seed: int) -> list[list[str]]:
    """Return batches of all keys in random order; a last one that is not full is left out, unless it is the only one."""
    order = [keys[index] for index in np.random.RandomState(seed).permutation(len(keys))]
    return [order[start : start + size] for start in range(0, max(1, len(keys) - size + 1), size)]


def kept_batches(keys: list[str], size: int, rank: int = 0, processes: int = 1) -> list[list[str]]:
    """Return batches of as many keys as ``processes`` can share alike, in their order: of each, what process ``rank`` has."""
    keys, size = keys[: len(keys) - len(keys) % processes], max(processes, size - size % processes)
    return [keys[start + rank : start + size : processes] for start in range(0, len(keys), size)]
