"""The pure heart of detect: counts and watermarks in, verdicts and signals out.

No clock, no I/O, no randomness: the same messages in the same order give the same outputs, byte for
byte, in a Faust worker, in replay and in a test. What it knows is kept as rows, one for the event
clocks and two for each service, which can be saved after every message and restored anywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import numpy as np

from streamwatch.counts import CountsBatch, EngineInput, Watermarks, service_key
from streamwatch.detect.groups import ServiceGroups
from streamwatch.detect.service import ServiceState
from streamwatch.errors import InvalidMessage, StreamwatchError
from streamwatch.policy import Policies, Policy
from streamwatch.rollouts import ReleaseTracker
from streamwatch.ticks import NEVER, EventClock

if TYPE_CHECKING:
    from streamwatch.detect.verdict import Verdict
    from streamwatch.fingerprint.catalogue import CatalogueEntry
    from streamwatch.signals.envelope import Signal

#: Version of the saved rows, their first byte.
SNAPSHOT_VERSION = b"\x02"

CLOCK_ROW = "clock"
_SERVICE_ROW = "service|"
_GROUPS_ROW = "groups|"


class _Clocks(msgspec.Struct):
    topics: dict[str, EventClock]


State = TypeVar("State", _Clocks, ServiceState)


class Engine:
    """Judges the rollouts of every service it is told about.

    Args:
        policies: one policy for all services, or policies by pattern.
        allowed_lateness: seconds that a record may be behind the newest of its source partition.
        verdict_seconds: event seconds after which an unchanged verdict is given again.
    """

    def __init__(
        self,
        policies: Policies | Policy | None = None,
        *,
        allowed_lateness: int = 5,
        verdict_seconds: int = 5,
    ) -> None:
        if isinstance(policies, Policy):
            policies = Policies(default=policies)
        self._policies = policies or Policies()
        self._verdict_seconds = verdict_seconds
        self._allowed_lateness = allowed_lateness
        self._clocks: dict[str, EventClock] = {}
        self._services: dict[str, ServiceState] = {}
        self._groups: dict[str, ServiceGroups] = {}
        self._known_policies: dict[str, Policy] = {}
        self._changed: dict[str, None] = {}

    @property
    def closed(self) -> int:
        """Greatest tick that is complete in every topic; -1 while there is none."""
        return min((clock.closed for clock in self._clocks.values()), default=NEVER)

    @property
    def open_rollouts(self) -> int:
        """Rollouts under judgement."""
        return sum(len(service.cases) for service in self._services.values())

    def feed(self, message: EngineInput) -> list[Verdict | Signal]:
        """Take in one message.

        Args:
            message: counts of one service, a deployment event, or the watermarks of source
                partitions; only these close ticks.

        Returns:
            Verdicts and signals, in order of decision. A message that was applied before gives
            none.

        Raises:
            InvalidMessage: a batch overlaps in part with what was applied before, or a number in a
                message is absurd.
        """
        if isinstance(message, Watermarks):
            return self._advance(message)
        key = message.key
        service = self._service(message.environment, message.service)
        if isinstance(message, CountsBatch):
            try:
                taken = service.take(message)
            except InvalidMessage:
                self._changed[key] = None
                raise
            if taken:
                self._groups[key].define(message.definitions)
                self._changed[key] = None
        elif service.announce(message):
            self._changed[key] = None
        return []

    def take_catalogue(self) -> list[CatalogueEntry]:
        """Fingerprint catalogue entries that are new or changed since the last call."""
        return [
            entry for groups in self._groups.values() for entry in groups.take_changed_entries()
        ]

    def take_changed_rows(self) -> dict[str, bytes]:
        """The rows to save since the last call; the clock's last, so that it is never ahead."""
        rows = {}
        for key in self._changed:
            if key == CLOCK_ROW:
                continue
            rows[_SERVICE_ROW + key] = _pack(self._services[key])
            groups = self._groups[key]
            if groups.changed:
                rows[_GROUPS_ROW + key] = SNAPSHOT_VERSION + groups.snapshot()
                groups.changed = False
        if CLOCK_ROW in self._changed:
            rows[CLOCK_ROW] = _pack(_Clocks(self._clocks))
        self._changed = {}
        return rows

    def restore(self, row: str, value: bytes) -> None:
        """Put back one row that `take_changed_rows` gave; in any order, before any `feed`.

        Raises:
            StreamwatchError: the row was written by a version that this one cannot read.
        """
        if value[:1] != SNAPSHOT_VERSION:
            raise StreamwatchError(
                f"saved state of {row!r} has version {value[:1]!r}, this process reads "
                f"{SNAPSHOT_VERSION!r}: start it with the release that wrote it, or with a new "
                "detect.group"
            )
        if row == CLOCK_ROW:
            self._clocks = _unpack(value, _Clocks).topics
        elif row.startswith(_SERVICE_ROW):
            key = row.removeprefix(_SERVICE_ROW)
            service = self._services[key] = _unpack(value, ServiceState)
            tracker = service.tracker
            self._groups.setdefault(key, ServiceGroups(tracker.environment, tracker.service))
        else:
            self._groups[row.removeprefix(_GROUPS_ROW)] = ServiceGroups.restore(value[1:])

    def _advance(self, message: Watermarks) -> list[Verdict | Signal]:
        for source in message.sources:
            self._clocks.setdefault(source.topic, EventClock()).hear(source)
        closed = {
            topic: clock.advance(self._allowed_lateness) for topic, clock in self._clocks.items()
        }
        self._changed[CLOCK_ROW] = None
        out: list[Verdict | Signal] = []
        for key in sorted(self._services):
            service = self._services[key]
            before = service.closed
            complete = min((closed.get(topic, NEVER) for topic in service.topics), default=NEVER)
            out += service.advance(
                complete, self._groups[key], self._policy(key, service), self._verdict_seconds
            )
            if service.closed != before:
                self._changed[key] = None
        return out

    def _service(self, environment: str, service: str) -> ServiceState:
        key = service_key(environment, service)
        state = self._services.get(key)
        if state is None:
            state = self._services[key] = ServiceState(ReleaseTracker(environment, service))
            self._groups.setdefault(key, ServiceGroups(environment, service))
        return state

    def _policy(self, key: str, service: ServiceState) -> Policy:
        policy = self._known_policies.get(key)
        if policy is None:
            tracker = service.tracker
            policy = self._policies.of(tracker.environment, tracker.service)
            self._known_policies[key] = policy
        return policy


def _pack(state: msgspec.Struct) -> bytes:
    return SNAPSHOT_VERSION + msgspec.msgpack.encode(state, enc_hook=_array_to_builtins)


def _unpack(value: bytes, kind: type[State]) -> State:
    return msgspec.msgpack.decode(value[1:], type=kind, dec_hook=_array_from_builtins)


def _array_to_builtins(value: object) -> object:
    if isinstance(value, np.ndarray):
        return [list(value.shape), value.tobytes()]
    raise TypeError(f"cannot save {type(value)}")


def _array_from_builtins(kind: type, value: Any) -> object:
    del kind
    shape, data = value
    return np.frombuffer(data, dtype=np.float64).reshape(shape).copy()
