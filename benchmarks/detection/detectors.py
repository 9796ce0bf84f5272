"""What is measured, and what people use today, behind one interface."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from river.drift import ADWIN, PageHinkley
from simulator import CANDIDATE

from streamwatch.counts import CountsBatch
from streamwatch.engine import Engine
from streamwatch.signals.envelope import Signal

if TYPE_CHECKING:
    from streamwatch.counts import EngineInput


class Detector(Protocol):
    """Watches one rollout."""

    def feed(self, message: EngineInput) -> tuple[bool, bool]:
        """Take in a message; whether to halt, and whether the candidate is called good."""
        ...


class Streamwatch:
    """Our engine, with its default policy."""

    def __init__(self) -> None:
        self._engine = Engine()

    def feed(self, message: EngineInput) -> tuple[bool, bool]:
        """Take in a message."""
        outputs = self._engine.feed(message)
        halted = any(isinstance(output, Signal) for output in outputs)
        passed = any(
            not isinstance(output, Signal) and output.status == "Successful" for output in outputs
        )
        return halted, passed


class _OnOutcomes:
    """A drift detector on the candidate's requests, 1 for each that failed.

    This is how drift detectors are put on a canary: they know no baseline. Halts on a drift that
    leaves the error rate higher than it was over all of the rollout before.
    """

    def __init__(self, drift: ADWIN | PageHinkley) -> None:
        self._drift = drift
        self._failed = self._served = 0

    def feed(self, message: EngineInput) -> tuple[bool, bool]:
        """Take in a message; the failures of a second are spread evenly over its requests."""
        if not isinstance(message, CountsBatch):
            return False, False
        errors, requests = _counts(message)
        failed, served = min(errors[1], requests[1]), requests[1]
        drifted = False
        for number in range(served):
            self._drift.update((number + 1) * failed // served - number * failed // served)
            drifted = drifted or bool(self._drift.drift_detected)
        worse = served > 0 and failed * self._served > self._failed * served
        self._failed += failed
        self._served += served
        return drifted and worse, False


class Adwin(_OnOutcomes):
    """river's ADWIN with its default confidence (Bifet and Gavaldà 2007)."""

    def __init__(self) -> None:
        super().__init__(ADWIN())


class PageHinkleyTest(_OnOutcomes):
    """river's Page-Hinkley test as configured by default, for increases (Page 1954)."""

    def __init__(self) -> None:
        super().__init__(PageHinkley(mode="up"))


class Threshold:
    """A canary analysis as sample configurations have it.

    Once a minute, five times in a row at the most: fail when over 5 % of the candidate's requests
    failed in that minute.
    """

    def __init__(self) -> None:
        self._failed = self._served = 0

    def feed(self, message: EngineInput) -> tuple[bool, bool]:
        """Take in a message."""
        if not isinstance(message, CountsBatch) or not message.exposure.tick:
            return False, False
        errors, served = _counts(message)
        self._failed += errors[1]
        self._served += served[1]
        if message.exposure.tick[0] % 60 or not self._served:
            return False, False
        bad = self._failed > 0.05 * self._served
        self._failed = self._served = 0
        return bad, False


DETECTORS: dict[str, type[Detector]] = {
    "streamwatch": Streamwatch,
    "adwin": Adwin,
    "page-hinkley": PageHinkleyTest,
    "threshold": Threshold,
}


def _counts(batch: CountsBatch) -> tuple[list[int], list[int]]:
    """Errors and requests of the baseline and of the candidate."""
    served, errors = [0, 0], [0, 0]
    candidate = batch.releases.index(CANDIDATE)
    for release, requests in zip(batch.exposure.release, batch.exposure.requests, strict=True):
        served[release == candidate] += requests
    for release, count in zip(batch.errors.release, batch.errors.count, strict=True):
        errors[release == candidate] += count
    return errors, served
