"""Dispersion against counts whose variance-to-mean ratio is known."""

from __future__ import annotations

import numpy as np
import pytest

from streamwatch.detect.dispersion import Dispersion


def learned(counts: list[float], exposures: list[float]) -> float:
    dispersion = Dispersion()
    for count, exposure in zip(counts, exposures, strict=True):
        dispersion.learn({"a": count}, exposure)
    return dispersion.of(["a"])[0]


def test_poisson_counts_have_dispersion_one() -> None:
    rng = np.random.default_rng(5)
    counts = rng.poisson(20, 2_000).astype(float).tolist()
    assert learned(counts, [100.0] * 2_000) == pytest.approx(1.0, abs=0.12)


def test_clustered_counts_have_the_dispersion_of_their_distribution() -> None:
    rng = np.random.default_rng(5)
    mean, phi = 20.0, 4.0
    size = mean / (phi - 1)
    counts = rng.negative_binomial(size, 1 / phi, 4_000).astype(float).tolist()
    assert learned(counts, [100.0] * 4_000) == pytest.approx(phi, rel=0.25)


def test_changing_exposure_and_slow_drift_are_not_dispersion() -> None:
    rng = np.random.default_rng(5)
    exposures = [100.0 if (i // 50) % 2 else 400.0 for i in range(2_000)]
    rates = [0.1 * (1 + 0.5 * np.sin(i / 300)) for i in range(2_000)]
    counts = [float(rng.poisson(e * r)) for e, r in zip(exposures, rates, strict=True)]
    assert learned(counts, exposures) == pytest.approx(1.0, abs=0.15)


def test_never_seen_fingerprint_takes_the_pool() -> None:
    dispersion = Dispersion()
    for count in [0.0, 50.0] * 100:
        dispersion.learn({"a": count}, 100.0)
    assert dispersion.of(["b"]) == [dispersion.pool]
    assert dispersion.pool > 5


def test_order_of_fingerprints_does_not_matter() -> None:
    one, other = Dispersion(), Dispersion()
    for i in range(50):
        counts = {"a": float(i % 3), "b": float(i % 5), "c": 1.0}
        one.learn(counts, 10.0)
        other.learn(dict(reversed(counts.items())), 10.0)
    assert one.of(["a", "b", "c"]) == other.of(["a", "b", "c"])
