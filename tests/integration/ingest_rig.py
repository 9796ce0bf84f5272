"""What the ingest tests share: topics, input whose counts are known, workers, and what came out."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec
import orjson
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from reading import read_committed
from streamwatch.config import Config, Ingest, Kafka, SourceTopic, Topics
from streamwatch.counts import CountsBatch, Watermarks, decode
from streamwatch.deadletters import DeadLetter
from streamwatch.kafka import topics
from streamwatch.kafka.ingest import IngestStats, IngestWorker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from confluent_kafka import Message

#: Event time of the first record: not long ago, since brokers delete what is older than a week.
TICK = int(time.time()) - 3_600
PARTITIONS = 4

#: (service, tick, release, instance) to records.
Exposure = Counter[tuple[str, int, str, str]]


class Rig:
    """The topics of one test on one broker."""

    def __init__(self, bootstrap: str, prefix: str, **ingest: Any) -> None:
        self.logs = f"{prefix}-logs"
        settings = {"flush_seconds": 0.1, "idle_seconds": 1.0, "metrics_port": 0}
        self.config = Config(
            kafka=Kafka(bootstrap=bootstrap, session_timeout_seconds=6.0),
            topics=Topics(prefix=prefix, partitions=PARTITIONS),
            sources=(SourceTopic(topic=self.logs),),
            ingest=Ingest(group=f"{prefix}-ingest", instance="machine", **(settings | ingest)),
        )
        topics.create(self.config, sources=True)

    def produce(self, values: Iterable[tuple[int, bytes]]) -> None:
        """Write (partition, value) pairs."""
        # Idempotent, since a retry would otherwise change the order and make records late.
        settings = {"enable.idempotence": True, "linger.ms": 20}
        producer = Producer(settings | {"bootstrap.servers": self.config.kafka.bootstrap})
        for partition, value in values:
            while True:
                try:
                    producer.produce(self.logs, value, partition=partition)
                    break
                except BufferError:
                    producer.poll(0.1)
        assert producer.flush(30) == 0

    def file(self, folder: Path) -> Path:
        """The configuration as a file, for the command line."""
        path = folder / "streamwatch.yaml"
        path.write_bytes(orjson.dumps(msgspec.to_builtins(self.config)))
        return path

    @contextmanager
    def worker(self, number: int = 0) -> Iterator[Running]:
        """A worker in a thread of this process, while the context lasts."""
        running = Running(self.config, number)
        try:
            yield running
        finally:
            running.stop()

    def start(self, folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
        """`streamwatch ingest` as a process of its own."""
        command = [sys.executable, "-m", "streamwatch.cli", "ingest"]
        file = str(self.file(folder))
        log = (folder / "ingest.log").open("ab")
        with log:
            return subprocess.Popen([*command, "--config", file, *arguments], stderr=log)

    def read(self, name: str) -> list[Message]:
        """Every committed message of one of streamwatch's topics."""
        topic = self.config.topics.name(name)
        return read_committed(self.config.kafka.bootstrap, topic, PARTITIONS)

    def batches(self) -> list[CountsBatch]:
        found = [decode(message.value()) for message in self.read("counts")]
        return [each for each in found if isinstance(each, CountsBatch)]

    def watermarks(self) -> dict[int, Watermarks]:
        """The last watermarks in each partition of the counts topic."""
        last = {}
        for message in self.read("counts"):
            value = decode(message.value())
            if isinstance(value, Watermarks):
                last[message.partition()] = value
        return last

    def dead_letters(self) -> list[DeadLetter]:
        return [
            msgspec.json.decode(message.value(), type=DeadLetter)
            for message in self.read("dead-letter")
        ]

    def committed(self) -> dict[int, tuple[int, str]]:
        """Committed offset and metadata of each source partition."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.config.kafka.bootstrap,
                "group.id": self.config.ingest.group,
                # Does not wait for the offsets in a transaction that a killed worker left open.
                "isolation.level": "read_uncommitted",
            }
        )
        places = [TopicPartition(self.logs, partition) for partition in range(PARTITIONS)]
        try:
            found = consumer.committed(places, timeout=10)
        except KafkaException:
            return {}  # A broker that has just started is still looking for its coordinators.
        finally:
            consumer.close()
        return {entry.partition: (entry.offset, entry.metadata) for entry in found}


class Running:
    """A worker in a thread."""

    def __init__(self, config: Config, number: int) -> None:
        self.stats = IngestStats()
        self.error: Exception | None = None
        self._stop = threading.Event()
        self.worker = IngestWorker(config, number, self._stop, self.stats)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.worker.run()
        except Exception as error:  # noqa: BLE001  the test looks at it
            self.error = error

    def stop(self) -> float:
        """Stop the worker; returns how long that took."""
        begin = time.monotonic()
        self._stop.set()
        self._thread.join(20)
        assert not self._thread.is_alive()
        return time.monotonic() - begin

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.05)


def log_line(number: int, **fields: Any) -> dict[str, Any]:
    """The n-th log record of a made-up shop: every eighth is an error."""
    failed = number % 8 == 0
    return {
        "timestamp": TICK + number // 1_000,
        "service.name": f"shop-{number % 3}",
        "deployment.environment.name": "prod",
        "service.version": f"1.{number % 2}",
        "service.instance.id": f"pod-{number % 5}",
        "level": "error" if failed else "info",
        "message": f"order {number} failed" if failed else f"order {number} placed",
        "user.id": f"u-{number % 100}",
    } | fields


def log_lines(count: int, first: int = 0) -> Iterator[tuple[int, bytes]]:
    for number in range(first, first + count):
        yield number % PARTITIONS, orjson.dumps(log_line(number))


def expected(count: int) -> tuple[Exposure, int]:
    """Exposure and number of errors of the first `count` log records."""
    exposure: Exposure = Counter()
    for number in range(count):
        line = log_line(number)
        key = (line["service.name"], line["timestamp"])
        exposure[*key, line["service.version"], line["service.instance.id"]] += 1
    return exposure, sum(number % 8 == 0 for number in range(count))


def counted(batches: Iterable[CountsBatch]) -> tuple[Exposure, int]:
    exposure: Exposure = Counter()
    errors = 0
    for batch in batches:
        assert not batch.dropped.tick, batch.dropped
        rows = batch.exposure
        for tick, release, instance, records in zip(
            rows.tick, rows.release, rows.instance, rows.records, strict=True
        ):
            key = (batch.service, tick, batch.releases[release], batch.instances[instance])
            exposure[key] += records
        errors += sum(batch.errors.count)
    return exposure, errors


def assert_ranges_do_not_overlap(batches: Iterable[CountsBatch]) -> None:
    """Of each service and source partition, as detect relies on it."""
    ranges: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for batch in batches:
        for source in batch.sources:
            span = (source.first_offset, source.last_offset)
            ranges.setdefault((batch.key, source.name), []).append(span)
    for spans in ranges.values():
        # In the order in which they were written: a reader applies them as they come.
        assert spans == sorted(spans)
        for (_, last), (first, _) in pairwise(spans):
            assert last < first
