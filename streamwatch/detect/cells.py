"""The test's state per fingerprint of one rollout, as arrays over all of its cells."""

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
from streamwatch.detect.renames import Renames

#: How α is shared between the service as a whole, known fingerprints and new ones.
WEIGHT_SERVICE = 0.35
WEIGHT_KNOWN = 0.30
WEIGHT_NEW = 0.35

#: Most fingerprints that one rollout tests one by one.
MAX_CELLS = 2_000


def _zeros(*shape: int) -> Floats:
    return np.zeros(shape)


class WindowEvidence(msgspec.Struct, frozen=True):
    """What one window says against the hypothesis, per ratio.

    Attributes:
        cells: tempered log likelihood ratios, capped, shape (cells, K).
        service: their sum over the cells, capped, shape (K,).
        renames: the same for each pair of a new and a missing fingerprint, shape (pairs, K).
    """

    cells: Floats
    service: Floats
    renames: Floats


class Cells(msgspec.Struct):
    """Process and open window of every fingerprint, and of the service.

    Attributes:
        index: fingerprint to row; known ones first, then new ones in order of appearance.
        known: how many were seen in the baseline before the rollout.
        process: M, shape (cells, K).
        service: M of the service cell, shape (K,).
        mass: onset prior spent so far.
        x: candidate's errors in the open window, one per cell.
        n: both arms' errors in the open window.
        caps: greatest evidence of a window, one per cell.
        renames: what new fingerprints may be other names of.
        overflow: fingerprints beyond the bound, which only the totals count.
    """

    index: dict[str, int]
    known: int
    process: Floats
    service: Floats
    mass: float
    x: Floats
    n: Floats
    caps: Floats
    renames: Renames = msgspec.field(default_factory=Renames)
    overflow: int = 0

    @classmethod
    def of(cls, known: list[str], cap: float) -> Cells:
        """The cells of a rollout that opens now.

        Args:
            known: fingerprints of the baseline, in a fixed order.
            cap: greatest evidence of a window, in nats.
        """
        known = known[:MAX_CELLS]
        size = len(known)
        return cls(
            index={group: row for row, group in enumerate(known)},
            known=size,
            process=_zeros(size, len(RATIOS)),
            service=_zeros(len(RATIOS)),
            mass=0.0,
            x=_zeros(size),
            n=_zeros(size),
            caps=np.full(size, cap),
        )

    def row(self, group: str, cap: float) -> int | None:
        """The row of a fingerprint, made on first sight; None beyond the bound."""
        row = self.index.get(group)
        if row is None:
            if len(self.index) >= MAX_CELLS:
                self.overflow += 1
                return None
            row = self.index[group] = len(self.index)
            # It made no error so far, so its process is the prior it would have gathered.
            start = np.full((1, len(RATIOS)), self.mass)
            self.process = np.concatenate([self.process, start])
            self.x, self.n = np.append(self.x, 0.0), np.append(self.n, 0.0)
            self.caps = np.append(self.caps, cap)
        return row

    def evidence(
        self, share: float, dispersion: Floats, tolerated: float, arm_noise: float, cap: float
    ) -> WindowEvidence:
        """What the open window says so far."""
        active = self.n > 0
        cells = np.zeros_like(self.process)
        if active.any() and 0.0 < share < 1.0:
            scale = scale_of(self.n[active], share, dispersion[active], arm_noise)
            ratios = log_likelihood_ratio(
                self.x[active], self.n[active], share, RATIOS, tolerated, scale
            )
            cells[active] = np.minimum(ratios, self.caps[active, None])
        renames = self.renames.evidence(
            self.x, self.n, self.caps, share, dispersion, tolerated, arm_noise
        )
        return WindowEvidence(cells, np.minimum(cells.sum(axis=0), cap), renames)

    def e_values(self, evidence: WindowEvidence, mass: float) -> tuple[float, Floats]:
        """Evidence if the window ended now: of everything together, and of each cell alone."""
        service = float(fold(self.service, mass, evidence.service).mean())
        cells = fold(self.process, mass, evidence.cells).mean(axis=1)
        cells = self.renames.limit(cells, evidence.renames, mass)
        return WEIGHT_SERVICE * service + float(self.weights() @ cells), cells

    def weights(self) -> Floats:
        """The weight of each cell in the mixture: with the service, at most 1 together."""
        order = np.arange(1, len(self.index) - self.known + 1, dtype=float)
        known = np.full(self.known, WEIGHT_KNOWN / max(self.known, 1))
        return np.concatenate([known, WEIGHT_NEW / (order * (order + 1))])

    def close_window(self, evidence: WindowEvidence, mass: float) -> None:
        """Fold the open window into the process and start the next."""
        self.process = fold(self.process, mass, evidence.cells)
        self.service = fold(self.service, mass, evidence.service)
        self.renames.close_window(evidence.renames, mass)
        self.mass += mass
        self.skip_window()

    def skip_window(self) -> None:
        """Start the next window and let nothing of this one count."""
        self.x, self.n = np.zeros_like(self.x), np.zeros_like(self.n)
