"""However the same input is cut into drains, commits and crashes, the sum is the same."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from streamwatch.counting import Combiner, Limits
from streamwatch.counts import CLIENTS_PER_ROW, CountsBatch, decode, encode
from streamwatch.fingerprint import Shaper
from streamwatch.records import LogRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from random import Random

TICK = 1_767_323_045
_LIMITS = Limits(allowed_lateness_seconds=3)

_records = st.builds(
    LogRecord,
    timestamp_ns=st.integers(TICK - 8, TICK + 8).map(lambda tick: tick * 10**9) | st.just(0),
    service=st.sampled_from(["a", "b", ""]),
    environment=st.sampled_from(["prod", ""]),
    release=st.sampled_from(["1", "2", ""]),
    instance=st.sampled_from(["i", "j", ""]),
    severity=st.sampled_from([9, 17, 21]),
    message=st.sampled_from(["timeout after 3 s", "timeout after 4 s", "no such user"]),
    client=st.integers(0, 60).map(str) | st.just(""),
    request=st.booleans(),
)
#: Messages of two partitions: (partition, records).
_messages = st.lists(st.tuples(st.integers(0, 1), st.lists(_records, max_size=4)), max_size=25)


class Total:
    """The plain sum of batches, as any reader of the counts topic would make it."""

    def __init__(self, batches: Iterable[CountsBatch]) -> None:
        self.exposure: Counter[tuple[str, int, str, str]] = Counter()
        self.requests: Counter[tuple[str, int, str, str]] = Counter()
        self.errors: Counter[tuple[str, int, str, str, str]] = Counter()
        self.clients: dict[tuple[str, int, str, str, str], list[int]] = {}
        self.dropped: Counter[tuple[str, int, str]] = Counter()
        self.shapes: set[tuple[str, str]] = set()
        for batch in batches:
            assert decode(encode(batch)) == batch
            self._add(batch)

    def _add(self, batch: CountsBatch) -> None:
        rows = batch.exposure
        for at, tick in enumerate(rows.tick):
            release, instance = batch.releases[rows.release[at]], batch.instances[rows.instance[at]]
            self.exposure[batch.key, tick, release, instance] += rows.records[at]
            self.requests[batch.key, tick, release, instance] += rows.requests[at]
        errors = batch.errors
        for at, tick in enumerate(errors.tick):
            release = batch.releases[errors.release[at]]
            instance = batch.instances[errors.instance[at]]
            key = (batch.key, tick, release, instance, batch.shapes[errors.shape[at]])
            self.errors[key] += errors.count[at]
            merged = {*self.clients.get(key, []), *errors.clients[at]}
            self.clients[key] = sorted(merged)[:CLIENTS_PER_ROW]
        dropped = batch.dropped
        for tick, reason, count in zip(dropped.tick, dropped.reason, dropped.count, strict=True):
            self.dropped[batch.key, tick, reason] += count
        self.shapes.update((batch.key, definition.id) for definition in batch.definitions)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Total) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]  # mutable


def play(
    messages: list[tuple[int, list[LogRecord]]], after: Callable[[Combiner, int], list[CountsBatch]]
) -> list[CountsBatch]:
    combiner = Combiner(Shaper(100), _LIMITS)
    batches = []
    offsets = Counter[int]()
    for index, (partition, records) in enumerate(messages):
        combiner.add("logs", partition, offsets[partition], None, records)
        offsets[partition] += 1
        batches += after(combiner, index)
    return batches + combiner.drain()


@given(_messages, st.sets(st.integers(0, 24)))
def test_the_sum_does_not_depend_on_where_drains_fall(
    messages: list[tuple[int, list[LogRecord]]], cuts: set[int]
) -> None:
    def drain(combiner: Combiner, index: int) -> list[CountsBatch]:
        if index not in cuts:
            return []
        batches = combiner.drain()
        combiner.commit()
        return batches

    assert Total(play(messages, drain)) == Total(play(messages, lambda *_: []))


@given(_messages, st.randoms(use_true_random=False))
def test_the_sum_does_not_depend_on_how_partitions_interleave(
    messages: list[tuple[int, list[LogRecord]]], random: Random
) -> None:
    queues = [[message for message in messages if message[0] == side] for side in (0, 1)]
    shuffled = []
    while any(queues):
        queue = random.choice([queue for queue in queues if queue])
        shuffled.append(queue.pop(0))
    assert Total(play(shuffled, lambda *_: [])) == Total(play(messages, lambda *_: []))


@given(_messages, st.lists(st.tuples(st.integers(1, 6), st.booleans()), max_size=12))
def test_rolling_back_and_reading_again_changes_nothing(
    messages: list[tuple[int, list[LogRecord]]], steps: list[tuple[int, bool]]
) -> None:
    combiner = Combiner(Shaper(100), _LIMITS)
    durable: list[CountsBatch] = []
    at = 0
    for size, aborted in [*steps, (len(messages), False)]:
        for offset, (partition, records) in enumerate(messages[at : at + size], at):
            combiner.add("logs", partition, offset, None, records)
        batches = combiner.drain()
        if aborted:
            combiner.rollback()
            continue
        combiner.commit()
        durable += batches
        at += size
    assert Total(durable) == Total(play(messages, lambda *_: []))


@given(_messages)
def test_every_record_is_counted_dropped_or_returned(
    messages: list[tuple[int, list[LogRecord]]],
) -> None:
    combiner = Combiner(Shaper(100), _LIMITS)
    without_service = 0
    for offset, (partition, records) in enumerate(messages):
        errors = combiner.add("logs", partition, offset, None, records)
        without_service += sum(error.reason == "missing_service" for error in errors)
    total = Total(combiner.drain())
    counted = sum(total.exposure.values()) + sum(total.dropped.values())
    assert counted + without_service == sum(len(records) for _, records in messages)


@given(_messages, st.sets(st.integers(0, 24)))
def test_offset_ranges_of_a_partition_never_overlap(
    messages: list[tuple[int, list[LogRecord]]], cuts: set[int]
) -> None:
    batches = play(messages, lambda combiner, index: combiner.drain() if index in cuts else [])
    last: dict[tuple[str, str], int] = {}
    for batch in batches:
        for source in batch.sources:
            assert last.get((batch.key, source.name), -1) < source.first_offset
            assert source.first_offset <= source.last_offset
            last[batch.key, source.name] = source.last_offset
