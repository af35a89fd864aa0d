"""Crops of one length from recordings of speech, in batches: what a codec is trained on.

A codec meets, after training, whatever stands in a mixture: a target some decibels below or above the mixture's level. So a
crop is brought to the common level (:mod:`espnet_tse_gen.audio.level`) by its whole recording, and in training moved by a
random gain.
"""

import zlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from espnet2.samplers.abs_sampler import AbsSampler

from espnet_tse_gen.audio.level import mixture_gain
from espnet_tse_gen.audio.recordings import resample
from espnet_tse_gen.data.preprocessor import one_channel
from espnet_tse_gen.utils.errors import UserError


class CropPreprocessor:
    """Preprocessor of the ``codec`` task: what ESPnet's dataset calls with every recording that it read.

    Training draws from NumPy's global generator, which ESPnet seeds with epoch and worker; validation takes the same crop of
    a recording every time, at the common level.
    """

    def __init__(
        self,
        train: bool,  # whether crops and gains are random (training) or fixed by the recording's name (validation)
        codec_sample_rate: int,  # Hz of what the codec gets
        samples: int,  # length of a crop at that rate
        sample_rate: int = 0,  # Hz of the recordings; 0 means the codec's rate
        gain_db: Sequence[float] = (0.0, 0.0),  # lowest and highest gain relative to the common level, decibels
    ) -> None:
        if samples < 1:
            raise UserError("--segment_seconds: is shorter than a sample; give more")
        if len(gain_db) != 2 or not gain_db[0] <= gain_db[1]:
            raise UserError(f"--gain_db: expected the lowest and the highest gain in dB, got {list(gain_db)}")
        self.train, self.rate, self.samples = train, codec_sample_rate, samples
        self.data_rate = sample_rate or codec_sample_rate
        self.gain_db = (float(gain_db[0]), float(gain_db[1]))

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
        return {"audio": np.pad(crop * np.float32(gain), (0, self.samples - len(crop)))}


class CropSampler(AbsSampler):
    """Batches of recordings, drawn anew every epoch: each recording once, in random order.

    A last batch that is not full is left out, unless it is the only one.
    """

    def __init__(
        self,
        keys: Sequence[str],  # of the recordings
        batch_size: int,
        shuffle: bool = True,  # otherwise every batch is kept, in the order of `keys`
        rank: int = 0,  # which part of every batch is this process's
        processes: int = 1,  # how many parts
    ) -> None:
        self.keys, self.shuffle = list(keys), shuffle
        # Kept batches are such that every process has as many of each; of drawn ones, all are full.
        self.batch_size = batch_size if shuffle else max(processes, batch_size - batch_size % processes)
        self.part = slice(rank, None, processes)

    def __len__(self) -> int:
        size = len(self.keys)
        return max(1, size // self.batch_size) if self.shuffle else -(-size // self.batch_size)

    def __iter__(self) -> Iterator[list[str]]:
        return iter(self.generate(0))

    def generate(self, seed: int) -> list[list[str]]:
        """Return the batches of the epoch that ``seed`` stands for."""
        order = np.random.RandomState(seed).permutation(len(self.keys)) if self.shuffle else range(len(self.keys))
        keys = [self.keys[index] for index in order]
        starts = range(0, len(self) * self.batch_size, self.batch_size)
        return [keys[start : start + self.batch_size][self.part] for start in starts]
