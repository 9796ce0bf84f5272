"""`streamwatch serve` as a process, on a real Kafka."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import pytest
from confluent_kafka import Producer

from kafka_cluster import java
from streamwatch.config import Config, Detect, Kafka, Serve, SourceTopic, Topics
from streamwatch.detect.verdict import Status, Verdict, encode_verdict
from streamwatch.kafka import topics
from streamwatch.signals.envelope import encode_signal, headers
from wire_examples import SIGNAL, verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kafka_cluster.choose import RealKafka

Found = TypeVar("Found")


class Answer(NamedTuple):
    code: int
    json: Any


class Serving:
    """A running `streamwatch serve`; what it says on stderr is read all along."""

    def __init__(self, config: Config) -> None:
        command = [sys.executable, "-m", "streamwatch.cli", "serve"]
        environment = os.environ | {
            "STREAMWATCH_KAFKA__BOOTSTRAP": config.kafka.bootstrap,
            "STREAMWATCH_KAFKA__CONNECT_TIMEOUT_SECONDS": "2",
            "STREAMWATCH_TOPICS__PREFIX": config.topics.prefix,
            "STREAMWATCH_SERVE__PORT": str(config.serve.port),
            "STREAMWATCH_SERVE__FRESH_SECONDS": str(config.serve.fresh_seconds),
        }
        self.process = subprocess.Popen(
            command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        )
        self.said: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.said.extend(iter(self.process.stderr.readline, ""))

    @property
    def url(self) -> str:
        def announced() -> str:
            lines = [line for line in self.said if line.startswith("serving on http://")]
            return lines[0].split()[-1] if lines else ""

        return until(announced)

    def get(self, path: str) -> Answer:
        try:
            with urllib.request.urlopen(self.url + path, timeout=5) as answer:  # noqa: S310  ours
                return Answer(answer.status, json.load(answer))
        except urllib.error.HTTPError as error:
            return Answer(error.code, json.load(error))

    def ready(self) -> bool:
        return self.get("/readyz").code == 200

    def stop(self, how: int = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        return self.ended(10)

    def ended(self, seconds: float) -> int:
        code = self.process.wait(seconds)
        self._reader.join(seconds)
        return code


def until(condition: Callable[[], Found], seconds: float = 30.0) -> Found:
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


@contextmanager
def serving(config: Config, *, ready: bool = True) -> Iterator[Serving]:
    running = Serving(config)
    try:
        if ready:
            until(running.ready)
        yield running
    finally:
        running.process.kill()
        running.ended(10)


def config_of(bootstrap: str, prefix: str, fresh_seconds: float = 30.0) -> Config:
    return Config(
        kafka=Kafka(bootstrap=bootstrap),
        topics=Topics(prefix=prefix, partitions=3),
        detect=Detect(group=f"{prefix}-detect"),
        sources=(SourceTopic(topic=f"{prefix}-logs"),),
        serve=Serve(port=0, fresh_seconds=fresh_seconds),
    )


@pytest.fixture
def config(kafka: RealKafka, topic_prefix: str) -> Config:
    made = config_of(kafka.bootstrap, topic_prefix)
    topics.create(made)
    return made


def write(config: Config, *verdicts: Verdict, removed: tuple[Verdict, ...] = ()) -> None:
    producer = Producer({"bootstrap.servers": config.kafka.bootstrap})
    for each in verdicts:
        producer.produce(config.topics.name("verdicts"), encode_verdict(each), each.key)
    for each in removed:
        producer.produce(config.topics.name("verdicts"), None, each.key)
    assert producer.flush(10) == 0


def timeless(answer: Answer) -> list[dict[str, Any]]:
    verdicts = [dict(each) for each in answer.json["verdicts"]]
    for each in verdicts:
        del each["age_seconds"]
    return verdicts


def test_the_same_answers_after_a_restart(config: Config) -> None:
    names = [str(number) for number in range(12)]
    write(config, *(verdict(name, status=Status.FAILED) for name in names))
    write(config, *(verdict(name) for name in names), removed=(verdict("3"),))
    producer = Producer({"bootstrap.servers": config.kafka.bootstrap})
    producer.produce(
        config.topics.name("signals"), encode_signal(SIGNAL), SIGNAL.key, headers=headers(SIGNAL)
    )
    producer.flush(10)

    with serving(config) as first:
        before = timeless(first.get("/v1/verdicts"))
        halts = first.get("/v1/halts")
        assert first.stop() == 0
    with serving(config) as second:
        after = timeless(second.get("/v1/verdicts"))
        assert second.get("/v1/halts") == halts
        gone = second.get("/v1/verdicts/production/checkout/3")

    assert [each["release"] for each in before] == sorted(set(names) - {"3"})
    assert {each["status"] for each in before} == {"Successful"}
    assert after == before
    assert [halt["id"] for halt in halts.json["halts"]] == [SIGNAL.id]
    assert (gone.code, gone.json["status"]) == (404, "Inconclusive")


def test_what_is_written_later_is_served_within_a_second(config: Config) -> None:
    path = "/v1/verdicts/production/checkout/2.4.1"
    with serving(config) as running:
        assert running.get(path).json["reason"] == "unknown release"
        write(config, verdict())
        until(lambda: running.get(path).code == 200, 1.0)
        write(config, verdict(status=Status.FAILED))
        until(lambda: running.get(path).json["status"] == "Failed", 1.0)


def test_an_unrenewed_success_becomes_inconclusive_and_a_renewed_one_does_not(
    kafka: RealKafka, topic_prefix: str
) -> None:
    config = config_of(kafka.bootstrap, topic_prefix, fresh_seconds=2.0)
    topics.create(config)
    write(config, verdict("stalled"), verdict("failed", status=Status.FAILED))
    write(config, verdict("closed", open=False), verdict("renewed"))

    with serving(config) as running:

        def status(release: str) -> str:
            return str(running.get(f"/v1/verdicts/production/checkout/{release}").json["status"])

        def stale_while_renewing() -> bool:
            write(config, verdict("renewed"))
            assert status("renewed") == "Successful"
            return status("stalled") == "Inconclusive"

        until(stale_while_renewing, 10)
        stale = running.get("/v1/verdicts/production/checkout/stalled").json
        assert "detector may be stalled" in stale["reason"]
        assert (stale["action"], stale["stale"]) == ("hold", True)
        assert status("failed") == "Failed"
        assert status("closed") == "Successful"


def test_only_what_was_committed_is_served(config: Config) -> None:
    producer = Producer(
        {"bootstrap.servers": config.kafka.bootstrap, "transactional.id": config.topics.prefix}
    )
    producer.init_transactions()
    for release, finish in (
        ("committed", producer.commit_transaction),
        ("aborted", producer.abort_transaction),
    ):
        producer.begin_transaction()
        each = verdict(release)
        producer.produce(config.topics.name("verdicts"), encode_verdict(each), each.key)
        producer.flush(10)
        finish()

    # Ready at all: the transactions' own records at the end of the partition are no backlog.
    with serving(config) as running:
        listed = running.get("/v1/verdicts").json["verdicts"]
        assert [each["release"] for each in listed] == ["committed"]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_cleanly_with_requests_on_their_way(config: Config, how: int) -> None:
    with serving(config) as running:
        host, port = running.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as idle:
            idle.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n")
            begin = time.monotonic()
            assert running.stop(how) == 0
            assert time.monotonic() - begin < 10
    assert "Traceback" not in "".join(running.said)


def test_a_broker_that_goes_away_costs_freshness_only(topic_prefix: str) -> None:
    if java.why_not():
        pytest.skip(f"needs a broker of its own: {java.why_not()}")
    with java.JavaCluster() as cluster:
        config = config_of(cluster.bootstrap, topic_prefix, fresh_seconds=3.0)
        topics.create(config)
        write(config, verdict("closed", open=False), verdict("failed", status=Status.FAILED))
        with serving(config) as running:
            broker = cluster.brokers[0]
            broker.kill()
            until(lambda: not running.ready(), 15)
            not_ready = running.get("/readyz").json
            assert "out of step with Kafka" in not_ready["reasons"][0]
            statuses = {
                each["release"]: each["status"]
                for each in running.get("/v1/verdicts").json["verdicts"]
            }
            assert statuses == {"closed": "Inconclusive", "failed": "Failed"}
            unknown = running.get("/v1/verdicts/production/checkout/unknown")
            assert (unknown.code, unknown.json["status"]) == (503, "Inconclusive")
            assert running.get("/livez").code == 200

            broker.start()
            cluster.wait()
            until(running.ready, 60)
            assert running.get("/v1/verdicts/production/checkout/closed").json["status"] == (
                "Successful"
            )
            write(config, verdict("later"))
            until(lambda: running.get("/v1/verdicts/production/checkout/later").code == 200, 10)
        # every change is said, and not every attempt
        assert len(running.said) < 20


class TestWhatCannotStart:
    """One clear line, and the exit code that says whose fault it is."""

    def line(self, config: Config, code: int) -> str:
        with serving(config, ready=False) as running:
            assert running.ended(30) == code
        (line,) = [line for line in running.said if line.startswith("streamwatch: ")]
        assert "Traceback" not in "".join(running.said)
        return line

    def test_no_broker(self, topic_prefix: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        line = self.line(config_of(f"127.0.0.1:{port}", topic_prefix), 4)
        assert f"127.0.0.1:{port}" in line

    def test_no_topics(self, kafka: RealKafka, topic_prefix: str) -> None:
        line = self.line(config_of(kafka.bootstrap, topic_prefix), 4)
        assert f"{topic_prefix}.verdicts" in line
        assert f"{topic_prefix}.signals" in line

    def test_a_taken_port(self, config: Config) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            changed = Config(kafka=config.kafka, topics=config.topics, serve=Serve(port=port))
            line = self.line(changed, 2)
        assert line.startswith(
            f"streamwatch: config: serve.port: cannot listen on 127.0.0.1:{port}"
        )
