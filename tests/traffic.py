"""Synthetic counts for tests of the engine: batches by hand, and streams by rate."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from streamwatch.counts import (
    CountsBatch,
    Dropped,
    Errors,
    Exposure,
    ShapeDefinition,
    SourceRange,
    SourceWatermark,
    Watermarks,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from streamwatch.counts import EngineInput

START = 1_700_000_000


def shape_id(name: str) -> str:
    return name.encode().hex().ljust(16, "0")[:16]


def definition(name: str) -> ShapeDefinition:
    return ShapeDefinition(
        id=shape_id(name), kind="exception", template=f"{name}Error\n  app.{name}", type=name
    )


def _index(names: list[str], name: str) -> int:
    if name not in names:
        names.append(name)
    return names.index(name)


def batch(
    first: int,
    last: int,
    exposure: Iterable[tuple[int, str, str, int, int]] = (),
    errors: Iterable[tuple[int, str, str, str, int, list[int]]] = (),
    dropped: Iterable[tuple[int, str, int]] = (),
    *,
    service: str = "shop",
    environment: str = "production",
    source: str = "logs",
    partition: int = 0,
) -> CountsBatch:
    """A batch of rows (tick, release, instance, records, requests) and error rows."""
    releases: list[str] = []
    instances: list[str] = []
    shapes: list[str] = []
    exposed: list[list[Any]] = [
        [tick, _index(releases, release), _index(instances, instance), records, requests]
        for tick, release, instance, records, requests in exposure
    ]
    failed: list[list[Any]] = [
        [
            tick,
            _index(releases, release),
            _index(instances, instance),
            _index(shapes, name),
            count,
            clients,
        ]
        for tick, release, instance, name, count, clients in errors
    ]
    return CountsBatch(
        environment=environment,
        service=service,
        grouping_config="1",
        sources=[SourceRange(source, partition, first, last)],
        releases=releases,
        instances=instances,
        shapes=[shape_id(name) for name in shapes],
        exposure=Exposure(*_columns(exposed, 5)),
        errors=Errors(*_columns(failed, 6)),
        definitions=[definition(name) for name in shapes],
        dropped=Dropped(*_columns([list(row) for row in dropped], 3)),
    )


def _columns(rows: list[list[Any]], width: int) -> list[list[Any]]:
    return [[row[column] for row in rows] for column in range(width)]


def watermarks(
    tick: int, partitions: int = 1, *, source: str = "logs", idle: bool = False
) -> Watermarks:
    return Watermarks(
        [SourceWatermark(source, p, partitions, tick, idle=idle) for p in range(partitions)]
    )


@dataclass
class Arm:
    """One release: when it serves, how much, and how often it fails (per request)."""

    release: str
    rate: float
    errors: dict[str, float] = field(default_factory=dict)
    begin: int = 0
    end: int = 10**9
    bad_from: int = 0
    instances: int = 3


def stream(arms: list[Arm], seconds: int, seed: int = 1) -> Iterator[EngineInput]:
    """A batch and a watermark for every second."""
    rng = np.random.default_rng(seed)
    for second in range(seconds):
        tick = START + second
        exposure, errors = [], []
        for arm in arms:
            if not arm.begin <= second < arm.end:
                continue
            for number in range(arm.instances):
                name = f"{arm.release}-{number}"
                requests = int(rng.poisson(arm.rate / arm.instances))
                exposure.append((tick, arm.release, name, requests, requests))
                for error, share in arm.errors.items():
                    count = int(rng.binomial(requests, share)) if second >= arm.bad_from else 0
                    if count:
                        clients = [int(c) for c in sorted(rng.integers(0, 2**48, min(count, 16)))]
                        errors.append((tick, arm.release, name, error, count, clients))
        yield batch(second, second, exposure, errors)
        yield watermarks(tick)
