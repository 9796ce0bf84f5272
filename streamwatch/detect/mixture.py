"""The sequential test: a mixture e-process for the ratio of two clustered Poisson rates.

Let baseline and candidate make errors at rates λ and ρλ per unit of exposure. In a window with N
errors in both arms, of which x in the candidate, and π the candidate's share of the exposure, x is
binomial given N with success probability πρ/(1−π+πρ): λ cancels, and with it whatever hits both
arms alike (Przyborowski and Wilenski 1940, "Homogeneity of results in testing samples from Poisson
series"). The log likelihood ratio of ρ_k against ρ_0 is therefore

    x ln(ρ_k/ρ_0) − N ln((1−π+πρ_k)/(1−π+πρ_0)).

exp of it has mean 1 at ρ = ρ_0 and at most 1 for ρ < ρ_0, so its running product is a test
supermartingale, and by Ville's inequality (Ville 1939; Howard, Ramdas, McAuliffe and Sekhon 2021)
the chance that it ever reaches 1/α is at most α, however often it is looked at. So is any mixture
over ρ_k and over the onset w (Shiryaev-Roberts with a proper prior: Σ_w m_w ≤ 1):

    M_k ← (M_k + m_w) exp(ℓ_k).

The guarantee is exact for Poisson errors. Clustered errors are over-dispersed: the log likelihood
is divided by φ + κNπ(1−π), with φ the variance-to-mean ratio of window counts (quasi-likelihood,
Wedderburn 1974) and κ the variance of the log ratio between two healthy arms; and no window adds
more than `cap`. Under clustering the guarantee is approximate.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Ratios that the alternative mixes over.
RATIOS: Floats = np.array([1.5, 2.0, 3.0, 5.0, 10.0, 25.0, 100.0, 1000.0])

#: Ratios that the mirrored process ("the ratio is at least `unacceptable_ratio`") mixes over.
MIRRORED_RATIOS: Floats = np.array([0.5, 0.8, 1.0])

#: Ratios on which the confidence sequence is evaluated.
RATIO_GRID: Floats = np.geomspace(1 / 64, 4096, 145)

#: Keeps the mirrored process finite; any threshold in use is far below.
_CEILING = 1e12

ONSET_START = 0.5
ONSET_STEPS = 0.3
ONSET_LATE = 0.2
#: Windows over which late onset is about equally likely; beyond, its prior falls as 1/w².
ONSET_WINDOWS = 360


def log_likelihood_ratio(
    x: Floats, n: Floats, share: float, ratios: Floats, null: float, scale: Floats
) -> Floats:
    """Tempered log likelihood ratio of each ratio against `null`, in nats.

    Args:
        x: candidate's errors, one per cell.
        n: both arms' errors, one per cell.
        share: candidate's share of the exposure, 0 to 1.
        ratios: the alternatives, shape (K,).
        null: ratio under the hypothesis to be tested.
        scale: dispersion φ + κNπ(1−π), one per cell, at least 1.

    Returns:
        Shape (cells, K).
    """
    gain = np.log(ratios / null)
    loss = np.log((1 - share + share * ratios) / (1 - share + share * null))
    return np.asarray((np.outer(x, gain) - np.outer(n, loss)) / scale[:, None])


def scale_of(n: Floats, share: float, dispersion: Floats, arm_noise: float) -> Floats:
    """φ + κNπ(1−π) for each cell."""
    return dispersion + arm_noise * n * share * (1 - share)


def onset_mass(window: int, step_ups: int, *, step_up: bool) -> float:
    """Prior probability that a regression begins with this window.

    Args:
        window: windows folded before this one; 0 is the rollout's first.
        step_ups: exposure steps seen before this window.
        step_up: whether the candidate's share rose with this window.

    Returns:
        Mass; summed over all windows and steps of a rollout it does not exceed 1.
    """
    late = ONSET_LATE * ONSET_WINDOWS / ((window + ONSET_WINDOWS) * (window + ONSET_WINDOWS + 1))
    mass = late + (ONSET_START if window == 0 else 0.0)
    return mass + (ONSET_STEPS * 0.5 ** (step_ups + 1) if step_up else 0.0)


def fold(process: Floats, mass: float, evidence: Floats) -> Floats:
    """One step of the process, M ← (M + m) e^ℓ, for arrays of any equal shape."""
    return np.minimum((process + mass) * np.exp(evidence), _CEILING)


def confidence_sequence(support: Floats, miss: float) -> tuple[float, float | None]:
    """Ratios that are not yet excluded, at confidence 1 − miss for all times together.

    The set {ρ : mean_k exp(S_k − S(ρ)) < 1/miss} of Robbins' mixture method (Robbins 1970; the
    prior is uniform over `RATIO_GRID`).

    Args:
        support: S, the summed tempered log likelihood on `RATIO_GRID`.
        miss: chance that the true ratio is ever left out.

    Returns:
        Lower and upper end; 0.0 and None where the set runs off the grid.
    """
    peak = support.max()
    log_mean = peak + np.log(np.mean(np.exp(support - peak)))
    inside = np.flatnonzero(log_mean - support < np.log(1 / miss))
    low = 0.0 if inside[0] == 0 else float(RATIO_GRID[inside[0]])
    high = None if inside[-1] == len(RATIO_GRID) - 1 else float(RATIO_GRID[inside[-1]])
    return low, high


def log_support(x: float, n: float, share: float, scale: float) -> Floats:
    """Tempered log likelihood of one window on `RATIO_GRID`, up to a constant."""
    loss = np.log(1 - share + share * RATIO_GRID)
    return np.asarray((x * np.log(RATIO_GRID) - n * loss) / scale)


def growth(
    baseline_errors: float, share: float, ratio: float, null: float, scale: float, cap: float
) -> float:
    """Evidence in nats that one window is expected to add if the true ratio is `ratio`.

    Args:
        baseline_errors: errors that both arms together would make in a window at ratio 1.
        share: candidate's share of the exposure.
        ratio: the true ratio, taken as the alternative too.
        null: tolerated ratio.
        scale: dispersion.
        cap: greatest evidence of a window.
    """
    x = baseline_errors * share * ratio
    n = baseline_errors * (1 - share) + x
    loss = np.log((1 - share + share * ratio) / (1 - share + share * null))
    return float(min((x * np.log(ratio / null) - n * loss) / scale, cap))
