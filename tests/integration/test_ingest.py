"""One ingest worker against a real Kafka."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import orjson
import pytest
from ingest_rig import (
    PARTITIONS,
    TICK,
    Rig,
    assert_ranges_do_not_overlap,
    counted,
    expected,
    log_line,
    log_lines,
    wait_for,
)
from kafka.partitioner import murmur2

from streamwatch.counts import CountsBatch, decode
from streamwatch.errors import Fenced, Reason
from streamwatch.kafka import ingest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from confluent_kafka import TopicPartition
    from ingest_rig import Running

    from kafka_cluster.choose import RealKafka
    from streamwatch.kafka.transactions import Outgoing


@pytest.fixture
def rig(kafka: RealKafka, topic_prefix: str) -> Rig:
    return Rig(kafka.bootstrap, topic_prefix)


def idle(running: Running) -> bool:
    said = running.worker._said
    return bool(said) and all(source.idle for source in said)


def test_counts_offsets_and_watermarks_of_a_worker(rig: Rig) -> None:
    total = 12_000
    rig.produce(log_lines(total))
    with rig.worker() as running:
        wait_for(lambda: running.stats.records == total, "all records")
        rig.produce(log_lines(total, first=total))
        wait_for(lambda: running.stats.records == 2 * total, "the rest")
        wait_for(lambda: idle(running), "idle partitions")
    assert running.error is None
    batches = rig.batches()
    assert counted(batches) == expected(2 * total)
    assert_ranges_do_not_overlap(batches)
    shapes = [(batch.key, each.id) for batch in batches for each in batch.definitions]
    assert len(shapes) == len(set(shapes)) == 3  # one template in each of three services

    newest = TICK + 2 * total // 1_000 - 1
    assert rig.committed() == {p: (2 * total // PARTITIONS, str(newest)) for p in range(PARTITIONS)}
    last = rig.watermarks()
    assert sorted(last) == list(range(PARTITIONS))
    for watermarks in last.values():
        said = [(s.partition, s.partitions, s.watermark, s.idle) for s in watermarks.sources]
        assert said == [(p, PARTITIONS, newest, True) for p in range(PARTITIONS)]


def test_keys_are_partitioned_as_the_java_clients_do(rig: Rig) -> None:
    lines = (orjson.dumps(log_line(n, **{"service.name": f"s-{n}"})) for n in range(200))
    rig.produce((0, line) for line in lines)
    with rig.worker() as running:
        wait_for(lambda: running.stats.records == 200, "all records")
    placed = 0
    for message in rig.read("counts"):
        if isinstance(decode(message.value()), CountsBatch):
            placed += 1
            assert message.partition() == (murmur2(message.key()) & 0x7FFFFFFF) % PARTITIONS
    assert placed >= 200


def test_an_empty_topic_is_reported_idle_without_a_watermark(rig: Rig) -> None:
    with rig.worker() as running:
        wait_for(lambda: idle(running), "idle partitions")
    for watermarks in rig.watermarks().values():
        assert {(s.watermark, s.idle, s.partitions) for s in watermarks.sources} == {
            (-1, True, PARTITIONS)
        }


def test_watermarks_are_repeated_when_nothing_changes(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "HEARTBEAT_SECONDS", 0.5)
    with rig.worker() as running:
        wait_for(lambda: idle(running), "idle partitions")
        flushes = running.stats.flushes
        wait_for(lambda: running.stats.flushes >= flushes + 2, "heartbeats", seconds=5)


def test_dead_letters_say_what_is_wrong_and_where(kafka: RealKafka, topic_prefix: str) -> None:
    rig = Rig(kafka.bootstrap, topic_prefix, max_message_bytes=2_000)
    good = orjson.dumps(log_line(1))
    bad = {
        Reason.UNDECODABLE: b"\xff\xfenot json",
        Reason.WRONG_TYPE: orjson.dumps(log_line(1, **{"service.name": ["x"]})),
        Reason.MISSING_SERVICE: orjson.dumps(log_line(1, **{"service.name": ""})),
        Reason.MISSING_RELEASE: orjson.dumps(log_line(1, **{"service.version": None})),
        Reason.MISSING_TIMESTAMP: orjson.dumps(log_line(1, timestamp=None)),
        Reason.ABSURD_TIMESTAMP: orjson.dumps(log_line(1, timestamp=TICK + 10_000)),
        Reason.TOO_LARGE: orjson.dumps(log_line(1, message="x" * 2_000)),
    }
    values = [good, *bad.values(), good]
    rig.produce((2, value) for value in values)
    with rig.worker() as running:
        wait_for(lambda: running.stats.messages == len(values), "all messages")
    letters = {letter.reason: letter for letter in rig.dead_letters()}
    assert set(letters) == {reason.value for reason in bad}
    for offset, (reason, value) in enumerate(bad.items(), 1):
        letter = letters[reason.value]
        assert (letter.topic, letter.partition, letter.offset) == (rig.logs, 2, offset)
        assert letter.timestamp is not None
        assert abs(letter.timestamp / 1000 - time.time()) < 60
        if reason is not Reason.UNDECODABLE:
            assert letter.value == value.decode()
    assert "service.name" in letters["wrong_type"].detail
    assert running.stats.dead_letters == {reason.value: 1 for reason in bad}
    assert running.stats.failed == len(bad)
    batches = rig.batches()
    assert sum(sum(batch.exposure.records) for batch in batches) == 2
    dropped = {reason for batch in batches for reason in batch.dropped.reason}
    assert dropped == {"missing_release", "missing_timestamp", "absurd_timestamp"}


def test_a_restarted_worker_calls_the_same_records_late(rig: Rig) -> None:
    rig.produce([(1, orjson.dumps(log_line(1, timestamp=TICK + 60)))])
    with rig.worker() as running:
        wait_for(lambda: running.stats.records == 1, "the first record")
    rig.produce([(1, orjson.dumps(log_line(1, timestamp=TICK)))])
    with rig.worker() as running:
        wait_for(lambda: running.stats.records == 1, "the late record")
    assert running.stats.late == 1
    (dropped,) = [batch.dropped for batch in rig.batches() if batch.dropped.tick]
    assert (dropped.tick, dropped.reason, dropped.count) == ([TICK + 60], ["late"], [1])


def test_an_aborted_transaction_leaves_no_trace(rig: Rig) -> None:
    total = 40_000
    lines = list(log_lines(total))
    lines[20_001:20_001] = [(1, b"not json")]
    rig.produce(lines)
    aborted: list[int] = []
    with rig.worker() as running:
        transactions = running.worker._transactions
        commit = transactions.commit

        def flaky(
            messages: Iterable[Outgoing], offsets: Sequence[TopicPartition], group: object
        ) -> bool:
            """Every other transaction is written out and then aborted, until four were."""
            due = running.stats.flushes > len(aborted) and len(aborted) < 4 and len(offsets) > 0
            if not due:
                return commit(messages, offsets, group)
            transactions._producer.begin_transaction()
            transactions._begun = True
            for message in messages:
                transactions._produce(message)
            transactions._producer.flush()
            transactions.abort()
            aborted.append(len(offsets))
            return False

        transactions.commit = flaky  # type: ignore[method-assign]
        wait_for(lambda: running.stats.records == total, "all records")
    assert running.error is None
    assert running.stats.aborts == len(aborted) > 0
    batches = rig.batches()
    assert counted(batches) == expected(total)
    assert_ranges_do_not_overlap(batches)
    assert [letter.reason for letter in rig.dead_letters()] == ["undecodable"]
    assert {id_ for batch in batches for id_ in batch.shapes} == {
        each.id for batch in batches for each in batch.definitions
    }


def test_full_hands_flush_in_the_middle_of_a_batch(kafka: RealKafka, topic_prefix: str) -> None:
    rig = Rig(kafka.bootstrap, topic_prefix, max_cells=50, flush_seconds=60.0)
    rig.produce(log_lines(5_000))
    with rig.worker() as running:
        taken = running.worker._intake
        wait_for(lambda: running.stats.messages + taken.messages == 5_000, "all records")
        assert running.stats.flushes > 5
    assert counted(rig.batches()) == expected(5_000)


def test_a_second_worker_of_the_same_name_fences_the_first(rig: Rig) -> None:
    rig.produce(log_lines(1_000))
    with rig.worker() as first:
        wait_for(lambda: first.stats.records == 1_000, "all records")
        with rig.worker() as second:
            rig.produce(log_lines(1_000, first=1_000))
            wait_for(lambda: not first.alive, "the first to end")
            wait_for(lambda: second.stats.records == 1_000, "the second to go on")
    assert isinstance(first.error, Fenced)
    assert second.error is None
    assert counted(rig.batches()) == expected(2_000)
