"""The pipeline as users run it: processes of the command line, on one broker."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from reading import read_committed
from streamwatch import config as configuration
from streamwatch.counts import CountsBatch, decode
from streamwatch.formats.registry import decoder_for
from streamwatch.kafka import topics
from streamwatch.replay import capture
from streamwatch.signals.envelope import Signal, decode_signal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from confluent_kafka import Message

    from streamwatch.detect.verdict import Verdict

CAPTURES = Path(__file__).parents[2] / "benchmarks" / "captures"
SOURCES = {"sqlalchemy-upgrade": "otlp_json", "healthy": "json"}
PARTITIONS = 4

#: (service, release, tick) to records.
Totals = Counter[tuple[str, str, int]]


def captured(name: str) -> list[capture.CapturedMessage]:
    return list(capture.read(CAPTURES / f"{name}.jsonl.zst", capture=True))


class Pipeline:
    """Topics, configuration and processes of one test."""

    def __init__(self, bootstrap: str, prefix: str, folder: Path, **ingest: Any) -> None:
        self.folder = folder
        self.topics = {name: f"{prefix}-{name}" for name in SOURCES}
        self.config = configuration.parse(
            {
                "kafka": {"bootstrap": bootstrap, "session_timeout_seconds": 6.0},
                "topics": {"prefix": prefix, "partitions": PARTITIONS},
                "sources": [
                    {"topic": self.topics[name], "format": encoding}
                    for name, encoding in SOURCES.items()
                ],
                "ingest": {
                    "group": f"{prefix}-ingest",
                    "instance": "a",
                    "metrics_port": 0,
                    "flush_seconds": 0.2,
                }
                | ingest,
                "detect": {"group": f"{prefix}-detect", "instance": "a", "metrics_port": 0},
                "serve": {"port": 0},
            }
        )
        self.file = folder / "streamwatch.yaml"
        self.file.write_bytes(msgspec.yaml.encode(self.config))
        topics.create(self.config, sources=True)

    @contextmanager
    def running(self, *stages: str) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
        """The stages as processes; a test may replace one by another."""
        processes = {stage: self.start(stage) for stage in stages}
        try:
            yield processes
        except BaseException:
            for stage in stages:
                sys.stderr.write(f"--- {stage} said:\n{self.said(stage)[-4000:]}\n")
            raise
        finally:
            for process in processes.values():
                process.terminate()
            for process in processes.values():
                try:
                    process.wait(12)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def start(self, stage: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "streamwatch.cli", stage, "--config", str(self.file)]
        with (self.folder / f"{stage}.log").open("ab") as log:
            return subprocess.Popen(command, stderr=log, stdout=log)

    def said(self, stage: str) -> str:
        return (self.folder / f"{stage}.log").read_text(encoding="utf-8", errors="replace")

    def read(self, name: str) -> list[Message]:
        """Every committed message of one of streamwatch's topics."""
        topic = self.config.topics.name(name)
        return read_committed(self.config.kafka.bootstrap, topic, PARTITIONS)

    def signals(self) -> list[Signal]:
        return [decode_signal(message.value()) for message in self.read("signals")]

    def counted(self) -> Totals:
        totals: Totals = Counter()
        for message in self.read("counts"):
            batch = decode(message.value())
            if isinstance(batch, CountsBatch):
                table = batch.exposure
                for tick, release, records in zip(
                    table.tick, table.release, table.records, strict=True
                ):
                    totals[batch.service, batch.releases[release], tick] += records
        return totals

    def produced(self, name: str) -> Totals:
        """What a capture's records add up to, counted without streamwatch's combiner."""
        source = next(s for s in self.config.sources if s.topic == self.topics[name])
        decoder = decoder_for(source)
        totals: Totals = Counter()
        for message in captured(name):
            for record in decoder.decode(message.value):
                tick = record.timestamp_ns // 1_000_000_000
                totals[record.service, record.release, tick] += 1
        return totals


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.3)


def without_examples(output: Signal | Verdict) -> Any:
    """The output but for its examples: which message a worker met first is no decision."""
    tree = msgspec.to_builtins(output)
    for fingerprint in tree["evidence"]["fingerprints"]:
        fingerprint.pop("example")
    return tree
