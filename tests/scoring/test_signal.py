import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_tse_gen.scoring.signal import align, constant_delay, si_sdr


def signals(seed: int, length: int = 400) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    reference = rng.standard_normal(length)
    return reference, reference + 0.3 * rng.standard_normal(length)


def test_si_sdr_is_the_formula_worked_out_by_hand() -> None:
    # Target (1, 0) and output (3, 4): the projection is (3, 0), the rest (0, 4).
    assert si_sdr(np.array([1.0, 0.0]), np.array([3.0, 4.0])) == pytest.approx(10 * np.log10(9 / 16))
    reference, estimate = signals(0)
    target = reference * (reference @ estimate) / (reference @ reference)
    expected = 10 * np.log10(np.sum(target**2) / np.sum((estimate - target) ** 2))
    assert si_sdr(reference, estimate) == pytest.approx(expected, abs=1e-9)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 1000), st.floats(1e-6, 1e6), st.floats(1e-6, 1e6), st.sampled_from([-1.0, 1.0]))
def test_si_sdr_ignores_scale_and_sign(seed: int, first: float, second: float, sign: float) -> None:
    reference, estimate = signals(seed)
    assert si_sdr(first * reference, sign * second * estimate) == pytest.approx(si_sdr(reference, estimate), abs=1e-6)


def test_si_sdr_stays_finite_at_the_ends_and_nothing_is_measured_on_silence() -> None:
    reference, _ = signals(1)
    assert si_sdr(reference, reference) == 100.0
    assert si_sdr(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == -100.0
    with pytest.raises(ValueError, match="silent"):
        si_sdr(reference, np.zeros_like(reference))
    with pytest.raises(ValueError, match="no pair"):
        constant_delay([(np.zeros(1000), np.ones(1000))])


@settings(deadline=None, max_examples=30)
@given(st.integers(-64, 64), st.sampled_from([-1.0, 1.0]))
def test_a_constant_delay_is_found_and_undone(delay: int, sign: float) -> None:
    pairs = []
    for seed in range(3):
        clean = np.random.default_rng(seed).standard_normal(3000).astype(np.float32)
        pairs.append((clean, (sign * np.roll(clean, delay)).astype(np.float32)))
    assert constant_delay(pairs) == delay
    reference, output = align(*pairs[0], delay)
    assert len(reference) == len(output) == 3000 - abs(delay)
    assert si_sdr(reference, output) > 60
    if delay:
        assert si_sdr(*pairs[0]) < 0
