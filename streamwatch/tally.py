"""What the combiner has in hand, and how it is written as a batch."""

from __future__ import annotations

from heapq import nsmallest

from streamwatch.counts import (
    CLIENTS_PER_ROW,
    CountsBatch,
    Dropped,
    Errors,
    Exposure,
    ShapeDefinition,
    SourceRange,
)
from streamwatch.fingerprint import GROUPING_CONFIG

#: The watermark of a partition in which no record was accepted yet.
NO_WATERMARK = -1


class Source:
    """A source partition: how far event time has come, and the offsets since the last drain."""

    __slots__ = ("committed", "first", "last", "partition", "topic", "watermark")

    def __init__(self, topic: str, partition: int) -> None:
        self.topic = topic
        self.partition = partition
        self.watermark = NO_WATERMARK
        self.committed = NO_WATERMARK
        self.first = -1
        self.last = -1

    def range(self) -> SourceRange:
        """The offsets since the last drain."""
        return SourceRange(self.topic, self.partition, self.first, self.last)


class ErrorRow:
    """Errors of one shape in one tick of one series."""

    __slots__ = ("clients", "count")

    def __init__(self) -> None:
        self.count = 0
        self.clients: set[int] = set()

    def add_client(self, client: int) -> None:
        """Note a client's hash; only the smallest `CLIENTS_PER_ROW` are sure to be kept."""
        self.clients.add(client)
        if len(self.clients) > 4 * CLIENTS_PER_ROW:
            self.clients = set(nsmallest(CLIENTS_PER_ROW, self.clients))


class Series:
    """One instance of one release. `tick` and `cell` are those of its latest record."""

    __slots__ = ("cell", "cells", "errors", "instance", "release", "service", "source", "tick")

    def __init__(self, service: ServiceTally, release: str, instance: str) -> None:
        self.service = service
        self.release = release
        self.instance = instance
        self.cells: dict[int, list[int]] = {}
        self.errors: dict[tuple[int, str], ErrorRow] = {}
        self.source: Source | None = None
        self.tick = NO_WATERMARK
        self.cell = [0, 0]


class ServiceTally:
    """Everything in hand of one (environment, service)."""

    __slots__ = ("bytes", "definitions", "dropped", "environment", "name", "series", "sources")

    def __init__(self, environment: str, name: str) -> None:
        self.environment = environment
        self.name = name
        self.series: list[Series] = []
        self.sources: set[Source] = set()
        self.dropped: dict[tuple[int, str], int] = {}
        self.definitions: dict[str, ShapeDefinition] = {}
        self.bytes = 0


def batch(service: ServiceTally) -> CountsBatch:
    """What is in hand of a service, rows and names in sorted order."""
    releases = sorted({series.release for series in service.series})
    instances = sorted({series.instance for series in service.series})
    shapes = sorted({shape for series in service.series for _, shape in series.errors})
    release_at, instance_at, shape_at = map(_positions, (releases, instances, shapes))
    exposure: list[tuple[int, int, int, list[int]]] = []
    errors: list[tuple[int, int, int, int, ErrorRow]] = []
    for series in service.series:
        place = release_at[series.release], instance_at[series.instance]
        exposure += [(tick, *place, cell) for tick, cell in series.cells.items()]
        errors += [(tick, *place, shape_at[id_], row) for (tick, id_), row in series.errors.items()]
    # No two rows agree in the columns before the last, so that the last is never compared.
    exposure.sort()
    errors.sort()
    dropped = sorted((tick, reason, n) for (tick, reason), n in service.dropped.items())
    return CountsBatch(
        environment=service.environment,
        service=service.name,
        grouping_config=GROUPING_CONFIG,
        sources=sorted(
            (source.range() for source in service.sources),
            key=lambda each: (each.topic, each.partition),
        ),
        releases=releases,
        instances=instances,
        shapes=shapes,
        exposure=Exposure(
            tick=[row[0] for row in exposure],
            release=[row[1] for row in exposure],
            instance=[row[2] for row in exposure],
            records=[row[3][0] for row in exposure],
            requests=[row[3][1] for row in exposure],
        ),
        errors=Errors(
            tick=[row[0] for row in errors],
            release=[row[1] for row in errors],
            instance=[row[2] for row in errors],
            shape=[row[3] for row in errors],
            count=[row[4].count for row in errors],
            clients=[nsmallest(CLIENTS_PER_ROW, row[4].clients) for row in errors],
        ),
        definitions=[service.definitions[shape] for shape in sorted(service.definitions)],
        dropped=Dropped(
            tick=[row[0] for row in dropped],
            reason=[row[1] for row in dropped],
            count=[row[2] for row in dropped],
        ),
    )


def _positions(names: list[str]) -> dict[str, int]:
    return {name: index for index, name in enumerate(names)}
