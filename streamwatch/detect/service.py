"""One service in one environment: its ticks, releases, rollouts and their judges."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from streamwatch.counts import CountsBatch, DeploymentEvent
from streamwatch.detect.arms import ArmTick
from streamwatch.detect.clients import RecentClients
from streamwatch.detect.dispersion import Dispersion
from streamwatch.detect.judge import Judge
from streamwatch.detect.pending import MAX_COUNT, PendingTick, check_numbers, check_tick, fill
from streamwatch.detect.report import first_deploy_verdict, halt_signal, make_verdict
from streamwatch.detect.verdict import Health, Status, Verdict
from streamwatch.errors import InvalidMessage, Reason
from streamwatch.rollouts import ReleaseTracker, Rollout
from streamwatch.ticks import NEVER

if TYPE_CHECKING:
    from streamwatch.detect.groups import ServiceGroups
    from streamwatch.policy import Policy
    from streamwatch.signals.envelope import Signal

#: Instances remembered per service, and for how long a silent one is.
MAX_INSTANCES = 5_000
INSTANCE_SECONDS = 3_600

#: Deployment event ids remembered, so that a repeated event is ignored.
MAX_EVENT_IDS = 64

#: Reason under which records are counted of releases that are too many to be judged.
UNJUDGED = "too_many_releases"

#: A candidate that logged nothing for so long may be dead: it is not called good meanwhile.
SILENT_SECONDS = 60

#: More of the input than this missing, and no verdict may say `Successful`.
TOLERATED_LOSS = 0.01


class Instance(msgspec.Struct):
    """What was seen of one pod or host."""

    first_tick: int
    last_tick: int


class Case(msgspec.Struct):
    """A rollout under judgement.

    Attributes:
        judge: its evidence.
        dropped: the service's drops when it opened.
        records: the service's records when it opened.
        instances: names of the candidate's instances seen so far, bounded.
        verdict: the newest verdict.
        signals: signals sent.
    """

    judge: Judge
    dropped: dict[str, int]
    records: int
    instances: dict[str, int] = {}
    verdict: Verdict | None = None
    signals: int = 0


class ServiceState(msgspec.Struct):
    """All state of one service but its fingerprints (`ServiceGroups`).

    Attributes:
        tracker: releases and rollouts.
        applied: last applied offset of each source partition: the guard against redelivery.
        topics: source topics that the service was seen in; its ticks close when theirs do.
        pending: ticks that are not complete yet.
        events: deployment events whose tick is not complete yet.
        event_ids: ids of deployment events that were taken in.
        instances: by release and name.
        dispersion: how clustered the baseline's errors are.
        window: number of the window that is being counted for `dispersion`.
        window_errors: the baseline's counted errors in it.
        window_exposure: the baseline's exposure in it.
        clients: who made which error lately.
        cases: rollouts under judgement, by candidate.
        dropped: records left out so far, by reason.
        records: records counted so far.
        closed: last evaluated tick.
        introduced: the verdict on the first release was given.
    """

    tracker: ReleaseTracker
    applied: dict[str, int] = {}
    topics: list[str] = []
    pending: dict[int, PendingTick] = {}
    events: list[DeploymentEvent] = []
    event_ids: list[str] = []
    instances: dict[str, dict[str, Instance]] = {}
    dispersion: Dispersion = msgspec.field(default_factory=Dispersion)
    window: int = -1
    window_errors: dict[str, float] = {}
    window_exposure: int = 0
    clients: RecentClients = msgspec.field(default_factory=RecentClients)
    cases: dict[str, Case] = {}
    dropped: dict[str, int] = {}
    records: int = 0
    closed: int = NEVER
    introduced: bool = False

    def take(self, batch: CountsBatch) -> bool:
        """Add a batch to the pending ticks; False when it was applied before.

        Raises:
            InvalidMessage: the batch was applied in part, which no correct ingest can cause, or
                holds numbers that nothing can count to.
        """
        repeated = [
            source.last_offset <= self.applied.get(source.name, -1) for source in batch.sources
        ]
        if batch.sources and all(repeated):
            return False
        try:
            check_numbers(batch)
            self._check_offsets(batch)
        except InvalidMessage as error:
            # What is refused is missing from every verdict that is still to come.
            lost = min(max(sum(batch.exposure.records), 1), MAX_COUNT)
            self.dropped[error.reason] = self.dropped.get(error.reason, 0) + lost
            raise
        for source in batch.sources:
            self.applied[source.name] = source.last_offset
            if source.topic not in self.topics:
                self.topics.append(source.topic)
        fill(self.pending, batch, self.closed)
        return True

    def _check_offsets(self, batch: CountsBatch) -> None:
        for source in batch.sources:
            if source.first_offset <= self.applied.get(source.name, -1):
                raise InvalidMessage(
                    Reason.OVERLAPPING_OFFSETS, f"{batch.key}: offsets were applied in part"
                )

    def announce(self, event: DeploymentEvent) -> bool:
        """Keep a deployment event until its tick is complete; False when its id was seen.

        Raises:
            InvalidMessage: the event's tick is not in seconds, or absurd.
        """
        check_tick(event.tick)
        if event.id in self.event_ids:
            return False
        self.event_ids = [*self.event_ids, event.id][-MAX_EVENT_IDS:]
        self.events.append(event)
        return True

    def advance(
        self, closed: int, groups: ServiceGroups, policy: Policy, every: int
    ) -> list[Verdict | Signal]:
        """Evaluate every complete tick, each once and in order.

        Args:
            closed: greatest complete tick.
            groups: the service's fingerprints.
            policy: its policy.
            every: event seconds after which an unchanged verdict is given again.
        """
        out: list[Verdict | Signal] = []
        waiting = {tick for tick in self.pending if tick <= closed}
        waiting |= {max(event.tick, self.closed + 1) for event in self.events}
        latest_first = sorted(waiting, reverse=True)
        while self.closed < closed:
            while latest_first and latest_first[-1] <= self.closed:
                latest_first.pop()
            if self.cases:
                tick = self.closed + 1
            elif latest_first and latest_first[-1] <= closed:
                # Without a rollout silence says nothing, so empty ticks are passed over.
                tick = latest_first.pop()
            else:
                break
            out += self._close(tick, groups, policy, every)
            self.closed = tick
        return out

    def _close(
        self, tick: int, groups: ServiceGroups, policy: Policy, every: int
    ) -> list[Verdict | Signal]:
        pending = self.pending.pop(tick, None) or PendingTick()
        for reason, count in pending.dropped.items():
            self.dropped[reason] = self.dropped.get(reason, 0) + count
        arms = self._arms(tick, pending, groups, policy)
        ended = self._roll(tick, arms, policy)
        # Before others begin: a release that is tried again in the same tick is judged afresh.
        cases = [self.cases.pop(rollout.candidate, None) for rollout in ended]
        self._begin(tick, groups, policy)
        self._learn(tick, arms, policy)
        out: list[Verdict | Signal] = [
            msgspec.structs.replace(case.verdict, open=False, tick=tick)
            for case in cases
            if case is not None and case.verdict is not None
        ]
        for candidate, rollout in list(self.tracker.rollouts.items()):
            out += self._judge(tick, candidate, rollout, arms, groups, policy, every)
        if self.tracker.baseline and not self.introduced:
            self.introduced = True
            out.append(
                first_deploy_verdict(
                    self.tracker.environment,
                    self.tracker.service,
                    self.tracker.baseline,
                    self._health(tick, {}, 0, groups),
                    policy,
                    tick,
                )
            )
        return out

    def _arms(
        self, tick: int, pending: PendingTick, groups: ServiceGroups, policy: Policy
    ) -> dict[str, ArmTick]:
        arms: dict[str, ArmTick] = {}
        mature: set[tuple[str, str]] = set()
        for (release, name), (records, requests) in sorted(pending.exposure.items()):
            arm = arms.setdefault(release, ArmTick())
            arm.records += records
            arm.requests += requests
            self.records += records
            if self._age(release, name, tick) >= policy.warm_up_seconds:
                mature.add((release, name))
                arm.mature_records += records
                arm.mature_requests += requests
        for (release, name, shape), (count, clients) in sorted(pending.errors.items()):
            arm = arms.setdefault(release, ArmTick())
            group = groups.resolve(shape, tick, release)
            if (release, name) in mature:
                arm.mature_errors += count
            arm.errors[group] = arm.errors.get(group, 0) + count
            arm.clients.setdefault(group, set()).update(clients or [None])
            if (release, name) not in mature:
                continue
            counted, raw = self.clients.count(tick, release, group, clients, count)
            arm.counted[group] = arm.counted.get(group, 0.0) + counted
            if raw:
                arm.raw.add(group)
        self.clients.expire(tick)
        return arms

    def _age(self, release: str, name: str, tick: int) -> int:
        instances = self.instances.setdefault(release, {})
        instance = instances.get(name)
        if instance is None:
            if len(instances) >= MAX_INSTANCES:
                # Not remembered, so never taken for warmed up: it stays out of the comparison.
                return 0
            instance = instances[name] = Instance(tick, tick)
        instance.last_tick = tick
        return tick - instance.first_tick

    def _roll(self, tick: int, arms: dict[str, ArmTick], policy: Policy) -> list[Rollout]:
        ended: list[Rollout] = []
        due = [event for event in self.events if event.tick <= tick]
        self.events = [event for event in self.events if event.tick > tick]
        # Of one second, in the order they were told in: "aborted, started" is a second attempt.
        for event in sorted(due, key=lambda event: event.tick):
            ended += self.tracker.apply(event)
        unjudged = self.tracker.ignored_records
        records = {release: arm.records for release, arm in arms.items()}
        ended += self.tracker.observe(tick, records, policy)
        unjudged = self.tracker.ignored_records - unjudged
        if unjudged:
            self.dropped[UNJUDGED] = self.dropped.get(UNJUDGED, 0) + unjudged
        for release in self.instances.keys() - self.tracker.releases.keys():
            del self.instances[release]
        if tick % 60 == 0:
            self._forget(tick)
        return ended

    def _begin(self, tick: int, groups: ServiceGroups, policy: Policy) -> None:
        for candidate, rollout in self.tracker.rollouts.items():
            if candidate not in self.cases:
                judge = Judge.of(groups.known_in(rollout.baseline, tick), policy)
                self.cases[candidate] = Case(judge, dict(self.dropped), self.records)

    def _learn(self, tick: int, arms: dict[str, ArmTick], policy: Policy) -> None:
        window = tick // policy.window_seconds
        if window != self.window:
            self.dispersion.learn(self.window_errors, float(self.window_exposure))
            self.window, self.window_errors, self.window_exposure = window, {}, 0
        arm = arms.get(self.tracker.baseline)
        if arm is not None:
            self.window_exposure += arm.mature_requests or arm.mature_records
            for group, count in arm.counted.items():
                self.window_errors[group] = self.window_errors.get(group, 0.0) + count

    def _judge(
        self,
        tick: int,
        candidate: str,
        rollout: Rollout,
        arms: dict[str, ArmTick],
        groups: ServiceGroups,
        policy: Policy,
        every: int,
    ) -> list[Verdict | Signal]:
        if rollout.halted:
            return []
        case = self.cases[candidate]
        nothing = ArmTick()
        case.judge.observe(
            tick,
            arms.get(rollout.baseline, nothing),
            arms.get(candidate, nothing),
            self.dispersion,
            groups.kind_of,
            policy,
        )
        for name in self.instances.get(candidate, {}):
            case.instances.setdefault(name, tick)
        release = self.tracker.releases.get(candidate)
        silent = tick - max(rollout.opened, release.last_tick if release else 0)
        failed = case.judge.failed(policy)
        if not failed and tick % every and not self._changed(case, policy):
            return []
        verdict = make_verdict(
            self.tracker.environment,
            self.tracker.service,
            rollout,
            case.judge,
            self._health(tick, case.dropped, case.records, groups, case, silent),
            groups,
            self.dispersion,
            len(case.instances),
            policy,
            tick,
        )
        case.verdict = verdict
        if verdict.status is not Status.FAILED:
            return [verdict]
        rollout.halted = True
        case.signals += 1
        return [verdict, halt_signal(verdict, case.signals)]

    @staticmethod
    def _changed(case: Case, policy: Policy) -> bool:
        """Whether the verdict may differ in status from the last one."""
        if case.verdict is None:
            return True
        passes = case.judge.good(policy) and not case.verdict.health.problems
        return passes != (case.verdict.status is Status.SUCCESSFUL)

    def _health(
        self,
        tick: int,
        dropped_before: dict[str, int],
        records_before: int,
        groups: ServiceGroups,
        case: Case | None = None,
        silent: int = 0,
    ) -> Health:
        dropped = {
            reason: count - dropped_before.get(reason, 0)
            for reason, count in sorted(self.dropped.items())
            if count > dropped_before.get(reason, 0)
        }
        problems = []
        records = self.records - records_before
        for reason, count in dropped.items():
            if count > TOLERATED_LOSS * (records + count):
                share = count / (records + count)
                problems.append(f"{share:.1%} of the records were left out: {reason}")
        if groups.evicted:
            problems.append(f"{groups.evicted} shapes could not be grouped for want of room")
        if silent > SILENT_SECONDS:
            problems.append(f"the candidate has logged nothing for {silent} s")
        if case is not None and case.judge.cells.overflow:
            problems.append("more different errors than can be tested one by one")
        return Health(watermark=tick, dropped=dropped, problems=problems)

    def _forget(self, tick: int) -> None:
        for release, instances in list(self.instances.items()):
            gone = [
                name
                for name, instance in instances.items()
                if tick - instance.last_tick > INSTANCE_SECONDS
            ]
            for name in gone:
                del instances[name]
            if not instances:
                del self.instances[release]
