"""What serve holds: the newest verdict of every release, and how far each may be trusted.

Pure: records come in through `Board.put`, time comes in through `Moment`. The rule that matters is
in `distrust`: a verdict that nothing vouches for any more never reads as `Successful`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from typing import Any, NamedTuple

import msgspec

from streamwatch.counts import WIRE_VERSION
from streamwatch.detect.verdict import Status, Verdict, decode_verdict
from streamwatch.errors import InvalidMessage, Reason

#: Verdicts held; beyond it the one that was not written for longest goes.
CAPACITY = 50_000


class Identity(NamedTuple):
    """Which release a verdict is about; the order of lists."""

    environment: str
    service: str
    release: str


class Moment(msgspec.Struct, frozen=True):
    """The time of a question, and how well serve knows what Kafka holds at that time.

    Attributes:
        now: wall clock, seconds since the epoch.
        fresh_seconds: age at which an unrenewed verdict of an open rollout is no longer believed;
            also how long serve may be out of step with Kafka.
        out_of_step_seconds: seconds since serve last held everything that Kafka held; None when it
            never did.
    """

    now: float
    fresh_seconds: float
    out_of_step_seconds: float | None

    @property
    def doubt(self) -> str | None:
        """Why serve may not hold what Kafka holds; None when it does, or did just now."""
        if self.out_of_step_seconds is None:
            return "serve has not yet read all verdicts"
        if self.out_of_step_seconds > self.fresh_seconds:
            return f"serve has been out of step with Kafka for {self.out_of_step_seconds:.0f} s"
        return None


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One verdict as it was written; the rest of it stays encoded until someone asks.

    Attributes:
        key: of the record.
        identity: which release it is about.
        status: as written.
        open: the rollout still runs.
        written_at: the record's Kafka timestamp, seconds since the epoch.
        received_at: when serve read it, by serve's clock.
        value: the verdict's JSON.
        superseded: a newer record of the same key could not be read.
    """

    key: bytes
    identity: Identity
    status: Status
    open: bool
    written_at: float
    received_at: float
    value: bytes
    superseded: bool = False

    def age(self, now: float) -> float:
        """Seconds since it was written; never less than since it was read.

        A detector whose clock runs ahead of ours would otherwise look fresh long after it stopped.
        """
        return max(now - self.written_at, now - self.received_at, 0.0)


class Reading(msgspec.Struct, frozen=True):
    """A verdict as it reads at one moment.

    Attributes:
        verdict: the verdict, with `Successful` turned into `Inconclusive` when it is stale.
        written_at: when the detector wrote it, seconds since the epoch.
        age_seconds: how long ago that was.
        stale: nothing vouches for it any more; `verdict.health.problems` says why.
    """

    verdict: Verdict
    written_at: float
    age_seconds: float
    stale: bool

    def as_dict(self) -> dict[str, Any]:
        """The JSON that is served: the verdict's fields and the three of the reading."""
        return {
            **msgspec.to_builtins(self.verdict),
            "written_at": round(self.written_at, 3),
            "age_seconds": round(self.age_seconds, 3),
            "stale": self.stale,
        }


class Filter(msgspec.Struct, frozen=True):
    """Which verdicts a list holds; None means any. `status` is compared as it reads now."""

    environment: str | None = None
    service: str | None = None
    status: Status | None = None
    open: bool | None = None

    def admits(self, entry: Entry, moment: Moment) -> bool:
        """Whether the entry belongs in the list at this moment."""
        return (
            self.environment in (None, entry.identity.environment)
            and self.service in (None, entry.identity.service)
            and self.open in (None, entry.open)
            and self.status in (None, status_at(entry, moment))
        )


class Page(msgspec.Struct, frozen=True):
    """A bounded part of a list; `next` is the last identity of it when more follow."""

    readings: list[Reading]
    next: Identity | None


class Board:
    """The newest verdict of every release, in order of identity.

    Args:
        capacity: verdicts held at most; `evicted` counts those that went because of it.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.evicted = 0
        self._capacity = capacity
        # Written last stands last, so the first is the one that was not written for longest.
        self._entries: dict[Identity, Entry] = {}
        self._keys: dict[bytes, Identity] = {}
        self._order: list[Identity] = []

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, key: bytes, value: bytes | None, written_at: float, received_at: float) -> None:
        """Take one record of the verdicts topic.

        Args:
            key: the record's key.
            value: the record's value; None, a tombstone, removes the verdict.
            written_at: the record's timestamp, seconds since the epoch.
            received_at: the present, by the clock that later makes the `Moment`.

        Raises:
            InvalidMessage: the value is no verdict, or not that of its key. An older verdict of
                the key stays, but can no longer read as `Successful`.
        """
        if value is None:
            self._remove(key)
            return
        try:
            verdict = _decode(key, value)
        except InvalidMessage:
            self._supersede(key)
            raise
        identity = Identity(verdict.environment, verdict.service, verdict.release)
        if key not in self._keys:
            self._keys[key] = identity
            insort(self._order, identity)
        self._entries.pop(identity, None)
        self._entries[identity] = Entry(
            key, identity, verdict.status, verdict.open, written_at, received_at, value
        )
        if len(self._entries) > self._capacity:
            self._remove(next(iter(self._entries.values())).key)
            self.evicted += 1

    def get(self, identity: Identity, moment: Moment) -> Reading | None:
        """How the verdict on one release reads at this moment; None for an unknown release."""
        entry = self._entries.get(identity)
        return None if entry is None else read(entry, moment)

    def page(self, only: Filter, after: Identity | None, limit: int, moment: Moment) -> Page:
        """The next `limit` verdicts that the filter admits, in order of identity.

        Args:
            only: what the list is restricted to.
            after: where the page before ended; None starts at the beginning.
            limit: most verdicts returned, at least 1.
            moment: when they are read.
        """
        start = 0 if after is None else bisect_right(self._order, after)
        found: list[Entry] = []
        for position in range(start, len(self._order)):
            entry = self._entries[self._order[position]]
            if only.admits(entry, moment):
                found.append(entry)
                if len(found) > limit:
                    break
        more = len(found) > limit
        found = found[:limit]
        return Page([read(entry, moment) for entry in found], found[-1].identity if more else None)

    def _remove(self, key: bytes) -> None:
        identity = self._keys.pop(key, None)
        if identity is not None:
            del self._entries[identity]
            del self._order[bisect_left(self._order, identity)]

    def _supersede(self, key: bytes) -> None:
        identity = self._keys.get(key)
        if identity is not None:
            entry = self._entries[identity]
            self._entries[identity] = msgspec.structs.replace(entry, superseded=True)


def read(entry: Entry, moment: Moment) -> Reading:
    """How an entry reads at this moment.

    A stale verdict never advises to proceed; a stale `Successful` is `Inconclusive`. `Failed` stays
    `Failed`: that nobody confirms it again does not make the release good.
    """
    verdict = decode_verdict(entry.value)
    doubt = distrust(entry, moment)
    if doubt is not None:
        verdict = _doubted(verdict, doubt)
    return Reading(verdict, entry.written_at, entry.age(moment.now), doubt is not None)


def distrust(entry: Entry, moment: Moment) -> str | None:
    """Why the entry cannot be taken at its word at this moment; None when it can."""
    if entry.superseded:
        return "a newer verdict on this release cannot be read by this version of streamwatch"
    if moment.doubt is not None:
        return moment.doubt
    age = entry.age(moment.now)
    if entry.open and age > moment.fresh_seconds:
        return (
            f"the verdict is {age:.0f} s old and should be renewed within "
            f"{moment.fresh_seconds:g} s: the detector may be stalled"
        )
    return None


def status_at(entry: Entry, moment: Moment) -> Status:
    """The status that `read` gives, without decoding the verdict."""
    if entry.status is Status.SUCCESSFUL and distrust(entry, moment) is not None:
        return Status.INCONCLUSIVE
    return entry.status


def _doubted(verdict: Verdict, doubt: str) -> Verdict:
    changes: dict[str, Any] = {
        "health": msgspec.structs.replace(
            verdict.health, problems=[doubt, *verdict.health.problems]
        )
    }
    if verdict.action == "proceed":
        changes["action"] = "hold"
    if verdict.status is Status.SUCCESSFUL:
        changes["status"] = Status.INCONCLUSIVE
        changes["reason"] = f"{doubt}; it last said {verdict.status}: {verdict.reason}"
    return msgspec.structs.replace(verdict, **changes)


def _decode(key: bytes, value: bytes) -> Verdict:
    try:
        verdict = decode_verdict(value)
    except msgspec.ValidationError as error:
        raise InvalidMessage(Reason.WRONG_TYPE, str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidMessage(Reason.UNDECODABLE, str(error)) from None
    if verdict.version != WIRE_VERSION:
        raise InvalidMessage(
            Reason.WRONG_TYPE, f"version {verdict.version}, this process knows {WIRE_VERSION}"
        )
    if verdict.key.encode() != key:
        raise InvalidMessage(Reason.WRONG_TYPE, "the record's key is not that of its verdict")
    return verdict
