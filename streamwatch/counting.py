"""The combiner: records in, counts per tick out.

It takes the records of each source partition in offset order and counts, by service, exposure per
(tick, release, instance) and errors per (tick, release, instance, shape). Whether a record is late
is decided from the records before it in its own partition alone, so the sum of everything drained
does not depend on how partitions interleave or on where the drains fall.

The caller makes drained counts durable and then calls `commit`, or fails to and calls `rollback`,
which brings back the state of the last commit.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

import msgspec

from streamwatch.counts import CLIENTS_PER_ROW
from streamwatch.errors import InvalidMessage, Reason
from streamwatch.fingerprint import redact
from streamwatch.records import SEVERITY_ERROR, LogRecord
from streamwatch.tally import ErrorRow, Series, ServiceTally, Source, batch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamwatch import config
    from streamwatch.counts import CountsBatch, ShapeDefinition
    from streamwatch.fingerprint import Shaper

#: Reason in `Dropped` for a record further behind its partition's watermark than is allowed.
LATE = "late"

#: Longer names of services, releases, instances and environments are cut, and end in a hash.
LONGEST_NAME = 200

#: About the JSON bytes that a service's counts may come to before a drain is due: well below what a
#: Kafka broker takes in one message by default, as a single message may still add to it.
BATCH_BYTES = 500_000

_NANOSECONDS = 1_000_000_000
_EARLIEST = 946_684_800 * _NANOSECONDS  # 2000-01-01
_LATEST = 4_102_444_800 * _NANOSECONDS  # 2100-01-01
_LATEST_TICK = _LATEST // _NANOSECONDS

#: About the JSON bytes of an exposure row, an error row, one client hash and one definition's keys.
_EXPOSURE_BYTES, _ERROR_BYTES, _CLIENT_BYTES, _DEFINITION_BYTES = 30, 40, 16, 120

#: Shapes remembered as defined. Beyond it all are forgotten and defined once more.
_DEFINED = 200_000


class Limits(msgspec.Struct, frozen=True):
    """What the combiner puts up with.

    Attributes:
        allowed_lateness_seconds: how far a record may be behind the newest of its partition.
        max_future_seconds: how far a record may be ahead of its message's Kafka timestamp.
        max_age_seconds: how far a record may be behind its message's Kafka timestamp.
        max_cells: rows in hand from which on a drain is due.
    """

    allowed_lateness_seconds: int = 5
    max_future_seconds: int = 300
    max_age_seconds: int = 168 * 3600
    max_cells: int = 200_000

    @classmethod
    def from_config(cls, ingest: config.Ingest) -> Limits:
        """The limits that a configuration sets."""
        return cls(
            allowed_lateness_seconds=ingest.allowed_lateness_seconds,
            max_future_seconds=ingest.max_future_seconds,
            max_age_seconds=ingest.max_age_hours * 3600,
            max_cells=ingest.max_cells,
        )


class Combiner:
    """Counts records until they are drained. Not to be shared between threads.

    Args:
        shaper: gives error records their shape.
        limits: what to put up with.

    Attributes:
        cells: exposure, error and dropped rows in hand.
        full: a drain is due, to bound memory or the size of a batch.
        long_names: records with a name that was cut, ever.
    """

    def __init__(self, shaper: Shaper, limits: Limits) -> None:
        self.cells = 0
        self.full = False
        self.long_names = 0
        self._shaper = shaper
        self._lateness = limits.allowed_lateness_seconds
        self._max_future = limits.max_future_seconds * _NANOSECONDS
        self._max_age = limits.max_age_seconds * _NANOSECONDS
        self._max_cells = limits.max_cells
        # Bounds of the timestamps in messages of one Kafka timestamp, which many in a row share.
        self._written: int | None = None
        self._earliest, self._latest, self._newest = _EARLIEST, _LATEST, _LATEST_TICK
        self._sources: dict[tuple[str, int], Source] = {}
        self._series: dict[tuple[str, str, str, str], Series] = {}
        self._services: dict[tuple[str, str], ServiceTally] = {}
        self._defined: set[tuple[str, str, str]] = set()
        self._unconfirmed: set[tuple[str, str, str]] = set()

    def add(
        self,
        topic: str,
        partition: int,
        offset: int,
        timestamp_ms: int | None,
        records: Sequence[LogRecord],
    ) -> list[InvalidMessage]:
        """Count the records of one message. Messages of a partition come in offset order.

        Args:
            topic: source topic.
            partition: source partition.
            offset: the message's.
            timestamp_ms: Kafka's timestamp of the message, milliseconds since the epoch; None when
                it has none.
            records: what the message was decoded to; may be empty.

        Returns:
            What is wrong with each record that cannot be counted, in their order. Late records are
            not among them: they are counted as dropped.
        """
        source = self._sources.get((topic, partition)) or self._source(topic, partition)
        if source.first < 0:
            source.first = offset
        source.last = offset
        if timestamp_ms != self._written:
            self._set_bounds(timestamp_ms)
        earliest, latest = self._earliest, self._latest
        rejected: list[InvalidMessage] = []
        for record in records:
            timestamp = record.timestamp_ns
            if not (earliest <= timestamp <= latest and record.service and record.release):
                rejected.append(self._reject(record, source, earliest, latest))
                continue
            tick = timestamp // _NANOSECONDS
            if tick > source.watermark:
                # A clock that runs ahead must not make everybody else's records late.
                source.watermark = max(source.watermark, min(tick, self._newest))
            elif tick < source.watermark - self._lateness:
                self._drop(record, source, source.watermark, LATE)
                continue
            series = self._series.get(
                (record.environment, record.service, record.release, record.instance)
            ) or self._new_series(record)
            if series.source is not source:
                series.source = source
                series.service.sources.add(source)
            if series.tick != tick:
                self._turn(series, tick)
            cell = series.cell
            cell[0] += 1
            if record.request:
                cell[1] += 1
            if record.severity >= SEVERITY_ERROR:
                self._count_error(series, tick, record)
        return rejected

    def drain(self) -> list[CountsBatch]:
        """Everything counted since the last drain, in order of environment and service."""
        batches = [batch(self._services[key]) for key in sorted(self._services)]
        for service in self._services.values():
            self._unconfirmed.update(
                (service.environment, service.name, shape) for shape in service.definitions
            )
        self._let_go()
        return batches

    def commit(self) -> None:
        """Everything drained is durable."""
        for source in self._sources.values():
            source.committed = source.watermark
        if len(self._defined) + len(self._unconfirmed) > _DEFINED:
            self._defined.clear()
        self._defined |= self._unconfirmed
        self._unconfirmed.clear()

    def rollback(self) -> None:
        """Forget what was counted or drained since the last commit."""
        self._let_go()
        self._unconfirmed.clear()
        for source in self._sources.values():
            source.watermark = source.committed

    def watermarks(self) -> dict[tuple[str, int], int]:
        """Greatest tick accepted in each (topic, partition); `NO_WATERMARK` when none was."""
        return {place: source.watermark for place, source in self._sources.items()}

    def set_watermark(self, topic: str, partition: int, tick: int) -> None:
        """Take a partition on where another worker, or an earlier run, has left it."""
        source = self._source(topic, partition)
        source.watermark = source.committed = tick

    def forget(self, topic: str, partition: int) -> None:
        """Let go of a partition. What was counted of it must have been drained or rolled back."""
        self._sources.pop((topic, partition), None)

    def _set_bounds(self, timestamp_ms: int | None) -> None:
        self._written = timestamp_ms
        self._earliest, self._latest, self._newest = _EARLIEST, _LATEST, _LATEST_TICK
        if timestamp_ms is not None:
            self._newest = timestamp_ms // 1000
            written = timestamp_ms * 1_000_000
            self._earliest = max(_EARLIEST, written - self._max_age)
            self._latest = min(_LATEST, written + self._max_future)

    def _let_go(self) -> None:
        for source in self._sources.values():
            source.first = source.last = -1
        self._series.clear()
        self._services.clear()
        self.cells = 0
        self.full = False

    def _source(self, topic: str, partition: int) -> Source:
        return self._sources.setdefault((topic, partition), Source(topic, partition))

    def _service(self, environment: str, name: str) -> ServiceTally:
        key = (environment, name)
        service = self._services.get(key)
        if service is None:
            service = self._services[key] = ServiceTally(environment, name)
        return service

    def _new_series(self, record: LogRecord) -> Series:
        given = (record.environment, record.service, record.release, record.instance)
        environment, name = _bounded(record.environment), _bounded(record.service)
        release, instance = _bounded(record.release), _bounded(record.instance)
        key = (environment, name, release, instance)
        if key != given:
            # Not remembered under the long names: those would make memory unbounded.
            self.long_names += 1
            known = self._series.get(key)
            if known is not None:
                return known
        service = self._service(environment, name)
        series = self._series[key] = Series(service, release, instance)
        service.series.append(series)
        self._grow(service, len(release) + len(instance))
        return series

    def _turn(self, series: Series, tick: int) -> None:
        """Make `tick` the series' latest."""
        series.tick = tick
        cell = series.cells.get(tick)
        if cell is None:
            cell = series.cells[tick] = [0, 0]
            self.cells += 1
            self._grow(series.service, _EXPOSURE_BYTES)
        series.cell = cell

    def _count_error(self, series: Series, tick: int, record: LogRecord) -> None:
        shape = self._shaper.shape(record)
        row = series.errors.get((tick, shape.id))
        if row is None:
            row = series.errors[tick, shape.id] = ErrorRow()
            self.cells += 1
            self._grow(series.service, _ERROR_BYTES)
            self._define(series.service, shape, record)
        row.count += 1
        if record.client:
            if len(row.clients) < CLIENTS_PER_ROW:
                self._grow(series.service, _CLIENT_BYTES)
            row.add_client(client_hash(record.client))

    def _define(self, service: ServiceTally, shape: ShapeDefinition, record: LogRecord) -> None:
        key = (service.environment, service.name, shape.id)
        if key in self._defined or key in self._unconfirmed or shape.id in service.definitions:
            return
        example = redact(record.message or _exception_line(record))
        service.definitions[shape.id] = msgspec.structs.replace(shape, example=example)
        self._grow(service, _DEFINITION_BYTES + len(shape.template) + len(example))

    def _reject(
        self, record: LogRecord, source: Source, earliest: int, latest: int
    ) -> InvalidMessage:
        tick = record.timestamp_ns // _NANOSECONDS
        if not earliest <= record.timestamp_ns <= latest:
            tick = max(source.watermark, 0)
        if not record.service:
            return InvalidMessage(Reason.MISSING_SERVICE, "the record names no service")
        if not record.timestamp_ns:
            error = InvalidMessage(Reason.MISSING_TIMESTAMP, "the record has no timestamp")
        elif not earliest <= record.timestamp_ns <= latest:
            error = InvalidMessage(
                Reason.ABSURD_TIMESTAMP,
                f"{record.timestamp_ns} ns is not between {earliest} and {latest}",
            )
        else:
            error = InvalidMessage(Reason.MISSING_RELEASE, "the record names no release")
        self._drop(record, source, tick, error.reason.value)
        return error

    def _drop(self, record: LogRecord, source: Source, tick: int, reason: str) -> None:
        service = self._service(_bounded(record.environment), _bounded(record.service))
        service.sources.add(source)
        known = service.dropped.get((tick, reason), 0)
        if not known:
            self.cells += 1
            self._grow(service, _EXPOSURE_BYTES)
        service.dropped[tick, reason] = known + 1

    def _grow(self, service: ServiceTally, size: int) -> None:
        service.bytes += size
        if service.bytes >= BATCH_BYTES or self.cells >= self._max_cells:
            self.full = True


def client_hash(client: str) -> int:
    """The 48 bits that stand for a client outside of ingest."""
    digest = blake2b(client.encode("utf-8", "replace"), digest_size=6, person=b"streamwatch")
    return int.from_bytes(digest.digest(), "big")


def _bounded(name: str) -> str:
    if len(name) <= LONGEST_NAME:
        return name
    digest = blake2b(name.encode("utf-8", "replace"), digest_size=8).hexdigest()
    return f"{name[: LONGEST_NAME - len(digest) - 1]}~{digest}"


def _exception_line(record: LogRecord) -> str:
    return ": ".join(part for part in (record.exception_type, record.exception_message) if part)
