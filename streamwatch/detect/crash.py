"""The crash bypass: a candidate that fails outright is halted at once, warm-up included."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from streamwatch.detect.arms import ArmTick

#: The last seconds looked at.
SECONDS = 10

#: Least exposure of each arm in them: with less, one could be free of errors by chance while both
#: fail alike.
EXPOSURE = 20

#: The share of the candidate's exposure that must fail, and of the baseline's that may.
CANDIDATE_SHARE, BASELINE_SHARE = 0.5, 0.1

#: Seconds of them in which the candidate must fail so: what fails outright keeps failing, a burst
#: of errors does not.
FAILING_SECONDS = 5

#: Clients that must be hit, where clients are known: one that keeps retrying is no crash.
CLIENTS = 5


class CrashTick(msgspec.Struct, frozen=True):
    """One tick of both arms.

    Attributes:
        baseline_exposure: of the baseline.
        baseline_failing: how much of it failed.
        exposure: of the candidate.
        failing: how much of it failed.
        clients: who met the candidate's most frequent error, at most `CLIENTS` of them.
        anonymous: some of these errors named no client.
    """

    baseline_exposure: int
    baseline_failing: int
    exposure: int
    failing: int
    clients: list[int]
    anonymous: bool


class CrashWatch(msgspec.Struct):
    """Looks at the last seconds of a rollout.

    Attributes:
        recent: the last ticks, newest last.
        crashed: the candidate failed outright; stays true.
    """

    recent: list[CrashTick] = []
    crashed: bool = False

    def observe(self, baseline: ArmTick, candidate: ArmTick, unit: int) -> None:
        """Take in one complete tick.

        Args:
            baseline: what the baseline did in it.
            candidate: what the candidate did in it.
            unit: what exposure is: 0 log records, 1 requests.
        """
        clients = candidate.clients.get(candidate.worst() or "", set())
        tick = CrashTick(
            baseline_exposure=(baseline.records, baseline.requests)[unit],
            baseline_failing=baseline.failing(),
            exposure=(candidate.records, candidate.requests)[unit],
            failing=candidate.failing(),
            clients=sorted(client for client in clients if client is not None)[:CLIENTS],
            anonymous=None in clients,
        )
        self.recent = [*self.recent[-(SECONDS - 1) :], tick]
        self.crashed = self.crashed or self._crashes()

    def _crashes(self) -> bool:
        exposure = sum(tick.exposure for tick in self.recent)
        baseline_exposure = sum(tick.baseline_exposure for tick in self.recent)
        failing = sum(min(tick.failing, tick.exposure) for tick in self.recent)
        failing_seconds = sum(
            tick.exposure > 0 and tick.failing >= CANDIDATE_SHARE * tick.exposure
            for tick in self.recent
        )
        baseline_failing = sum(tick.baseline_failing for tick in self.recent)
        clients = {client for tick in self.recent for client in tick.clients}
        return (
            min(exposure, baseline_exposure) >= EXPOSURE
            and failing >= CANDIDATE_SHARE * exposure
            and failing_seconds >= FAILING_SECONDS
            and baseline_failing <= BASELINE_SHARE * baseline_exposure
            and (len(clients) >= CLIENTS or any(tick.anonymous for tick in self.recent))
        )
