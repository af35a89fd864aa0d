"""Crops for the training of codecs: lengths, places, levels, and the batches that they come in."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from refused import refused

from espnet_tse_gen.audio.level import LEVEL_DBFS, mixture_gain
from espnet_tse_gen.training.crops import CropPreprocessor, kept_batches, shuffled_batches

FEW = settings(max_examples=20, deadline=None, derandomize=True)


def recording(size: int, seed: int = 0, scale: float = 0.1) -> np.ndarray:
    return (scale * np.random.default_rng(seed).standard_normal(size)).astype(np.float32)


@FEW
@given(size=st.integers(1, 3000), samples=st.integers(1, 2000), train=st.booleans(), factor=st.sampled_from([1, 2, 3]))
def test_every_crop_has_the_length(size: int, samples: int, train: bool, factor: int) -> None:
    crop = CropPreprocessor(train, 8000, samples, sample_rate=8000 * factor, gain_db=(-10, 10))
    made = crop("a", {"audio": recording(size)})["audio"]
    assert made.shape == (samples,) and made.dtype == np.float32 and np.isfinite(made).all()


@FEW
@given(size=st.integers(1, 3000), samples=st.integers(1, 1000), seed=st.integers(0, 9), train=st.booleans())
def test_a_crop_is_a_piece_of_the_recording_at_the_common_level(
    size: int, samples: int, seed: int, train: bool
) -> None:
    wav = recording(size, seed)
    made = CropPreprocessor(train, 8000, samples)("a", {"audio": wav})["audio"]
    want = wav * np.float32(mixture_gain(wav))
    places = range(max(1, size - samples + 1))
    piece = made[: min(size, samples)]
    assert any(np.array_equal(piece, want[start : start + len(piece)]) for start in places)
    assert not made[size:].any()


def test_training_draws_and_validation_does_not() -> None:
    wav, rms = recording(4000), 10 ** (LEVEL_DBFS / 20)
    np.random.seed(0)
    train = CropPreprocessor(True, 8000, 500, gain_db=(-12.0, 0.0))
    crops = [train("a", {"audio": wav})["audio"] for _ in range(50)]
    levels = [20 * np.log10(np.sqrt(np.mean(np.square(crop))) / rms) for crop in crops]
    assert -13 < min(levels) < -9 and -3 < max(levels) < 1
    np.random.seed(0)
    assert np.array_equal(crops[0], train("a", {"audio": wav})["audio"])
    valid = CropPreprocessor(False, 8000, 500, gain_db=(-12.0, 0.0))
    first = valid("a", {"audio": wav})["audio"]
    np.random.seed(1)
    assert np.array_equal(first, valid("a", {"audio": wav})["audio"])
    assert not np.array_equal(first, valid("b", {"audio": wav})["audio"])


def test_what_cannot_be_used() -> None:
    refused("audio of 'a' has 2 channels", CropPreprocessor(True, 8000, 4), "a", {"audio": np.zeros((10, 2))})
    refused("--gain_db", CropPreprocessor, True, 8000, 4, gain_db=(3.0, -3.0))
    refused("--segment_seconds", CropPreprocessor, True, 8000, 0)


@FEW
@given(count=st.integers(1, 30), size=st.integers(1, 8), seed=st.integers(0, 5), processes=st.sampled_from([1, 2, 3]))
def test_batches(count: int, size: int, seed: int, processes: int) -> None:
    keys = [f"k{n}" for n in range(count)]
    batches = shuffled_batches(keys, size, seed)
    drawn = [key for batch in batches for key in batch]
    assert len(set(drawn)) == len(drawn) == (count if count < size else count - count % size)
    assert all(len(batch) == min(size, count) for batch in batches)
    assert count < 20 or drawn != [key for batch in shuffled_batches(keys, size, seed + 1) for key in batch]
    parts = [kept_batches(keys, max(size, processes), rank, processes) for rank in range(processes)]
    kept = [key for part in parts for batch in part for key in batch]
    assert sorted(kept) == sorted(keys[: count - count % processes])
    assert all(batch for part in parts for batch in part) and len({len(part) for part in parts}) == 1


def test_a_tilt_makes_crops_brighter_or_duller_and_no_louder() -> None:
    recorded = np.random.default_rng(0).standard_normal(4000).astype(np.float32)

    def share(tilt: tuple[float, float]) -> tuple[float, float]:
        crop = CropPreprocessor(True, 8000, 4000, tilt=tilt)("u", {"audio": recorded})["audio"]
        power = np.abs(np.fft.rfft(crop)) ** 2
        return float(power[1000:].sum() / power.sum()), float(np.square(crop).sum())

    plain, brighter, duller = share((0.0, 0.0)), share((0.8, 0.8)), share((-0.5, -0.5))
    assert duller[0] < plain[0] - 0.1 and brighter[0] > plain[0] + 0.1
    np.testing.assert_allclose([brighter[1], duller[1]], plain[1], rtol=1e-4)
    refused("--tilt", CropPreprocessor, True, 8000, 4, tilt=(0.5, -0.5))
