"""How clustered a service's errors are: the variance-to-mean ratio of its window counts.

Estimated from successive differences of the baseline's windows (von Neumann, Kent, Bellinson and
Hart 1941), which a slow drift of the rate does not inflate. Two windows with counts a, b and
exposures e, f have, at a common rate, E(b − a·f/e)² = φ·rate·(f + f²/e); φ is the ratio of the
discounted sums of both sides, shrunk towards the pool of all of the service's fingerprints, and the
pool towards a cautious constant.
"""

from __future__ import annotations

import msgspec

#: Windows after which what was seen counts half: an hour of ten-second windows.
HALF_LIFE_WINDOWS = 360
_DECAY = 0.5 ** (1 / HALF_LIFE_WINDOWS)

#: What the pool is taken for before anything was seen, and how many expected errors that weighs.
PRIOR_DISPERSION = 1.5
PRIOR_WEIGHT = 10.0
#: How many expected errors the pool weighs against a fingerprint's own history.
POOL_WEIGHT = 20.0

#: Names the errors of all fingerprints together among the fingerprints.
TOTAL = ""

#: Histories kept of one service: those of the most errors.
MAX_HISTORIES = 2_000

#: Below this a history is forgotten.
_NEGLIGIBLE = 1e-3


class History(msgspec.Struct):
    """One fingerprint's windows in the baseline, discounted.

    Attributes:
        last: count in the previous window.
        squares: sum of squared successive differences.
        expected: sum of what they would be for Poisson counts.
    """

    last: float = 0.0
    squares: float = 0.0
    expected: float = 0.0


class Dispersion(msgspec.Struct):
    """Dispersion of each fingerprint of one service, learned from its baseline."""

    histories: dict[str, History] = {}
    last_exposure: float = 0.0

    def learn(self, counts: dict[str, float], exposure: float) -> None:
        """Take in one window of the baseline.

        Args:
            counts: errors by fingerprint; a fingerprint left out made none.
            exposure: the baseline's exposure in the window; a window without any is skipped.
        """
        if exposure <= 0:
            return
        counts = counts | {TOTAL: sum(counts.values())}
        if self.last_exposure > 0:
            self._compare(counts, exposure)
        for group, count in counts.items():
            self.histories.setdefault(group, History()).last = count
        self.last_exposure = exposure
        excess = len(self.histories) - MAX_HISTORIES
        if excess > 0:
            for group in sorted(self.histories, key=self._weight)[:excess]:
                del self.histories[group]

    def of(self, groups: list[str]) -> list[float]:
        """φ of each fingerprint, at least 1; the pool's for one that was never seen.

        `TOTAL` stands for all fingerprints together.
        """
        pool = self.pool
        return [self._shrunk(self.histories.get(group), pool) for group in groups]

    @property
    def pool(self) -> float:
        """φ of a fingerprint that nothing is known of, at least 1."""
        alone = [history for group, history in self.histories.items() if group != TOTAL]
        squares = sum(history.squares for history in alone)
        expected = sum(history.expected for history in alone)
        return max(
            1.0,
            (squares + PRIOR_WEIGHT * PRIOR_DISPERSION) / (expected + PRIOR_WEIGHT),
        )

    def _weight(self, group: str) -> tuple[bool, float, float, str]:
        history = self.histories[group]
        return group == TOTAL, history.expected, history.last, group

    @staticmethod
    def _shrunk(history: History | None, pool: float) -> float:
        if history is None:
            return pool
        return max(1.0, (history.squares + POOL_WEIGHT * pool) / (history.expected + POOL_WEIGHT))

    def _compare(self, counts: dict[str, float], exposure: float) -> None:
        growth = exposure / self.last_exposure
        forgotten = []
        for group in sorted(self.histories.keys() | counts.keys()):
            history = self.histories.setdefault(group, History())
            count = counts.get(group, 0.0)
            rate = (count + history.last) / (exposure + self.last_exposure)
            history.squares = history.squares * _DECAY + (count - history.last * growth) ** 2
            history.expected = history.expected * _DECAY + rate * exposure * (1 + growth)
            history.last = count
            if history.expected < _NEGLIGIBLE and count == 0:
                forgotten.append(group)
        for group in forgotten:
            del self.histories[group]
