"""The ingest loop of one worker: consume, decode, combine, commit.

A flush is one transaction, in this order:

1. the counts of every service, and the dead letters;
2. the watermarks of all of the worker's partitions, to every partition of the counts topic;
3. the next offset of each source partition, with its watermark as the offset's metadata;
4. commit: all of it becomes visible at once, or none of it.

Whatever kills the worker, its successor goes on from the committed offsets and with the committed
watermarks, so that it counts the same records and calls the same ones late.
"""

from __future__ import annotations

import gc
import logging
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from confluent_kafka import (
    OFFSET_BEGINNING,
    TIMESTAMP_NOT_AVAILABLE,
    Consumer,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from river.stats import Quantile

from streamwatch.counting import LATE
from streamwatch.counts import CountsBatch, SourceWatermark, Watermarks, encode
from streamwatch.errors import TopicMissing
from streamwatch.kafka.clients import librdkafka, require_topics
from streamwatch.kafka.intake import Intake
from streamwatch.kafka.transactions import Outgoing, Transactions, given_up
from streamwatch.tally import NO_WATERMARK

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable, Iterator, Sequence

    from confluent_kafka import Message

    from streamwatch.config import Config

log = logging.getLogger(__name__)

#: Watermarks are repeated so often when nothing changes.
HEARTBEAT_SECONDS = 5.0

#: Longest wait for messages, and so for anything else that the loop looks after.
POLL_SECONDS = 0.1

_ASK_SECONDS = 5.0

# librdkafka's own error codes begin with an underscore.
_END_OF_PARTITION = KafkaError._PARTITION_EOF  # noqa: SLF001
_OFFSET_GONE = KafkaError._AUTO_OFFSET_RESET  # noqa: SLF001
_NO_TOPIC = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC)  # noqa: SLF001
_REFUSED = (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED)


@dataclass
class IngestStats:
    """What one worker has committed since it started. The last two are levels, the others grow.

    Attributes:
        messages: source messages.
        message_bytes: their size.
        records: records decoded from them.
        failed: messages that could not be decoded, and records that could not be counted.
        dead_letters: dead letters by reason.
        late: records dropped for being late.
        long_names: records with a name that was cut.
        batches: `CountsBatch` messages committed.
        flushes: transactions committed.
        flush_seconds: time spent in them.
        aborts: transactions aborted, after which input is read again.
        offset_resets: times that committed offsets were gone from the source topic.
        lag: quantile of how far records are behind the newest of their partition, in seconds of
            event time; one record a flush is looked at.
        partitions: source partitions assigned.
        watermark: greatest tick of any partition; -1 for none.
    """

    messages: int = 0
    message_bytes: int = 0
    records: int = 0
    failed: int = 0
    dead_letters: Counter[str] = field(default_factory=Counter)
    late: int = 0
    long_names: int = 0
    batches: int = 0
    flushes: int = 0
    flush_seconds: float = 0.0
    aborts: int = 0
    offset_resets: int = 0
    lag: Quantile = field(default_factory=lambda: Quantile(0.96))
    partitions: int = 0
    watermark: int = NO_WATERMARK

    @property
    def lag_p96(self) -> float | None:
        """96 % of the records looked at lagged by no more; None before the first."""
        lag = self.lag.get()
        return None if lag is None else float(lag)


def run_worker(config: Config, worker: int, stop: threading.Event, stats: IngestStats) -> None:
    """Run one ingest worker until `stop` is set; by then everything processed is committed.

    Args:
        config: the whole configuration.
        worker: number of the worker on this machine, from 0.
        stop: asks the worker to end; it does so within ten seconds.
        stats: counters to keep.

    Raises:
        BrokerUnreachable: no broker answers at start-up.
        TopicMissing: a source topic, the counts topic or the dead-letter topic does not exist.
        Fenced: another worker has the same name (`ingest.instance` and number).
        InfrastructureError: Kafka failed in a way that only a restart may cure.
        ConfigError: a field mapping or a credential file cannot be used.
    """
    running = IngestWorker(config, worker, stop, stats)
    # Messages and counts make no cycles: looking for some after every few hundred objects costs a
    # tenth of the throughput (benchmarks/throughput/ingest.py).
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)
    running.run()


class _Assigned:
    """A source partition that is assigned to this worker.

    Attributes:
        next: offset of the next message to process.
        committed: the offset that is committed; `OFFSET_BEGINNING` for none.
        read_to_end: when (monotonic) its end was reached with nothing after it; None otherwise.
        rewind: it is to be fetched again from `committed`; what comes before that is not to be
            processed, since it lies further on.
    """

    __slots__ = ("committed", "next", "read_to_end", "rewind")

    def __init__(self, offset: int) -> None:
        self.next = max(offset, 0)
        self.committed = offset
        self.read_to_end: float | None = None
        self.rewind = False

    def go_back(self, offset: int) -> None:
        """Have it fetched again from an offset that counts as committed."""
        self.next = max(offset, 0)
        self.committed = offset
        self.rewind = True


class IngestWorker:
    """One consumer with one transactional producer. See `run_worker`."""

    def __init__(
        self, config: Config, worker: int, stop: threading.Event, stats: IngestStats
    ) -> None:
        settings = config.ingest
        self._stop = stop
        self._stats = stats
        self._settings = settings
        self._counts_topic = config.topics.name("counts")
        self._source_topics = [source.topic for source in config.sources]
        self._partitions = require_topics(
            config, (*self._source_topics, self._counts_topic, config.topics.name("dead-letter"))
        )
        self._intake = Intake(config)
        self._combiner = self._intake.combiner
        self._assigned: dict[tuple[str, int], _Assigned] = {}
        self._said: list[SourceWatermark] = []
        self._last_flush = 0.0
        self._recount_due = False
        self._ending = False
        name = f"{settings.group}-{settings.instance_name}-{worker}"
        connection = librdkafka(config.kafka)
        self._transactions = Transactions(connection, name, stop)
        self._consumer = Consumer(connection | _consumer_settings(config, name))

    def run(self) -> None:
        """Work until told to stop."""
        try:
            self._consumer.subscribe(
                self._source_topics,
                on_assign=self._on_assign,
                on_revoke=self._on_revoke,
                on_lost=self._on_lost,
            )
            while not self._stop.is_set():
                self._turn()
            self._flush()
        finally:
            self._ending = True
            self._consumer.close()

    def _turn(self) -> None:
        try:
            messages = self._consumer.consume(self._settings.batch_messages, POLL_SECONDS)
        except KafkaException as error:
            raise given_up(error.args[0]) from None
        if self._recount_due:
            self._count_partitions()
        self._take(messages)
        self._rewind()
        if self._flush_due():
            self._flush()

    def _take(self, messages: Sequence[Message]) -> None:
        """Decode and count messages; flush in between when memory or a batch is full."""
        intake, combiner = self._intake, self._combiner
        topic, partition, assigned = "", -1, None
        for message in messages:
            error = message.error()
            if error is not None:
                self._on_event(message, error)
                partition = -1
                continue
            if message.partition() != partition or message.topic() != topic:
                topic, partition = message.topic(), message.partition()
                assigned = self._assigned.get((topic, partition))
                if assigned is not None:
                    assigned.read_to_end = None
            offset = message.offset()
            # What a rebalance or an abort has left in the queue.
            if assigned is None or assigned.rewind or offset < assigned.next:
                continue
            kind, timestamp = message.timestamp()
            if kind == TIMESTAMP_NOT_AVAILABLE:
                timestamp = None
            intake.take(topic, partition, offset, timestamp, message.value() or b"")
            assigned.next = offset + 1
            if combiner.full and not self._flush():
                return  # The rest of the messages will be read again.

    def _on_event(self, message: Message, error: KafkaError) -> None:
        """Handle what the consumer reports instead of a message."""
        place = (message.topic(), message.partition())
        assigned = self._assigned.get(place)
        if error.code() == _END_OF_PARTITION:
            if assigned is not None and assigned.read_to_end is None:
                assigned.read_to_end = time.monotonic()
        elif error.code() == _OFFSET_GONE:
            if assigned is not None:
                self._stats.offset_resets += 1
                log.error(
                    "%s/%d: offset %d is gone; going on from the oldest", *place, assigned.next
                )
                assigned.go_back(OFFSET_BEGINNING)
        elif error.code() in _NO_TOPIC:
            raise TopicMissing(f"topic {place[0] or error.str()} does not exist any more")
        elif error.fatal() or error.code() in _REFUSED:
            raise given_up(error)
        else:
            log.warning("consumer: %s", error.str())

    def _flush_due(self) -> bool:
        now = time.monotonic()
        waited = now - self._last_flush
        if self._intake.records >= self._settings.flush_records:
            return True
        if waited < self._settings.flush_seconds or not self._assigned:
            return False
        return (
            self._intake.messages > 0
            or waited >= HEARTBEAT_SECONDS
            or self._watermarks(now) != self._said
        )

    def _flush(self) -> bool:
        """Commit everything in hand in one transaction; False when it was rolled back instead."""
        if not self._assigned:
            return True
        begin = time.monotonic()
        said = self._watermarks(begin)
        batches = self._combiner.drain()
        offsets = self._offsets()
        group = self._consumer.consumer_group_metadata()
        committed = self._transactions.commit(self._outgoing(batches, said), offsets, group)
        if not committed:
            self._stats.aborts += 1
            log.warning("transaction aborted; going back to the committed offsets")
            self._discard()
            return False
        self._combiner.commit()
        for assigned in self._assigned.values():
            if assigned.next > 0:
                assigned.committed = assigned.next
        self._said = said
        self._last_flush = time.monotonic()
        self._account(batches, said, self._last_flush - begin)
        self._intake.clear()
        return True

    def _outgoing(
        self, batches: Iterable[CountsBatch], said: list[SourceWatermark]
    ) -> Iterator[Outgoing]:
        for batch in batches:
            yield Outgoing(self._counts_topic, batch.key.encode(), encode(batch))
        yield from self._intake.dead_letters
        watermarks = encode(Watermarks(said))
        for partition in range(self._partitions[self._counts_topic]):
            yield Outgoing(self._counts_topic, None, watermarks, partition)

    def _watermarks(self, now: float) -> list[SourceWatermark]:
        reached = self._combiner.watermarks()
        return [
            SourceWatermark(
                topic,
                partition,
                self._partitions[topic],
                reached[topic, partition],
                idle=assigned.read_to_end is not None
                and now - assigned.read_to_end >= self._settings.idle_seconds,
            )
            for (topic, partition), assigned in sorted(self._assigned.items())
        ]

    def _offsets(self) -> list[TopicPartition]:
        reached = self._combiner.watermarks()
        return [
            TopicPartition(*place, assigned.next, metadata=str(reached[place]))
            for place, assigned in self._assigned.items()
            if assigned.next != max(assigned.committed, 0)
        ]

    def _account(
        self, batches: list[CountsBatch], said: list[SourceWatermark], seconds: float
    ) -> None:
        stats, intake = self._stats, self._intake
        stats.messages += intake.messages
        stats.message_bytes += intake.message_bytes
        stats.records += intake.records
        stats.failed += intake.failed
        stats.dead_letters += intake.dead_reasons
        stats.late += sum(
            count
            for batch in batches
            for reason, count in zip(batch.dropped.reason, batch.dropped.count, strict=True)
            if reason == LATE
        )
        stats.long_names = self._combiner.long_names
        stats.batches += len(batches)
        stats.flushes += 1
        stats.flush_seconds += seconds
        stats.watermark = max(source.watermark for source in said)
        if intake.sample is not None:
            topic, partition, timestamp_ns = intake.sample
            newest = self._combiner.watermarks().get((topic, partition), NO_WATERMARK)
            stats.lag.update(max(0.0, newest - timestamp_ns / 1e9))

    def _discard(self) -> None:
        """Give up what is in hand; everything is read again from the committed offsets."""
        self._combiner.rollback()
        self._intake.clear()
        for assigned in self._assigned.values():
            assigned.go_back(assigned.committed)

    def _rewind(self) -> None:
        """Fetch partitions that have to go back from their committed offsets.

        By seeking, because assigning anew would be taken for the answer to a rebalance that may be
        under way; and from memory, because the coordinator answers nothing while a member joins.
        """
        for place, assigned in self._assigned.items():
            if not assigned.rewind:
                continue
            try:
                self._consumer.seek(TopicPartition(*place, assigned.committed))
            except KafkaException as error:
                # Its fetcher is being started or stopped: the next turn tries again.
                log.info("%s/%d: cannot seek yet: %s", *place, error.args[0].str())
            else:
                assigned.rewind = False

    def _restore(self, places: Iterable[tuple[str, int]]) -> list[TopicPartition]:
        """Take partitions on as they were committed; returns where to fetch them from."""
        asked = [TopicPartition(*place) for place in places]
        if not asked:
            return []
        starts = []
        for entry in self._committed(asked):
            offset = entry.offset if entry.offset >= 0 else OFFSET_BEGINNING
            self._assigned[entry.topic, entry.partition] = _Assigned(offset)
            tick = _tick(entry.metadata)
            self._combiner.set_watermark(entry.topic, entry.partition, tick)
            starts.append(TopicPartition(entry.topic, entry.partition, offset))
        return starts

    def _committed(self, asked: list[TopicPartition]) -> list[TopicPartition]:
        deadline = time.monotonic() + _ASK_SECONDS
        while True:
            try:
                found: list[TopicPartition] = self._consumer.committed(asked, timeout=_ASK_SECONDS)
                error = next((entry.error for entry in found if entry.error is not None), None)
            except KafkaException as raised:
                error = raised.args[0]
            if error is None:
                return found
            # Not `retriable()`, which only transactional calls fill in: a coordinator that moves
            # or loads is worth waiting for.
            if error.fatal() or time.monotonic() > deadline:
                raise given_up(error)
            time.sleep(0.1)

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        places = [(entry.topic, entry.partition) for entry in partitions]
        consumer.incremental_assign(self._restore(places))
        # Not here: asking for metadata inside a callback breaks the client's next callback.
        self._recount_due = True
        self._stats.partitions = len(self._assigned)
        log.info("assigned %d partitions, now %d", len(places), len(self._assigned))

    def _on_revoke(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if not self._ending:
            self._flush()
        self._give_up(partitions)

    def _on_lost(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._discard()
        self._give_up(partitions)

    def _give_up(self, partitions: list[TopicPartition]) -> None:
        for entry in partitions:
            self._assigned.pop((entry.topic, entry.partition), None)
            self._combiner.forget(entry.topic, entry.partition)
        self._stats.partitions = len(self._assigned)
        log.info("gave up %d partitions, now %d", len(partitions), len(self._assigned))

    def _count_partitions(self) -> None:
        """Learn how many partitions the source topics have: adding some makes a rebalance."""
        for topic in self._source_topics:
            try:
                metadata = self._consumer.list_topics(topic, timeout=_ASK_SECONDS)
            except KafkaException as error:
                raise given_up(error.args[0]) from None
            self._partitions[topic] = len(metadata.topics[topic].partitions)
        self._recount_due = False


def _consumer_settings(config: Config, name: str) -> dict[str, object]:
    session_ms = round(config.kafka.session_timeout_seconds * 1000)
    return {
        "group.id": config.ingest.group,
        "group.instance.id": name,
        "partition.assignment.strategy": "cooperative-sticky",
        "session.timeout.ms": session_ms,
        "heartbeat.interval.ms": max(session_ms // 5, 100),
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "enable.partition.eof": True,
        # Partitions without a committed offset are started at their beginning explicitly; so this
        # is only about offsets that are gone, which must not pass unnoticed.
        "auto.offset.reset": "error",
        "isolation.level": "read_committed",
        "fetch.wait.max.ms": 100,
        "queued.max.messages.kbytes": 65_536,
    }


def _tick(metadata: str | None) -> int:
    """The watermark in an offset's metadata; none where something else wrote the offset."""
    text = metadata or ""
    if len(text) > 12 or not text.isascii() or not text.isdecimal():
        return NO_WATERMARK
    return int(text)
