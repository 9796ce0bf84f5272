"""The rename check: a reworded message is not a new error.

A fingerprint that only the candidate makes may be an old one under a new name: its old name is then
missing from the candidate. So a new fingerprint counts only as far as its sum with each missing
fingerprint of the same kind also speaks against the candidate. The least of several e-values is
below each of them, so the guarantee stands; a release that really replaces one error by another, at
the same rate, is no worse than its baseline.
"""

from __future__ import annotations

import msgspec
import numpy as np

from streamwatch.detect.mixture import (
    RATIOS,
    Floats,
    fold,
    log_likelihood_ratio,
    scale_of,
)

#: Missing fingerprints that one new fingerprint is compared with, the most frequent first.
PAIRS_PER_NEW = 64

#: Pairs of one rollout.
MAX_PAIRS = 1_024


def _empty() -> Floats:
    return np.zeros((0, len(RATIOS)))


class Renames(msgspec.Struct):
    """Pairs of a new fingerprint and one that it may replace.

    Attributes:
        pairs: rows of the cells, new and missing.
        process: M of each pair's sum, shape (pairs, K).
    """

    pairs: list[tuple[int, int]] = []
    process: Floats = msgspec.field(default_factory=_empty)

    def suspect(self, new: int, missing: list[int], process: Floats) -> None:
        """A new fingerprint appeared.

        Args:
            new: its row.
            missing: rows of fingerprints of its kind that the candidate never made.
            process: the processes of all cells. Before this window the new fingerprint made no
                error, so the sum's process is that of the missing one.
        """
        rows = missing[: min(PAIRS_PER_NEW, MAX_PAIRS - len(self.pairs))]
        if rows:
            self.pairs += [(new, row) for row in rows]
            self.process = np.concatenate([self.process, process[rows]])

    def keep(self, missing: set[int]) -> None:
        """Drop the pairs whose old name was met in the candidate after all."""
        alive = [number for number, (_, row) in enumerate(self.pairs) if row in missing]
        if len(alive) < len(self.pairs):
            self.pairs = [self.pairs[number] for number in alive]
            self.process = self.process[alive]

    def evidence(
        self,
        x: Floats,
        n: Floats,
        caps: Floats,
        share: float,
        dispersion: Floats,
        tolerated: float,
        arm_noise: float,
    ) -> Floats:
        """What the open window says of each pair's sum, shape (pairs, K); arguments by cell."""
        new, old = self._rows()
        if not len(new) or not 0.0 < share < 1.0:
            return np.zeros_like(self.process)
        errors = n[new] + n[old]
        scale = scale_of(errors, share, np.maximum(dispersion[new], dispersion[old]), arm_noise)
        ratios = log_likelihood_ratio(x[new] + x[old], errors, share, RATIOS, tolerated, scale)
        return np.asarray(np.minimum(ratios, np.minimum(caps[new], caps[old])[:, None]))

    def limit(self, e_cells: Floats, evidence: Floats, mass: float) -> Floats:
        """The cells' e-values, each new one no greater than any of its pairs'."""
        new, _ = self._rows()
        if not len(new):
            return e_cells
        limited = e_cells.copy()
        np.minimum.at(limited, new, fold(self.process, mass, evidence).mean(axis=1))
        return limited

    def close_window(self, evidence: Floats, mass: float) -> None:
        """Fold the open window into the processes."""
        self.process = fold(self.process, mass, evidence)

    def _rows(self) -> tuple[np.ndarray, np.ndarray]:
        rows = np.array(self.pairs, dtype=np.intp).reshape(-1, 2)
        return rows[:, 0], rows[:, 1]
