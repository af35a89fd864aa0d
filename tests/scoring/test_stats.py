import numpy as np
import pytest

from espnet_tse_gen.scoring.stats import bootstrap_means


def test_intervals_cover_the_true_mean_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(1)
    groups = [str(index) for index in range(50)]
    # 300 independent experiments, as 300 columns: each has a true mean of 2.
    values = 2.0 + rng.standard_normal((50, 300))
    intervals = bootstrap_means(values, groups, resamples=500)
    assert intervals == bootstrap_means(values, groups, resamples=500)
    assert intervals != bootstrap_means(values, groups, resamples=500, seed=1)
    covered = np.mean([interval.low <= 2.0 <= interval.high for interval in intervals])
    # 95 % nominal; the percentile bootstrap of 50 values falls a little short; three standard errors below that.
    assert 0.88 <= covered <= 0.99


def test_targets_of_a_mixture_are_drawn_together() -> None:
    # What one target gains the other loses: the mean of a mixture is always 0, and so is that of every resample.
    gain = np.random.default_rng(2).standard_normal(40)
    values = np.stack([gain, -gain], axis=1).reshape(-1, 1)
    paired = bootstrap_means(values, [str(index // 2) for index in range(80)])[0]
    single = bootstrap_means(values, [str(index) for index in range(80)])[0]
    assert paired.high - paired.low < 1e-9
    assert single.high - single.low > 0.1


def test_missing_values_are_left_out_and_counted() -> None:
    values = np.array([[1.0, np.nan], [np.nan, np.nan], [3.0, np.nan]])
    known, unknown = bootstrap_means(values, ["a", "b", "c"])
    assert (known.mean, known.count) == (2.0, 2) and 1.0 <= known.low <= known.high <= 3.0
    assert unknown.count == 0 and np.isnan(unknown.mean)


def test_weights_make_a_mean_of_rates_the_rate_of_all_together() -> None:
    rng = np.random.default_rng(3)
    words = rng.integers(1, 20, (50, 1)).astype(float)
    errors = rng.binomial(words.astype(int), 0.3).astype(float)
    groups = [str(index // 2) for index in range(50)]
    (rate,) = bootstrap_means(errors / words, groups, weights=words)
    assert rate.mean == pytest.approx(errors.sum() / words.sum())
    assert rate.low < rate.mean < rate.high and rate.count == 50
    # A weight that is not known, or zero, leaves its value out; equal weights are none.
    words[0], words[1] = np.nan, 0.0
    (fewer,) = bootstrap_means(errors / np.maximum(words, 1), groups, weights=words)
    assert fewer.count == 48
    assert fewer.mean == pytest.approx(errors[2:].sum() / words[2:].sum())
    same = np.full_like(errors, 3.0)
    assert bootstrap_means(errors, groups, weights=same)[0].high == pytest.approx(
        bootstrap_means(errors, groups)[0].high
    )
