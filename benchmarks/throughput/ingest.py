"""Records a second from the broker to committed counts, on one core.

    python benchmarks/throughput/ingest.py [--bootstrap HOST:PORT] [--records N] [--json]

Writes N log records of mapped JSON (about 300 bytes, 2 % errors, microsecond timestamps, every line
different) to a topic, then has each contestant read them in a process of its own, pinned to one
core, from the moment that it has its partitions to the moment that all of it is committed:

- `ceiling`: confluent-kafka's batch consumer that only adds up the bytes;
- `streamwatch`: the ingest worker as it is deployed, with its default settings;
- `kafka-python`: the same decoder, combiner and transaction in a loop over kafka-python.

Without `--bootstrap` an Apache Kafka is started, pinned to the other cores. The best of several
runs counts. `core` is processor time over time: below 1, the broker was the slower one.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import msgspec
import orjson
from confluent_kafka import Consumer, Producer
from kafka import KafkaConsumer, KafkaProducer
from kafka.structs import OffsetAndMetadata

from streamwatch.config import Config, Ingest, Kafka, SourceTopic, Topics
from streamwatch.counts import encode
from streamwatch.kafka import topics
from streamwatch.kafka.clients import kafka_python, librdkafka
from streamwatch.kafka.ingest import IngestStats, run_worker
from streamwatch.kafka.intake import Intake

if TYPE_CHECKING:
    from collections.abc import Iterator

TESTS = Path(__file__).parents[2] / "tests"
PARTITIONS = 4
WATCH_SECONDS = 0.005


class Result(msgspec.Struct):
    """What one contestant measured of itself.

    Attributes:
        contestant: its name.
        records: records read.
        seconds: from its first assignment to the last commit.
        cpu_seconds: processor time of its process in the meantime.
    """

    contestant: str
    records: int
    seconds: float
    cpu_seconds: float

    @property
    def rate(self) -> float:
        """Records a second."""
        return self.records / self.seconds


def ceiling(config: Config, records: int) -> Result:
    """Only take the messages and add up their bytes."""
    consumer = Consumer(
        librdkafka(config.kafka)
        | {
            "group.id": config.ingest.group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "queued.max.messages.kbytes": 65_536,
        }
    )
    clock = Stopwatch()
    consumer.subscribe([config.sources[0].topic], on_assign=lambda *_: clock.start())
    taken = size = 0
    while taken < records:
        for message in consumer.consume(config.ingest.batch_messages, 0.1):
            if message.error() is None:
                size += len(message.value())
                taken += 1
    result = clock.stop("ceiling", taken)
    consumer.close()
    return result


def streamwatch(config: Config, records: int) -> Result:
    """The worker itself."""
    stop, stats, clock = threading.Event(), IngestStats(), Stopwatch()
    results: list[Result] = []

    def watch() -> None:
        while stats.partitions == 0:
            time.sleep(WATCH_SECONDS)
        clock.start()
        while stats.records < records:
            time.sleep(WATCH_SECONDS)
        results.append(clock.stop("streamwatch", stats.records))
        stop.set()

    threading.Thread(target=watch, daemon=True).start()
    run_worker(config, 0, stop, stats)
    if stats.failed or stats.late:
        raise SystemExit(f"not every record was counted: {stats}")
    return results[0]


def with_kafka_python(config: Config, records: int) -> Result:
    """The same job over kafka-python."""
    settings = kafka_python(config.kafka)
    intake, clock = Intake(config), Stopwatch()
    producer = KafkaProducer(
        **settings, transactional_id=config.ingest.group, compression_type="zstd"
    )
    producer.init_transactions()
    consumer = KafkaConsumer(
        config.sources[0].topic,
        **settings,
        group_id=config.ingest.group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    taken, next_offsets, due = 0, {}, 0.0
    while taken < records:
        polled = consumer.poll(timeout_ms=100, max_records=config.ingest.batch_messages)
        if consumer.assignment():
            clock.start()
        for place, messages in polled.items():
            for message in messages:
                intake.take(
                    place.topic, place.partition, message.offset, message.timestamp, message.value
                )
            next_offsets[place] = OffsetAndMetadata(messages[-1].offset + 1, "", -1)
            taken += len(messages)
        if next_offsets and (time.monotonic() >= due or taken >= records):
            producer.begin_transaction()
            for batch in intake.combiner.drain():
                producer.send(
                    config.topics.name("counts"), key=batch.key.encode(), value=encode(batch)
                )
            producer.send_offsets_to_transaction(next_offsets, consumer.group_metadata())
            producer.commit_transaction()
            intake.combiner.commit()
            next_offsets, due = {}, time.monotonic() + config.ingest.flush_seconds
    result = clock.stop("kafka-python", taken)
    consumer.close()
    producer.close()
    return result


CONTESTANTS = {"ceiling": ceiling, "streamwatch": streamwatch, "kafka-python": with_kafka_python}


class Stopwatch:
    """Time and processor time since the first `start`."""

    def __init__(self) -> None:
        self._begin: tuple[float, float] | None = None

    def start(self) -> None:
        """Start it, unless it runs."""
        self._begin = self._begin or (time.perf_counter(), time.process_time())

    def stop(self, contestant: str, records: int) -> Result:
        """What has passed."""
        now = (time.perf_counter(), time.process_time())
        begin = self._begin or now
        return Result(contestant, records, now[0] - begin[0], now[1] - begin[1])


def config_of(bootstrap: str, prefix: str, group: str) -> Config:
    """Default settings, on the benchmark's topics."""
    return Config(
        kafka=Kafka(bootstrap=bootstrap),
        topics=Topics(prefix=prefix, partitions=PARTITIONS),
        sources=(SourceTopic(topic=f"{prefix}-logs"),),
        ingest=Ingest(group=group, instance="benchmark", metrics_port=0),
    )


def log_lines(count: int) -> Iterator[bytes]:
    """Ordinary logs of eight services over the last hour, in order of time."""
    random.seed(7)
    begin = time.time() - 3_600
    for number in range(count):
        seconds = begin + number * 1e-4
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
        failed = random.random() < 0.02
        order = random.randrange(10**6)
        yield orjson.dumps(
            {
                "timestamp": f"{stamp}.{int(seconds % 1 * 1e6):06}Z",
                "level": "ERROR" if failed else "INFO",
                "logger": "shop.orders",
                "message": f"order {order} failed: upstream took {random.randrange(9999)} ms"
                if failed
                else f"order {order} placed in {random.randrange(99)} ms",
                "service.name": f"shop-{number % 8}",
                "service.version": "2.4.0" if random.random() < 0.9 else "2.4.1",
                "deployment.environment.name": "production",
                "service.instance.id": f"shop-{number % 8}-{random.randrange(6)}",
                "trace_id": f"{random.getrandbits(128):032x}",
            }
        )


def produce(config: Config, count: int) -> float:
    """Write the records; returns their mean size in bytes."""
    topics.create(config, sources=True)
    producer = Producer(
        librdkafka(config.kafka)
        | {"linger.ms": 50, "compression.type": "zstd", "enable.idempotence": True}
    )
    size = 0
    for number, line in enumerate(log_lines(count)):
        size += len(line)
        while True:
            try:
                # Hundreds in a row to each partition, as a producer's batches would come.
                producer.produce(
                    config.sources[0].topic, line, partition=number // 500 % PARTITIONS
                )
                break
            except BufferError:
                producer.poll(0.1)
    producer.flush()
    return size / count


def measure(name: str, bootstrap: str, prefix: str, args: argparse.Namespace) -> Result:
    """The best run of one contestant, each in a process of its own on the chosen core."""
    runs = []
    for _ in range(args.rounds):
        command = [sys.executable, __file__, "--bootstrap", bootstrap, "--prefix", prefix]
        command += ["--contestant", name, "--records", str(args.records)]
        ended = subprocess.run(
            ["taskset", "-c", str(args.cpu), *command], stdout=subprocess.PIPE, check=True
        )
        runs.append(msgspec.json.decode(ended.stdout, type=Result))
    return max(runs, key=lambda run: run.rate)


@contextmanager
def broker(bootstrap: str | None, cpu: int) -> Iterator[str]:
    """The address of the given Kafka, or of one started on the cores other than `cpu`."""
    if bootstrap is not None:
        yield bootstrap
        return
    sys.path.insert(0, str(TESTS))
    from kafka_cluster.choose import obtain  # noqa: PLC0415  not needed with --bootstrap

    os.sched_setaffinity(0, set(range(os.cpu_count() or 1)) - {cpu} or {cpu})
    with obtain() as running:
        yield running.bootstrap


def report(results: list[Result], size: float, *, as_json: bool) -> None:
    """Print the results, with their ratio to the first."""
    if as_json:
        rows = [msgspec.to_builtins(result) | {"rate": result.rate} for result in results]
        print(json.dumps({"mean_bytes": size, "results": rows}))
        return
    print(f"{results[0].records:,} records of {size:.0f} bytes")
    print(f"{'contestant':<14}{'records/s':>12}{'MB/s':>8}{'ratio':>8}{'core':>7}{'us/record':>11}")
    for result in results:
        print(
            f"{result.contestant:<14}{result.rate:>12,.0f}{result.rate * size / 1e6:>8.0f}"
            f"{result.rate / results[0].rate:>8.2f}{result.cpu_seconds / result.seconds:>7.2f}"
            f"{result.cpu_seconds / result.records * 1e6:>11.2f}"
        )


def main() -> None:
    """Write the records, run the contestants, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bootstrap", help="a running Kafka (default: start one)")
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--cpu", type=int, default=0, help="the core that contestants run on")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=CONTESTANTS, action="append")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--contestant", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--prefix", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.contestant:
        group = f"{args.prefix}-{uuid4().hex[:8]}"
        config = config_of(args.bootstrap, args.prefix, group)
        result = CONTESTANTS[args.contestant](config, args.records)
        sys.stdout.buffer.write(msgspec.json.encode(result))
        return
    with broker(args.bootstrap, args.cpu) as bootstrap:
        prefix = f"benchmark-{uuid4().hex[:8]}"
        size = produce(config_of(bootstrap, prefix, prefix), args.records)
        results = [
            measure(name, bootstrap, prefix, args) for name in args.only or list(CONTESTANTS)
        ]
    report(results, size, as_json=args.json)


if __name__ == "__main__":
    main()
