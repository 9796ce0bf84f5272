"""Reading `streamwatch.signals` with kafka-python."""

from __future__ import annotations

import json
import logging
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kafka import KafkaConsumer
from kafka.structs import OffsetAndMetadata

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

log = logging.getLogger(__name__)

#: Ids remembered to drop repeats.
REMEMBERED = 10_000

#: Milliseconds between two looks at `stop`.
_POLL_MS = 200


@dataclass(frozen=True)
class Signal:
    """A request of streamwatch to deployment tools.

    Attributes:
        id: the same decision always has the same id.
        kind: `halt` or `resume`.
        environment: where.
        service: of which service.
        release: the release to stop, or to go on with.
        baseline: the release to stay on.
        dry_run: only said, not asked: do not act.
        reason: one sentence. Quotes log text: escape it before showing it.
        tick: event time of the decision, seconds since the epoch.
        body: the whole signal as published.
    """

    id: str
    kind: str
    environment: str
    service: str
    release: str
    baseline: str
    dry_run: bool
    reason: str
    tick: int
    body: dict[str, Any] = field(repr=False)


def subscribe(
    bootstrap: str,
    *,
    topic: str = "streamwatch.signals",
    group: str | None = None,
    stop: Callable[[], bool] = lambda: False,
    **settings: Any,
) -> Iterator[Signal]:
    """Every signal, each once, as it is published.

    With a group, delivery is at least once: a signal's offset is committed when the next one is
    asked for, so one that was being handled in a crash comes again, with the same id. Without a
    group, reading begins with the oldest signal that is kept, every time.

    Args:
        bootstrap: `host:port`, several separated by commas.
        topic: where signals are published.
        group: consumer group; None reads alone and remembers nothing.
        stop: asked now and then; the iterator ends when it is true.
        settings: more settings of `kafka.KafkaConsumer`, such as TLS and SASL.

    Raises:
        kafka.errors.KafkaError: the broker cannot be reached or refuses.
    """
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap.split(","),
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        **settings,
    )
    try:
        consumer.subscribe([topic])
        yield from _signals(consumer, commit=group is not None, stop=stop)
    finally:
        consumer.close()


def _signals(
    consumer: KafkaConsumer, *, commit: bool, stop: Callable[[], bool]
) -> Iterator[Signal]:
    seen: OrderedDict[str, None] = OrderedDict()
    while not stop():
        for place, records in consumer.poll(timeout_ms=_POLL_MS).items():
            for record in records:
                signal = _parse(record.value)
                if signal is not None and signal.id not in seen:
                    seen[signal.id] = None
                    if len(seen) > REMEMBERED:
                        seen.popitem(last=False)
                    yield signal
                if commit:
                    consumer.commit({place: OffsetAndMetadata(record.offset + 1, "", -1)})


def _parse(value: bytes | None) -> Signal | None:
    try:
        body = json.loads(value or b"")
        names = Signal.__dataclass_fields__.keys() - {"body"}
        return Signal(**{name: body[name] for name in names}, body=body)
    except (ValueError, TypeError, KeyError):
        log.error("not a signal, left out: %.200r", value)
        return None
