"""The feed over a scripted Kafka: catching up, outages, topics that change under it."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any, NamedTuple

import pytest
from aiokafka.errors import KafkaConnectionError
from msgspec.structs import replace

from streamwatch import metrics
from streamwatch.api import feed as feed_module
from streamwatch.api.board import Filter
from streamwatch.api.feed import Feed
from streamwatch.detect.verdict import encode_verdict
from streamwatch.errors import ConfigError
from streamwatch.signals.envelope import encode_signal
from wire_examples import SIGNAL, verdict

FRESH_SECONDS = 30.0


class Partition(NamedTuple):
    topic: str
    partition: int


class Record(NamedTuple):
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int | None


class Cluster:
    """What Kafka holds, and whether it answers. Time passes only where a test says so."""

    def __init__(self) -> None:
        self.logs: dict[Partition, list[Record]] = {
            Partition("verdicts", 0): [],
            Partition("verdicts", 1): [],
            Partition("signals", 0): [],
        }
        self.answers = True
        self.tells_ends = True
        self.now = 1000.0
        self.connections = 0
        self.stops = 0
        self.most_records = 1000

    def write(self, topic: str, value: bytes | None, key: bytes = b"", partition: int = 0) -> None:
        log = self.logs[Partition(topic, partition)]
        log.append(Record(topic, partition, len(log), key, value, round(self.now * 1000)))

    def write_verdict(self, release: str, partition: int = 0, **changes: Any) -> None:
        written = verdict(release, **changes)
        self.write("verdicts", encode_verdict(written), written.key.encode(), partition)

    def clock(self) -> float:
        return self.now

    def connect(self) -> FakeConsumer:
        self.connections += 1
        return FakeConsumer(self)


class FakeConsumer:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._positions: dict[Partition, int] = defaultdict(int)

    async def start(self) -> None:
        if not self._cluster.answers:
            raise KafkaConnectionError("nobody there")

    async def stop(self) -> None:
        self._cluster.stops += 1

    def assignment(self) -> set[Partition]:
        return set(self._cluster.logs)

    async def getmany(self, *, timeout_ms: int, max_records: int) -> dict[Partition, list[Record]]:
        assert timeout_ms < 1000
        await asyncio.sleep(0)
        if not self._cluster.answers:
            return {}
        most = min(max_records, self._cluster.most_records)
        found = {}
        for partition, log in self._cluster.logs.items():
            found[partition] = log[self._positions[partition] :][:most]
            self._positions[partition] += len(found[partition])
        return found

    async def end_offsets(self, partitions: set[Partition]) -> dict[Partition, int]:
        if not (self._cluster.answers and self._cluster.tells_ends):
            raise KafkaConnectionError("gone")
        return {partition: len(self._cluster.logs[partition]) for partition in partitions}

    async def position(self, partition: Partition) -> int:
        end = len(self._cluster.logs[partition])
        self._positions[partition] = min(self._positions[partition], end)
        return self._positions[partition]


class Running:
    """A feed that runs on a cluster; `settle` lets it run until nothing more happens."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.feed = Feed(
            "verdicts", "signals", FRESH_SECONDS, cluster.connect, cluster.clock, cluster.clock
        )

    async def __aenter__(self) -> Running:
        self._task = asyncio.create_task(self.feed.run())
        await self.settle()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await self._task

    async def settle(self, seconds: float = 0.0) -> None:
        self.cluster.now += seconds
        for _ in range(200):
            await asyncio.sleep(0)
        assert not self._task.done()

    def releases(self) -> list[str]:
        page = self.feed.view.board.page(Filter(), None, 100, self.feed.moment())
        return [reading.verdict.release for reading in page.readings]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setattr(feed_module, "FIRST_BACKOFF_SECONDS", 0.0)
    return Cluster()


def test_it_reads_both_topics_and_is_in_step(cluster: Cluster) -> None:
    async def scenario() -> None:
        cluster.write_verdict("1")
        cluster.write_verdict("2", partition=1)
        cluster.write("signals", encode_signal(SIGNAL))
        async with Running(cluster) as running:
            assert running.releases() == ["1", "2"]
            assert len(running.feed.view.halts.in_force()) == 1
            assert running.feed.moment().doubt is None
            assert running.feed.problem == ""

    asyncio.run(scenario())


def test_written_at_is_the_records_timestamp_and_none_is_long_ago(cluster: Cluster) -> None:
    async def scenario() -> None:
        cluster.write_verdict("1")
        log = cluster.logs[Partition("verdicts", 0)]
        log[0] = log[0]._replace(timestamp=None)
        cluster.write_verdict("2")
        async with Running(cluster) as running:
            readings = running.feed.view.board.page(Filter(), None, 9, running.feed.moment())
            assert [each.written_at for each in readings.readings] == [0.0, cluster.now]
            assert [each.stale for each in readings.readings] == [True, False]

    asyncio.run(scenario())


def test_before_the_first_ends_are_reached_nothing_is_believed(cluster: Cluster) -> None:
    async def scenario() -> None:
        cluster.most_records = 0
        cluster.write_verdict("1")
        async with Running(cluster) as running:
            assert running.feed.moment().out_of_step_seconds is None
            cluster.most_records = 1
            await running.settle()
            assert running.feed.moment().out_of_step_seconds == 0.0

    asyncio.run(scenario())


def test_it_is_in_step_as_of_when_the_ends_were_asked_for(cluster: Cluster) -> None:
    async def scenario() -> None:
        cluster.most_records = 0
        cluster.write_verdict("1")
        async with Running(cluster) as running:
            cluster.tells_ends = False
            cluster.most_records = 1
            await running.settle(20)
            assert running.feed.moment().out_of_step_seconds == 20.0

    asyncio.run(scenario())


def test_a_stream_that_never_pauses_is_caught_up_with(cluster: Cluster) -> None:
    async def scenario() -> None:
        cluster.most_records = 1
        for number in range(50):
            cluster.write_verdict(str(number))
        async with Running(cluster) as running:
            for number in range(50, 90):
                cluster.write_verdict(str(number))
                await running.settle(0.5)
            assert running.feed.moment().doubt is None
            assert cluster.connections == 1

    asyncio.run(scenario())


def test_a_backlog_longer_than_fresh_seconds_is_read_in_one_go(cluster: Cluster) -> None:
    async def scenario() -> None:
        cluster.most_records = 1
        for number in range(2000):
            cluster.write_verdict(str(number))
        async with Running(cluster) as running:
            for _ in range(5):
                await running.settle(FRESH_SECONDS * 0.9)
            assert cluster.connections == 1

    asyncio.run(scenario())


def test_an_outage_costs_freshness_and_nothing_else(cluster: Cluster) -> None:
    async def scenario() -> None:
        cluster.write_verdict("1", open=False)
        async with Running(cluster) as running:
            cluster.answers = False
            await running.settle(FRESH_SECONDS - 1)
            assert running.feed.moment().doubt is None
            assert "gone" in running.feed.problem
            await running.settle(10)
            assert "out of step" in (running.feed.moment().doubt or "")
            assert running.releases() == ["1"]
            cluster.answers = True
            cluster.write_verdict("2")
            await running.settle(1)
            assert running.feed.moment().doubt is None
            assert running.feed.problem == ""
            assert running.releases() == ["1", "2"]
            assert cluster.connections > 1
            assert cluster.stops == cluster.connections - 1

    asyncio.run(scenario())


def test_a_blip_keeps_the_connection(cluster: Cluster) -> None:
    async def scenario() -> None:
        async with Running(cluster) as running:
            cluster.answers = False
            await running.settle(5)
            cluster.answers = True
            await running.settle(5)
            assert running.feed.problem == ""
            assert cluster.connections == 1

    asyncio.run(scenario())


@pytest.mark.parametrize("change", ["made anew", "more partitions", "fewer partitions"])
def test_a_topic_that_changes_is_read_again_from_the_beginning(
    cluster: Cluster, change: str
) -> None:
    async def scenario() -> None:
        cluster.write_verdict("1")
        cluster.write_verdict("2", partition=1)
        async with Running(cluster) as running:
            assert running.releases() == ["1", "2"]
            if change == "made anew":
                cluster.logs[Partition("verdicts", 0)].clear()
            elif change == "more partitions":
                cluster.logs[Partition("verdicts", 2)] = []
                cluster.write_verdict("3", partition=2)
            else:
                del cluster.logs[Partition("verdicts", 0)]
            await running.settle(2)
            expected = ["1", "2", "3"] if change == "more partitions" else ["2"]
            assert running.releases() == expected
            assert cluster.connections == 2

    asyncio.run(scenario())


def test_no_broker_and_bad_credentials_are_waited_out(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        real = cluster.connect
        failures = [ConfigError("kafka.security.password_file", "cannot read it", "name another")]

        def connect() -> FakeConsumer:
            if failures:
                raise failures.pop()
            return real()

        monkeypatch.setattr(cluster, "connect", connect)
        cluster.answers = False
        async with Running(cluster) as running:
            assert running.feed.moment().doubt is not None
            cluster.answers = True
            await running.settle()
            assert running.feed.moment().doubt is None

    asyncio.run(scenario())


def test_unreadable_records_are_counted_and_said_once(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        cluster.write("verdicts", b"{", b"production|checkout|1")
        cluster.write("verdicts", b"{", b"production|checkout|2")
        cluster.write("signals", encode_signal(replace(SIGNAL, version=9)))
        cluster.write_verdict("3")
        async with Running(cluster) as running:
            assert running.releases() == ["3"]
            assert running.feed.moment().doubt is None

    before = failed("verdicts", "undecodable"), failed("signals", "wrong_type")
    asyncio.run(scenario())
    assert failed("verdicts", "undecodable") == before[0] + 2
    assert failed("signals", "wrong_type") == before[1] + 1
    assert caplog.text.count("cannot read") == 1


def failed(topic: str, reason: str) -> float:
    registry = metrics.exposition("serve").decode()
    prefix = f'streamwatch_serve_failed_total{{reason="{reason}",topic="{topic}"}} '
    lines = [line for line in registry.splitlines() if line.startswith(prefix)]
    return float(lines[0].removeprefix(prefix)) if lines else 0.0
