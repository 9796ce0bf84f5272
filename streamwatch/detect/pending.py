"""Counts that wait for their tick to be complete."""

from __future__ import annotations

import heapq

import msgspec

from streamwatch.counts import CLIENTS_PER_ROW, CountsBatch
from streamwatch.errors import InvalidMessage, Reason

#: Reason under which records are counted whose tick was already evaluated.
LATE = "late"

#: Ticks from here on are not seconds since the epoch: the year 2100.
END_OF_TIME = 4_102_444_800

#: No row counts to so much; sums of rows must fit the saved state's 64 bits.
MAX_COUNT = 1 << 40
_CLIENT_HASHES = 1 << 48


class PendingTick(msgspec.Struct):
    """What is known so far of one tick; plain sums, so that arrival order does not matter.

    Attributes:
        exposure: (release, instance) to records and requests.
        errors: (release, instance, shape) to count and smallest client hashes.
        dropped: reason to records left out.
    """

    exposure: dict[tuple[str, str], tuple[int, int]] = {}
    errors: dict[tuple[str, str, str], tuple[int, list[int]]] = {}
    dropped: dict[str, int] = {}


def check_tick(tick: int) -> None:
    """Refuse a tick that never comes: it would wait forever.

    Raises:
        InvalidMessage: the tick is before the epoch or after `END_OF_TIME`.
    """
    if not 0 <= tick < END_OF_TIME:
        raise InvalidMessage(
            Reason.ABSURD_TIMESTAMP, f"tick {tick} is not a time in seconds since the epoch"
        )


def check_numbers(batch: CountsBatch) -> None:
    """Refuse a batch with numbers that no counting makes, before anything of it is applied.

    Raises:
        InvalidMessage: a tick, a count or a client's hash is out of its range.
    """
    for table in (batch.exposure, batch.errors, batch.dropped):
        for tick in (min(table.tick, default=0), max(table.tick, default=0)):
            check_tick(tick)
    counts = (
        batch.exposure.records,
        batch.exposure.requests,
        batch.errors.count,
        batch.dropped.count,
    )
    if max((max(column, default=0) for column in counts), default=0) >= MAX_COUNT:
        raise InvalidMessage(Reason.WRONG_TYPE, f"{batch.key}: a count of {MAX_COUNT} or more")
    for clients in batch.errors.clients:
        if clients and not 0 <= min(clients) <= max(clients) < _CLIENT_HASHES:
            raise InvalidMessage(Reason.WRONG_TYPE, f"{batch.key}: a client hash beyond 48 bits")


def fill(pending: dict[int, PendingTick], batch: CountsBatch, closed: int) -> None:
    """Add a batch's rows to their ticks.

    Args:
        pending: by tick; added to.
        batch: counts of one service.
        closed: ticks up to here were evaluated; rows of them count as late in the next one.
    """

    def tick_of(tick: int) -> PendingTick:
        return pending.setdefault(tick, PendingTick())

    late = 0
    table = batch.exposure
    rows = zip(
        table.tick, table.release, table.instance, table.records, table.requests, strict=True
    )
    for tick, release, instance, records, requests in rows:
        if tick <= closed:
            late += records
            continue
        exposure = tick_of(tick).exposure
        key = (batch.releases[release], batch.instances[instance])
        old_records, old_requests = exposure.get(key, (0, 0))
        exposure[key] = (old_records + records, old_requests + requests)
    errors = batch.errors
    error_rows = zip(
        errors.tick,
        errors.release,
        errors.instance,
        errors.shape,
        errors.count,
        errors.clients,
        strict=True,
    )
    for tick, release, instance, shape, count, clients in error_rows:
        if tick <= closed:
            continue
        rows_of_tick = tick_of(tick).errors
        name = (batch.releases[release], batch.instances[instance], batch.shapes[shape])
        old_count, old_clients = rows_of_tick.get(name, (0, []))
        smallest = heapq.nsmallest(CLIENTS_PER_ROW, {*old_clients, *clients})
        rows_of_tick[name] = (old_count + count, smallest)
    drops = batch.dropped
    for tick, reason, count in zip(drops.tick, drops.reason, drops.count, strict=True):
        _drop(tick_of(max(tick, closed + 1)), reason, count)
    if late:
        _drop(tick_of(closed + 1), LATE, late)


def _drop(tick: PendingTick, reason: str, count: int) -> None:
    tick.dropped[reason] = tick.dropped.get(reason, 0) + count
