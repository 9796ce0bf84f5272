"""The test's maths against a second source: scipy's distributions, closed forms, simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from streamwatch.detect import mixture
from streamwatch.detect.mixture import RATIOS, Floats

SHARES = [0.01, 0.2, 0.5, 0.9]


def binomial(share: float, ratio: float) -> float:
    return share * ratio / (1 - share + share * ratio)


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("null", [1.0, 1.25, 2.0])
def test_ratio_of_likelihoods_is_that_of_the_conditional_binomial(
    share: float, null: float
) -> None:
    n = np.array([1.0, 7.0, 40.0, 300.0])
    x = np.array([0.0, 3.0, 40.0, 20.0])
    ours = mixture.log_likelihood_ratio(x, n, share, RATIOS, null, np.ones(4))
    for row in range(4):
        for k, ratio in enumerate(RATIOS):
            expected = stats.binom.logpmf(x[row], n[row], binomial(share, ratio))
            expected -= stats.binom.logpmf(x[row], n[row], binomial(share, null))
            assert ours[row, k] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("share", SHARES)
def test_conditional_binomial_is_what_two_poisson_streams_give(share: float) -> None:
    rng = np.random.default_rng(7)
    total, ratio = 8.0, 3.0
    x = rng.poisson(total * share * ratio, 400_000)
    n = x + rng.poisson(total * (1 - share), 400_000)
    for size in (4, 10):
        seen = x[n == size]
        if len(seen) < 2_000:
            continue
        assert seen.mean() / size == pytest.approx(binomial(share, ratio), abs=0.02)


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("ratio", [0.5, 1.0, 1.25])
def test_expected_evidence_is_at_most_one_for_every_tolerated_ratio(
    share: float, ratio: float
) -> None:
    x = np.arange(0, 31, dtype=float)
    log_ratios = mixture.log_likelihood_ratio(
        x, np.full(31, 30.0), share, RATIOS, 1.25, np.ones(31)
    )
    weights = stats.binom.pmf(x, 30, binomial(share, ratio))
    means = weights @ np.exp(log_ratios)
    assert (means <= 1 + 1e-9).all()


def false_alarms(rng: np.random.Generator, alpha: float, runs: int, windows: int) -> float:
    """Share of null runs (ratio exactly at the tolerated one) that ever reach 1/alpha."""
    process: Floats = np.zeros((runs, len(RATIOS)))
    alarmed = np.zeros(runs, dtype=bool)
    for window in range(windows):
        share = 0.1 if window < windows // 2 else 0.5
        mass = mixture.onset_mass(window, 0, step_up=window == windows // 2)
        x = rng.poisson(5 * share * 1.25, runs).astype(float)
        n: Floats = x + rng.poisson(5 * (1 - share), runs)
        evidence = mixture.log_likelihood_ratio(x, n, share, RATIOS, 1.25, np.ones(runs))
        process = mixture.fold(process, mass, evidence)
        alarmed |= process.mean(axis=1) >= 1 / alpha
    return float(alarmed.mean())


def test_looking_after_every_window_keeps_the_error_probability() -> None:
    runs, alpha = 20_000, 0.05
    rate = false_alarms(np.random.default_rng(11), alpha, runs, 200)
    assert rate <= alpha + 3 * np.sqrt(alpha * (1 - alpha) / runs)
    assert rate > 0  # else this would not test anything


def test_onset_prior_is_a_probability() -> None:
    late = sum(mixture.onset_mass(w, 0, step_up=False) for w in range(100_000))
    steps = sum(
        mixture.onset_mass(1, k, step_up=True) - mixture.onset_mass(1, k, step_up=False)
        for k in range(60)
    )
    assert 0.99 < late + steps <= 1.0


def test_confidence_sequence_holds_at_all_times_together() -> None:
    rng = np.random.default_rng(3)
    share, ratio, missed, runs = 0.3, 2.0, 0, 300
    for _ in range(runs):
        support = np.zeros_like(mixture.RATIO_GRID)
        for _ in range(40):
            x = float(rng.poisson(6 * share * ratio))
            n = x + rng.poisson(6 * (1 - share))
            support += mixture.log_support(x, n, share, 1.0)
            low, high = mixture.confidence_sequence(support, 0.05)
            step = mixture.RATIO_GRID[1] / mixture.RATIO_GRID[0]
            if low > ratio * step or (high is not None and high < ratio / step):
                missed += 1
                break
    assert missed / runs <= 0.05


def test_interval_is_unbounded_without_evidence() -> None:
    assert mixture.confidence_sequence(np.zeros_like(mixture.RATIO_GRID), 0.05) == (0.0, None)


def test_expected_growth_is_the_divergence_of_the_binomials() -> None:
    share, ratio, null, errors = 0.2, 3.0, 1.25, 50.0
    n = errors * (1 - share) + errors * share * ratio
    p, q = binomial(share, ratio), binomial(share, null)
    expected = n * stats.entropy([p, 1 - p], [q, 1 - q])
    assert mixture.growth(errors, share, ratio, null, 1.0, 1e9) == pytest.approx(expected)
