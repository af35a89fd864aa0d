"""One factor per mixture brings everything to one level."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from espnet_tse_gen.audio.level import LEVEL_DBFS, mixture_gain


@given(st.floats(1e-4, 0.99), st.integers(1, 2000), st.floats(-40.0, -10.0))
def test_the_scaled_mixture_has_the_level(peak: float, length: int, level: float) -> None:
    signal = (peak * np.random.default_rng(length).choice([-1.0, 1.0], length)).astype(np.float32)
    scaled = signal * mixture_gain(signal, level)
    assert 20 * np.log10(np.sqrt(np.mean(scaled**2))) == pytest.approx(level, abs=1e-3)


@pytest.mark.parametrize("signal", [np.zeros(100), np.zeros(0), np.full(100, 1e-12)])
def test_silence_stays_silence(signal: np.ndarray) -> None:
    assert mixture_gain(signal) == 1.0


def test_float32_does_not_lose_the_level_of_long_recordings() -> None:
    signal = np.full(10_000_000, 1e-3, dtype=np.float32)
    assert mixture_gain(signal) == pytest.approx(10 ** (LEVEL_DBFS / 20) / 1e-3, rel=1e-5)
