"""Detect at the edge: one engine per counts partition, its rows kept in a Faust table."""

from __future__ import annotations

import logging
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from confluent_kafka import Consumer, KafkaException, TopicPartition

from streamwatch import metrics
from streamwatch.counts import decode
from streamwatch.engine import Engine
from streamwatch.errors import InvalidMessage, StageFailed
from streamwatch.kafka.clients import librdkafka

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from streamwatch.config import Config
    from streamwatch.detect.verdict import Verdict
    from streamwatch.fingerprint.catalogue import CatalogueEntry
    from streamwatch.signals.envelope import Signal

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

log = logging.getLogger(__name__)

#: Of the rows: templates and counters shrink to a quarter at the quickest level.
COMPRESSION_LEVEL = 1


class Outcome(NamedTuple):
    """What one message led to.

    Attributes:
        outputs: verdicts and signals, in order.
        catalogue: fingerprints that are new or changed.
        rows: table rows to write, after all else was delivered.
        rejected: why the message is a dead letter; None when it was used.
    """

    outputs: list[Verdict | Signal]
    catalogue: list[CatalogueEntry]
    rows: dict[bytes, bytes]
    rejected: InvalidMessage | None = None


class DetectStage:
    """The engines of the counts partitions that this worker owns.

    An engine is a cache of its partition's table rows: it is made from them when the partition's
    first message arrives, and dropped when partitions move.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._engines: dict[int, Engine] = {}
        self._sizes: dict[bytes, int] = {}
        self.processed: Counter[int] = Counter()

    def apply(self, partition: int, value: bytes, table: Mapping[bytes, bytes]) -> Outcome:
        """Feed one message of the counts or deployments topic.

        Args:
            partition: where it came from.
            value: its bytes.
            table: the rows of all partitions of this worker.
        """
        engine = self._engines.get(partition)
        if engine is None:
            engine = self._engines[partition] = self._restore(partition, table)
        self.processed[partition] += 1
        metrics.DETECT_MESSAGES.inc()
        with metrics.DETECT_FEED.time():
            try:
                outputs = engine.feed(decode(value))
            except InvalidMessage as error:
                return Outcome([], [], {}, error)
            rows = {
                f"{partition}/{row}".encode(): zstd.compress(data, COMPRESSION_LEVEL)
                for row, data in engine.take_changed_rows().items()
            }
            self._sizes.update((key, len(data)) for key, data in rows.items())
            return Outcome(outputs, engine.take_catalogue(), rows)

    def forget(self) -> None:
        """Partitions move: what is in memory may soon be somebody else's."""
        self._engines.clear()
        self._sizes.clear()

    @property
    def partitions(self) -> list[int]:
        """Counts partitions that messages were processed of since they were assigned."""
        return sorted(self._engines)

    def report(self) -> None:
        """Bring the gauges up to date."""
        engines = list(self._engines.values())
        metrics.DETECT_OPEN_ROLLOUTS.set(sum(engine.open_rollouts for engine in engines))
        metrics.DETECT_STATE.set(sum(self._sizes.values()))
        if engines:
            metrics.DETECT_WATERMARK.set(min(engine.closed for engine in engines))

    def _restore(self, partition: int, table: Mapping[bytes, bytes]) -> Engine:
        engine = Engine(
            self._config.policies,
            allowed_lateness=self._config.ingest.allowed_lateness_seconds,
            verdict_seconds=self._config.detect.verdict_seconds,
        )
        prefix = f"{partition}/".encode()
        rows = 0
        for key in list(table):
            if key.startswith(prefix):
                engine.restore(key.removeprefix(prefix).decode(), zstd.decompress(table[key]))
                self._sizes[key] = len(table[key])
                rows += 1
        log.info("partition ready", extra={"partition": partition, "restored_rows": rows})
        return engine


class Watchdog:
    """Ends a worker whose consumer went silent while its input grows.

    It asks the broker by a client of its own, since a stalled consumer knows nothing of what it
    does not read.
    """

    def __init__(self, config: Config, topic: str) -> None:
        settings = librdkafka(config.kafka)
        self._topic = topic
        self._limit = config.detect.stall_seconds
        self._consumer = Consumer(settings | {"group.id": f"{config.detect.group}-watchdog"})
        self._ends: dict[int, int] = {}
        self._grown: dict[int, float] = {}
        self._processed: dict[int, int] = {}

    def check(self, partitions: Iterable[int], processed: Mapping[int, int]) -> None:
        """Compare what the broker has with what was processed; may block for a second.

        Raises:
            StageFailed: a partition grew, and nothing of it was processed for too long.
        """
        now = time.monotonic()
        for partition in partitions:
            end = self._end(partition)
            done = processed.get(partition, 0)
            if done != self._processed.get(partition) or partition not in self._ends:
                self._processed[partition] = done
                self._grown.pop(partition, None)
                self._ends[partition] = end
            elif end > self._ends[partition]:
                since = self._grown.setdefault(partition, now)
                if now - since > self._limit:
                    raise StageFailed(
                        f"detect processed nothing of {self._topic}/{partition} for "
                        f"{now - since:.0f} s while it grew by {end - self._ends[partition]}"
                    )

    def close(self) -> None:
        """Give back the connection."""
        self._consumer.close()

    def _end(self, partition: int) -> int:
        place = TopicPartition(self._topic, partition)
        try:
            _, end = self._consumer.get_watermark_offsets(place, timeout=1.0)
        except KafkaException:
            # The broker is away; that is not this worker's stall.
            return self._ends.get(partition, 0)
        return int(end)
