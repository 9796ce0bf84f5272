"""The judge of one rollout: windows of evidence in, an assessment out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from streamwatch.detect.cells import WEIGHT_SERVICE, Cells, WindowEvidence
from streamwatch.detect.crash import CrashWatch
from streamwatch.detect.dispersion import TOTAL
from streamwatch.detect.mixture import (
    MIRRORED_RATIOS,
    ONSET_START,
    RATIO_GRID,
    Floats,
    confidence_sequence,
    fold,
    growth,
    log_likelihood_ratio,
    log_support,
    onset_mass,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamwatch.detect.arms import ArmTick
    from streamwatch.detect.dispersion import Dispersion
    from streamwatch.policy import Policy

BASELINE, CANDIDATE = 0, 1

#: A share this much above the last step's, in ratio and in difference, is a step up.
STEP_RATIO, STEP_DIFFERENCE = 1.5, 0.03

#: Fractions of `negligible_error_rate` that the test for passing without errors mixes over.
QUIET_FRACTIONS: Floats = np.array([0.1, 0.25, 0.5])

#: A release is not called good while the evidence against it is above this.
SMALL_E = 10.0


class Totals(msgspec.Struct):
    """What a fingerprint did since the rollout opened: every record, warm-up included."""

    baseline: int = 0
    candidate: int = 0
    since: int = 0


class Judge(msgspec.Struct):
    """The evidence of one rollout.

    Attributes:
        cells: the process of each fingerprint.
        mirrored: process against "the ratio is at least `unacceptable_ratio`", shape (3,).
        quiet: log process against "the error rate is at least negligible", shape (3,).
        support: log likelihood on `mixture.RATIO_GRID`, for the interval.
        windows: windows folded.
        step_ups: steps of the candidate's share so far.
        step_share: share at the last step.
        exposure: records and requests of each arm in the open window, past warm-up: [arm][unit].
        tested_exposure: the same in all folded windows.
        tested_errors: counted errors of each arm in all folded windows.
        raw_errors: error records of each arm in the open window, past warm-up: every repeat.
        tested_raw_errors: the same in all folded windows.
        totals: by fingerprint.
        records: log records of each arm, warm-up included.
        requests: request records of each arm, warm-up included.
        crash: whether the candidate fails outright.
        e_value: evidence at the last tick.
        e_greatest: greatest evidence at any tick.
        e_cells: evidence of each cell at the last tick.
        good_greatest: greatest evidence that the release is good.
        share: candidate's share of exposure in the last window that had any.
    """

    cells: Cells
    mirrored: Floats
    quiet: Floats
    support: Floats
    exposure: Floats
    tested_exposure: Floats
    tested_errors: Floats
    raw_errors: Floats
    tested_raw_errors: Floats
    e_cells: Floats
    windows: int = 0
    step_ups: int = 0
    step_share: float = 0.0
    totals: dict[str, Totals] = {}
    records: list[int] = msgspec.field(default_factory=lambda: [0, 0])
    requests: list[int] = msgspec.field(default_factory=lambda: [0, 0])
    crash: CrashWatch = msgspec.field(default_factory=CrashWatch)
    e_value: float = 0.0
    e_greatest: float = 0.0
    good_greatest: float = 0.0
    share: float = 0.0

    @classmethod
    def of(cls, known: list[str], policy: Policy) -> Judge:
        """The judge of a rollout that opens now.

        Args:
            known: fingerprints seen in the baseline before.
            policy: the service's policy.
        """
        return cls(
            cells=Cells.of(known, policy.window_cap),
            mirrored=np.ones(len(MIRRORED_RATIOS)),
            quiet=np.zeros(len(QUIET_FRACTIONS)),
            support=np.zeros(len(RATIO_GRID)),
            exposure=np.zeros((2, 2)),
            tested_exposure=np.zeros((2, 2)),
            tested_errors=np.zeros(2),
            raw_errors=np.zeros(2),
            tested_raw_errors=np.zeros(2),
            e_cells=np.zeros(len(known)),
        )

    def observe(
        self,
        tick: int,
        baseline: ArmTick,
        candidate: ArmTick,
        dispersion: Dispersion,
        kind_of: Callable[[str], str],
        policy: Policy,
    ) -> None:
        """Take in one complete tick of both arms and bring the evidence up to date.

        Args:
            tick: the tick.
            baseline: what the baseline did in it.
            candidate: what the candidate did in it.
            dispersion: how clustered errors are.
            kind_of: what sort of error a fingerprint is; one may be a new name of another of the
                same kind.
            policy: the service's policy.
        """
        self._add(tick, baseline, candidate, kind_of, policy)
        phi = np.array(dispersion.of(list(self.cells.index)))
        window = self._window_share(policy)
        step_up = self._is_step_up(window)
        mass = onset_mass(self.windows, self.step_ups, step_up=step_up)
        evidence = self.cells.evidence(
            window, phi, policy.tolerated_ratio, policy.arm_noise, policy.window_cap
        )
        self.e_value, self.e_cells = self.cells.e_values(evidence, mass)
        self.e_greatest = max(self.e_greatest, self.e_value)
        if policy.crash_bypass:
            self.crash.observe(baseline, candidate, self.unit(policy))
        if (tick + 1) % policy.window_seconds == 0:
            self._fold(window, dispersion.of([TOTAL])[0], evidence, mass, policy)
            if step_up:
                self.step_ups += 1
                self.step_share = window

    def unit(self, policy: Policy) -> int:
        """What a rate is per: 0 log records, 1 requests."""
        if policy.exposure == "auto":
            return int(all(self.requests))
        return int(policy.exposure == "requests")

    def failed(self, policy: Policy) -> bool:
        """Whether the evidence against the candidate reached its threshold."""
        return self.crash.crashed or self.e_value >= 1 / policy.false_halt_probability

    def good(self, policy: Policy) -> bool:
        """Whether the candidate was shown to be good and nothing now speaks against it."""
        return (
            self.good_greatest >= 1 / policy.miss_probability
            and self.e_value < SMALL_E
            and not self.repeats_more(policy)
        )

    def repeats_more(self, policy: Policy) -> bool:
        """Whether the candidate's error records, every repeat counted, are unacceptably many.

        The test counts a client once in a while however often it fails, so that a retry storm
        halts nothing. But what fails again and again for few clients was not shown to be good.
        """
        errors = self.tested_raw_errors + self.raw_errors
        exposure = self._exposed(self.tested_exposure + self.exposure, errors, policy)
        if exposure.min() <= 0:
            return False
        rates = errors / exposure
        return bool(
            rates[CANDIDATE] >= policy.negligible_error_rate
            and rates[CANDIDATE] >= policy.unacceptable_ratio * rates[BASELINE]
        )

    def visible_ratio(self, dispersion: Dispersion, policy: Policy) -> float | None:
        """Smallest ratio that the traffic so far would be expected to have shown."""
        for ratio in RATIO_GRID[policy.tolerated_ratio < RATIO_GRID]:
            gain = self._growth(float(ratio), dispersion, policy)
            if gain is not None and gain * self.windows >= self._needed(policy):
                return float(ratio)
        return None

    def seconds_to_decision(self, dispersion: Dispersion, policy: Policy) -> int | None:
        """Expected event time until `unacceptable_ratio` would be shown at the present traffic."""
        gain = self._growth(policy.unacceptable_ratio, dispersion, policy)
        if gain is None or gain <= 0:
            return None
        windows = self._needed(policy) / gain - self.windows
        seconds = max(1, math.ceil(windows)) * policy.window_seconds
        return seconds if seconds <= policy.max_rollout_seconds else None

    def ratio(self, policy: Policy) -> float | None:
        """Estimated rate ratio of what was tested; None where a rate is not known."""
        x, n = self._window_errors()
        exposure = (self.tested_exposure + self.exposure)[:, self.unit(policy)]
        errors = self.tested_errors + np.array([n - x, x])
        if exposure.min() <= 0 or errors[BASELINE] <= 0:
            return None
        rates = errors / exposure
        return float(rates[CANDIDATE] / rates[BASELINE])

    def interval(self, dispersion: Dispersion, policy: Policy) -> tuple[float, float | None]:
        """Ends of the ratio's confidence sequence; 0.0 and None where it is unbounded."""
        share = self._window_share(policy)
        support = self.support
        if 0.0 < share < 1.0:
            x, n = self._window_errors()
            scale = self._total_scale(n, share, dispersion.of([TOTAL])[0], policy)
            support = support + log_support(x, n, share, scale)
        return confidence_sequence(support, policy.miss_probability)

    def excess_errors(self, policy: Policy) -> float:
        """Candidate's errors above what the baseline's rate would have made of its exposure."""
        exposure = self.requests if self.unit(policy) else self.records
        errors = self.errors()
        if not exposure[BASELINE]:
            return 0.0
        expected = errors[BASELINE] / exposure[BASELINE] * exposure[CANDIDATE]
        return max(0.0, errors[CANDIDATE] - expected)

    def errors(self) -> tuple[int, int]:
        """Error records of the baseline and of the candidate."""
        return (
            sum(totals.baseline for totals in self.totals.values()),
            sum(totals.candidate for totals in self.totals.values()),
        )

    def _add(
        self,
        tick: int,
        baseline: ArmTick,
        candidate: ArmTick,
        kind_of: Callable[[str], str],
        policy: Policy,
    ) -> None:
        for arm, side in ((BASELINE, baseline), (CANDIDATE, candidate)):
            self.records[arm] += side.records
            self.requests[arm] += side.requests
            self.exposure[arm] += side.mature_records, side.mature_requests
            self.raw_errors[arm] += side.mature_errors
        for group in sorted(baseline.errors.keys() | candidate.errors.keys()):
            totals = self.totals.get(group)
            appeared = group not in self.cells.index
            row = self.cells.row(group, policy.window_cap)
            if row is not None and appeared:
                missing = self._missing()
                kind = kind_of(group)
                alike = [missing[name] for name in missing if kind_of(name) == kind]
                self.cells.renames.suspect(row, alike, self.cells.process)
            if totals is None:
                # Beyond the cells' bound everything goes into one nameless sum.
                totals = self.totals.setdefault(group if row is not None else "", Totals())
            totals.baseline += baseline.errors.get(group, 0)
            totals.candidate += candidate.errors.get(group, 0)
            if not totals.since and group in candidate.errors:
                totals.since = tick
            if row is None:
                continue
            x = candidate.counted.get(group, 0.0)
            self.cells.x[row] += x
            self.cells.n[row] += x + baseline.counted.get(group, 0.0)
            if group in baseline.raw or group in candidate.raw:
                self.cells.caps[row] = policy.raw_window_cap
        if self.cells.renames.pairs:
            self.cells.renames.keep(set(self._missing().values()))

    def _missing(self) -> dict[str, int]:
        """Known fingerprints that the candidate never made, the most frequent first, with rows."""
        nothing = Totals()
        known = list(self.cells.index.items())[: self.cells.known]
        counts = {name: self.totals.get(name, nothing) for name, _ in known}
        known.sort(key=lambda item: (-counts[item[0]].baseline, item[1]))
        return {name: row for name, row in known if not counts[name].candidate}

    def _exposed(self, exposure: Floats, errors: Floats, policy: Policy) -> Floats:
        """Exposure of each arm, in the unit of the policy.

        A release that fails before it logs any request has served what failed, at the least:
        without this it would have no exposure, and nothing that it does would count.
        """
        known = exposure[:, self.unit(policy)]
        return np.where(known > 0, known, errors)

    def _window_share(self, policy: Policy) -> float:
        exposure = self._exposed(self.exposure, self.raw_errors, policy)
        total = float(exposure.sum())
        share = float(exposure[CANDIDATE]) / total if total > 0 else 0.0
        if total > 0:
            self.share = share
        return share

    def _is_step_up(self, share: float) -> bool:
        return (
            0.0 < share < 1.0
            and share > self.step_share * STEP_RATIO
            and share > self.step_share + STEP_DIFFERENCE
        )

    def _fold(
        self,
        share: float,
        total_phi: float,
        evidence: WindowEvidence,
        mass: float,
        policy: Policy,
    ) -> None:
        x, n = self._window_errors()
        if 0.0 < share < 1.0:
            # Told on the sums: a release is good or not as a whole, however its errors are named.
            scale = self._total_scale(n, share, total_phi, policy)
            against = log_likelihood_ratio(
                np.array([x]),
                np.array([n]),
                share,
                MIRRORED_RATIOS,
                policy.unacceptable_ratio,
                np.array([scale]),
            )[0]
            self.mirrored = fold(self.mirrored, 0.0, np.minimum(against, policy.window_cap))
            self.support += log_support(x, n, share, scale)
            self.tested_errors += n - x, x
            self.tested_exposure += self.exposure
            self.tested_raw_errors += self.raw_errors
            self.windows += 1
            self._add_quiet(total_phi, policy)
            self.cells.close_window(evidence, mass)
        else:
            # One arm alone says nothing of the other: the window is left out of the comparison.
            self.cells.skip_window()
        self.exposure, self.raw_errors = np.zeros((2, 2)), np.zeros(2)
        best = max(float(self.mirrored.mean()), float(np.exp(np.minimum(self.quiet, 50)).mean()))
        self.good_greatest = max(self.good_greatest, best)

    def _add_quiet(self, total_phi: float, policy: Policy) -> None:
        errors = self.raw_errors[CANDIDATE]
        expected = policy.negligible_error_rate * self.exposure[CANDIDATE, self.unit(policy)]
        gain = errors * np.log(QUIET_FRACTIONS) + expected * (1 - QUIET_FRACTIONS)
        self.quiet += np.minimum(gain / total_phi, policy.window_cap)

    def _growth(self, ratio: float, dispersion: Dispersion, policy: Policy) -> float | None:
        exposure = self.tested_exposure[:, self.unit(policy)]
        if not self.windows or exposure.min() <= 0 or self.tested_errors[BASELINE] <= 0:
            return None
        rate = self.tested_errors[BASELINE] / exposure[BASELINE]
        share = float(exposure[CANDIDATE] / exposure.sum())
        errors = float(rate * exposure.sum() / self.windows)
        scale = self._total_scale(errors, share, dispersion.of([TOTAL])[0], policy)
        null, cap = policy.tolerated_ratio, policy.window_cap
        return growth(errors, share, ratio, null, scale, cap)

    def _window_errors(self) -> tuple[float, float]:
        return float(self.cells.x.sum()), float(self.cells.n.sum())

    @staticmethod
    def _total_scale(n: float, share: float, phi: float, policy: Policy) -> float:
        return phi + policy.arm_noise * n * share * (1 - share)

    @staticmethod
    def _needed(policy: Policy) -> float:
        return math.log(1 / (policy.false_halt_probability * WEIGHT_SERVICE * ONSET_START))
