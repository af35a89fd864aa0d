"""One factor per mixture brings everything to one level."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_tse_gen.audio.level import LEVEL_DBFS, Level, mixture_gain


@given(st.floats(1e-4, 0.99), st.integers(1, 2000), st.floats(-40.0, -10.0))
def test_the_scaled_mixture_has_the_level(peak: float, length: int, level: float) -> None:
    signal = (peak * np.random.default_rng(length).choice([-1.0, 1.0], length)).astype(np.float32)
    scaled = signal * mixture_gain(signal, level)
    assert 20 * np.log10(np.sqrt(np.mean(scaled**2))) == pytest.approx(level, abs=1e-3)


@settings(deadline=None)
@given(st.lists(st.integers(1, 500), min_size=1, max_size=9), st.floats(-0.9, 0.9), st.floats(1e-4, 0.3))
def test_parts_have_the_level_of_the_whole(sizes: list[int], offset: float, loudness: float) -> None:
    signal = np.random.default_rng(sizes[0]).normal(offset, loudness, sum(sizes)).astype(np.float32)
    level = Level(np.split(signal, np.cumsum(sizes)[:-1]))
    wide = signal.astype(np.float64)
    assert level.size == len(signal) and level.mean == pytest.approx(wide.mean(), rel=1e-9, abs=1e-12)
    assert level.offset == (level.mean if abs(wide.mean()) > 1e-3 * np.sqrt(np.mean(wide**2)) else 0.0)
    assert level.rms == pytest.approx(np.sqrt(np.mean((wide - level.offset) ** 2)), rel=1e-9, abs=1e-12)
    if len(signal) > 1:
        assert level.gain == pytest.approx(mixture_gain(wide - level.offset), rel=1e-9)


@pytest.mark.parametrize("offset", [0.0, 0.3, -0.7])
def test_an_offset_alone_is_silence(offset: float) -> None:
    level = Level(np.full((40, 100001), offset, np.float32))
    assert level.rms < 1e-12 and level.gain == 0.0 and level.offset == pytest.approx(offset)


@pytest.mark.parametrize("signal", [np.zeros(100), np.zeros(0), np.full(100, 1e-12)])
def test_silence_stays_silence(signal: np.ndarray) -> None:
    assert mixture_gain(signal) == 1.0


def test_float32_does_not_lose_the_level_of_long_recordings() -> None:
    signal = np.full(10_000_000, 1e-3, dtype=np.float32)
    assert mixture_gain(signal) == pytest.approx(10 ** (LEVEL_DBFS / 20) / 1e-3, rel=1e-5)
