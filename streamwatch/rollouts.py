"""Which release of a service is the baseline, which ones are candidates, and since when.

Told by deployment events, or else inferred from exposure: a release that appears beside the
baseline is a candidate. Everything is driven by event time, so the same stream gives the same
rollouts.
"""

from __future__ import annotations

from enum import StrEnum
from hashlib import blake2b
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from streamwatch.counts import DeploymentEvent
    from streamwatch.policy import Policy

#: A service must be watched for so long before its baseline is chosen: the release that served
#: most. Without it, whichever of two running releases logs first would be the baseline.
SETTLE_SECONDS = 30

#: Bounds of what one service may make us remember.
MAX_RELEASES = 64
MAX_ROLLOUTS = 8


class Closing(StrEnum):
    """How a rollout ended."""

    PROMOTED = "promoted"
    WITHDRAWN = "withdrawn"
    SUPERSEDED = "superseded"
    TOO_OLD = "too old"


class Release(msgspec.Struct):
    """What was seen of one release.

    Attributes:
        first_tick: when it was first seen.
        last_tick: when it was last seen.
        records: log records so far.
        retired: its rollout is over; stragglers of it open no new one until it was silent. Not so
            a release younger than the one that was promoted beside it: it is judged anew.
    """

    first_tick: int
    last_tick: int
    records: int = 0
    retired: bool = False


class Rollout(msgspec.Struct):
    """A candidate beside a baseline.

    Attributes:
        id: 16 hex digits, the same on every run over the same stream.
        baseline: release to compare with.
        candidate: release to judge.
        opened: tick it began with.
        announced: a deployment event opened it.
        halted: a halt was signalled.
        closing: how it ended; None while it runs.
    """

    id: str
    baseline: str
    candidate: str
    opened: int
    announced: bool = False
    halted: bool = False
    closing: Closing | None = None


class ReleaseTracker(msgspec.Struct):
    """The rollout model of one service in one environment.

    Attributes:
        environment: where.
        service: which.
        baseline: the release that is taken for good; empty until settled.
        releases: by name, bounded.
        rollouts: the open ones, by candidate.
        previous: the baseline before, to go back to when this one is rolled back.
        first_tick: when the service was first seen.
        ignored_records: records of releases that nothing judges, for there are too many.
    """

    environment: str
    service: str
    baseline: str = ""
    previous: str = ""
    releases: dict[str, Release] = {}
    rollouts: dict[str, Rollout] = {}
    first_tick: int | None = None
    ignored_records: int = 0

    def observe(self, tick: int, records: dict[str, int], policy: Policy) -> list[Rollout]:
        """Take in one complete tick.

        Args:
            tick: the tick.
            records: log records by release.
            policy: for how long silence ends a rollout.

        Returns:
            The rollouts that ended with this tick, `closing` set. New ones stand in `rollouts`.
        """
        if self.first_tick is None:
            self.first_tick = tick
        for name in sorted(records):
            self._see(name, tick, records[name], policy)
        self._settle(tick)
        ended = self._return(tick, records, policy)
        for name in sorted(records):
            self._infer(name, tick, records[name])
        return ended + self._close(tick, policy)

    def apply(self, event: DeploymentEvent) -> list[Rollout]:
        """Take in what a deployment tool said; returns the rollouts that ended by it."""
        if event.kind == "started":
            self.baseline = self.baseline or event.baseline
            baseline = event.baseline or self.baseline
            if baseline and event.release not in (baseline, *self.rollouts):
                self._open(event.release, baseline, event.tick, announced=True)
            return []
        if event.kind == "promoted":
            return self._promote(event.release)
        if event.kind in ("aborted", "rolled_back"):
            if event.release == self.baseline:
                return self._go_back(event.baseline)
            return self._end([event.release], Closing.WITHDRAWN)
        return []

    def _see(self, name: str, tick: int, records: int, policy: Policy) -> None:
        release = self.releases.get(name)
        if release is None:
            if len(self.releases) >= MAX_RELEASES and not self._evict():
                self.ignored_records += records
                return
            release = self.releases[name] = Release(first_tick=tick, last_tick=tick)
        if release.retired and tick - release.last_tick >= policy.idle_close_seconds:
            release.retired = False
        release.last_tick = tick
        release.records += records

    def _evict(self) -> bool:
        spare = [name for name in self.releases if name not in (self.baseline, *self.rollouts)]
        if not spare:
            return False
        del self.releases[min(spare, key=lambda name: (self.releases[name].last_tick, name))]
        return True

    def _settle(self, tick: int) -> None:
        if self.baseline or self.first_tick is None or tick - self.first_tick < SETTLE_SECONDS:
            return
        most_first = sorted(self.releases, key=lambda name: (-self.releases[name].records, name))
        if most_first:
            self.baseline = most_first[0]

    def _return(self, tick: int, records: dict[str, int], policy: Policy) -> list[Rollout]:
        """Go back to the release before a baseline that is gone, if that one serves again.

        A candidate is promoted by `_close`; the release before came back too soon to be one.
        """
        baseline = self.releases.get(self.baseline)
        gone = baseline and tick - baseline.last_tick >= policy.idle_close_seconds
        if not gone or self.rollouts or not records.get(self.previous):
            return []
        return self._go_back(self.previous)

    def _infer(self, name: str, tick: int, records: int) -> None:
        if not self.baseline or name in (self.baseline, *self.rollouts):
            return
        release = self.releases.get(name)
        if release is None or release.retired:
            return
        if not self._open(name, self.baseline, tick, announced=False):
            self.ignored_records += records

    def _open(self, candidate: str, baseline: str, tick: int, *, announced: bool) -> bool:
        if len(self.rollouts) >= MAX_ROLLOUTS:
            return False
        identity = "\0".join((self.environment, self.service, baseline, candidate, str(tick)))
        self.rollouts[candidate] = Rollout(
            id=blake2b(identity.encode(), digest_size=8).hexdigest(),
            baseline=baseline,
            candidate=candidate,
            opened=tick,
            announced=announced,
        )
        return True

    def _close(self, tick: int, policy: Policy) -> list[Rollout]:
        ended: list[Rollout] = []
        for rollout in list(self.rollouts.values()):
            if rollout.candidate not in self.rollouts:
                continue
            alive = {
                name: tick - self._last_seen(name, rollout) < policy.idle_close_seconds
                for name in (rollout.baseline, rollout.candidate)
            }
            if tick - rollout.opened >= policy.max_rollout_seconds:
                ended += self._end([rollout.candidate], Closing.TOO_OLD)
            elif not alive[rollout.candidate]:
                ended += self._end([rollout.candidate], Closing.WITHDRAWN)
            elif not alive[rollout.baseline] and not rollout.halted:
                ended += self._promote(rollout.candidate)
        return ended

    def _last_seen(self, name: str, rollout: Rollout) -> int:
        release = self.releases.get(name)
        return max(rollout.opened, release.last_tick) if release else rollout.opened

    def _promote(self, name: str) -> list[Rollout]:
        if name == self.baseline:
            # Said again, or inferred before: the rollouts beside it go on.
            return []
        opened = self.rollouts[name].opened if name in self.rollouts else None
        ended = self._end([name], Closing.PROMOTED)
        ended += self._supersede(opened)
        if self.baseline in self.releases:
            self.releases[self.baseline].retired = True
        self.previous, self.baseline = self.baseline, name
        return ended

    def _go_back(self, baseline: str) -> list[Rollout]:
        """The baseline was rolled back; without a name, to the one before it."""
        baseline = baseline or self.previous
        if not baseline or baseline == self.baseline:
            return []
        ended = self._end([baseline], Closing.PROMOTED)
        ended += self._supersede(None)
        for name, retired in ((self.baseline, True), (baseline, False)):
            if name in self.releases:
                self.releases[name].retired = retired
        self.previous, self.baseline = "", baseline
        return ended

    def _supersede(self, promoted: int | None) -> list[Rollout]:
        """End the rollouts beside a baseline that gives way to a release opened at a tick."""
        beside = [each for each in self.rollouts.values() if each.baseline == self.baseline]
        ended = self._end([each.candidate for each in beside], Closing.SUPERSEDED)
        for rollout in ended:
            release = self.releases.get(rollout.candidate)
            older = promoted is not None and rollout.opened < promoted
            if release is not None and not older and not rollout.halted:
                release.retired = False
        return ended

    def _end(self, candidates: list[str], closing: Closing) -> list[Rollout]:
        ended = []
        for name in candidates:
            rollout = self.rollouts.pop(name, None)
            if rollout is None:
                continue
            rollout.closing = closing
            if name in self.releases:
                self.releases[name].retired = closing is not Closing.PROMOTED
            ended.append(rollout)
        return ended
