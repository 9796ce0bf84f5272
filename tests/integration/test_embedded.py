"""The embedded broker: its process, and the parts of Kafka that the pipeline leans on."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer
from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from kafka import KafkaConsumer

from streamwatch.config import Config, Detect, Kafka, SourceTopic, Topics
from streamwatch.errors import StageFailed, UsageError
from streamwatch.kafka import clients, topics
from streamwatch.kafka import embedded as module
from streamwatch.kafka.embedded import EmbeddedBroker


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def config(request: pytest.FixtureRequest, topic_prefix: str) -> Config:
    """Topics of this test's own: what holds on the embedded broker holds on Apache Kafka."""
    broker = request.getfixturevalue(request.param)
    config = Config(
        kafka=Kafka(bootstrap=broker.bootstrap),
        topics=Topics(prefix=topic_prefix, partitions=4),
        detect=Detect(group=f"{topic_prefix}-detect"),
        sources=(SourceTopic(topic=f"{topic_prefix}-logs"),),
    )
    topics.create(config)
    return config


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def gone_within(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(pid)


def read_all(
    config: Config, topic: str, isolation: str = "read_committed"
) -> list[tuple[bytes, bytes]]:
    """Key and value of every message, read to the end of each partition."""
    settings = {
        "group.id": "unused",
        "isolation.level": isolation,
        "enable.partition.eof": True,
        "fetch.wait.max.ms": 50,
    }
    reader = Consumer(clients.librdkafka(config.kafka) | settings)
    unread = set(range(config.topics.partitions))
    reader.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in unread])
    found = []
    deadline = time.monotonic() + 20
    while unread:
        assert time.monotonic() < deadline, f"partitions without an end: {unread}"
        message = reader.poll(0.1)
        if message is None:
            continue
        if message.error() is None:
            found.append((message.key(), message.value()))
        else:
            assert message.error().code() == KafkaError._PARTITION_EOF
            unread.discard(message.partition())
    reader.close()
    return found


def test_it_stops_with_its_context_also_on_an_exception() -> None:
    broker = EmbeddedBroker()

    def use_and_fail() -> None:
        with broker:
            assert alive(broker.pid)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        use_and_fail()

    assert not alive(broker.pid)


def test_it_says_nothing_on_the_screen(capfd: pytest.CaptureFixture[str]) -> None:
    with EmbeddedBroker() as broker:
        assert clients.topics_present(Kafka(bootstrap=broker.bootstrap)) is not None

    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_with_a_parent_that_had_no_time_to_stop_it(
    how: signal.Signals, tmp_path: Path
) -> None:
    script = """
        import time
        from streamwatch.kafka.embedded import EmbeddedBroker
        with EmbeddedBroker() as broker:
            print(broker.pid, flush=True)
            time.sleep(60)
    """
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        env=os.environ | {"TMPDIR": str(tmp_path)},  # nobody is left to remove its folder
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert alive(pid)

    parent.send_signal(how)
    parent.wait(10)
    parent.stdout.close()

    assert gone_within(pid, 5)


def test_a_given_folder_keeps_the_data(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with EmbeddedBroker(folder) as first:
        config = Config(kafka=Kafka(bootstrap=first.bootstrap), topics=Topics(partitions=2))
        topics.create(config)
        producer = Producer(clients.librdkafka(config.kafka))
        producer.produce("streamwatch.counts", b"kept", b"key", partition=1)
        assert producer.flush(10) == 0

    with EmbeddedBroker(folder) as second:
        config = Config(kafka=Kafka(bootstrap=second.bootstrap), topics=Topics(partitions=2))
        assert topics.check(config) == []
        assert read_all(config, "streamwatch.counts") == [(b"key", b"kept")]


def test_a_temporary_folder_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with EmbeddedBroker():
        assert len(list(tmp_path.iterdir())) == 1

    assert list(tmp_path.iterdir()) == []


def test_a_broker_that_dies_is_an_error_with_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    binary = tmp_path / "noida-db"
    binary.write_text(
        "#!/bin/sh\necho 'x: weak version GLIBC not found' >&2\necho 'disk is full' >&2\nexit 3\n"
    )
    binary.chmod(0o755)
    monkeypatch.setattr(module, "_binary", lambda: binary)

    with pytest.raises(StageFailed, match=r"does not start: disk is full$"), EmbeddedBroker():
        pass


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "noida_db", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)

    with (
        pytest.raises(UsageError, match=r"pip install 'streamwatch\[embedded\]'"),
        EmbeddedBroker(),
    ):
        pass


def test_topics_are_as_configured(config: Config) -> None:
    assert topics.check(config) == []


def test_read_committed_sees_committed_transactions_only(config: Config) -> None:
    topic = config.topics.name("counts")
    producer = Producer(clients.librdkafka(config.kafka) | {"transactional.id": f"{topic}-writer"})
    producer.init_transactions(10)
    for number, commit in enumerate([True, False, True]):
        producer.begin_transaction()
        for partition in range(4):
            producer.produce(topic, b"%d" % number, b"k", partition=partition)
        if commit:
            producer.commit_transaction(10)
        else:
            producer.flush(10)
            producer.abort_transaction(10)

    committed = read_all(config, topic, "read_committed")
    everything = read_all(config, topic, "read_uncommitted")

    assert sorted(value for _, value in committed) == [b"0"] * 4 + [b"2"] * 4
    assert sorted(value for _, value in everything) == [b"0"] * 4 + [b"1"] * 4 + [b"2"] * 4


def test_offsets_are_committed_with_the_transaction_or_not_at_all(config: Config) -> None:
    topic = config.topics.name("counts")
    group = f"{topic}-group"
    consumer = Consumer(clients.librdkafka(config.kafka) | {"group.id": group})
    producer = Producer(clients.librdkafka(config.kafka) | {"transactional.id": f"{topic}-writer"})
    producer.init_transactions(10)
    consumer.subscribe([topic])
    deadline = time.monotonic() + 20
    while not consumer.assignment() and time.monotonic() < deadline:
        consumer.poll(0.1)

    offsets = []
    for offset, commit in [(5, True), (9, False)]:
        producer.begin_transaction()
        producer.produce(topic, b"v")
        producer.send_offsets_to_transaction(
            [TopicPartition(topic, 0, offset)], consumer.consumer_group_metadata(), 10
        )
        producer.commit_transaction(10) if commit else producer.abort_transaction(10)
        (found,) = consumer.committed([TopicPartition(topic, 0)], timeout=10)
        offsets.append(found.offset)
    consumer.close()

    assert offsets == [5, 5]


def test_a_second_producer_of_one_transactional_id_fences_the_first(config: Config) -> None:
    topic = config.topics.name("counts")
    settings = clients.librdkafka(config.kafka) | {"transactional.id": f"{topic}-writer"}
    first, second = Producer(settings), Producer(settings)
    first.init_transactions(10)
    first.begin_transaction()
    first.produce(topic, b"zombie")
    first.flush(10)
    second.init_transactions(10)

    with pytest.raises(KafkaException) as caught:
        first.commit_transaction(10)

    assert caught.value.args[0].fatal()
    assert read_all(config, topic, "read_committed") == []


def join(config: Config, strategy: str, instance: str | None = None) -> Consumer:
    """A new member of this test's group; static if it is given an instance name."""
    settings = clients.librdkafka(config.kafka) | {
        "group.id": f"{config.topics.prefix}-group",
        "partition.assignment.strategy": strategy,
        "session.timeout.ms": 10_000,
    }
    if instance is not None:
        settings["group.instance.id"] = instance
    member = Consumer(settings)
    member.subscribe([config.topics.name("counts")])
    return member


def settle(members: list[Consumer], partitions: int, seconds: float = 30) -> list[set[int]]:
    """Poll until every partition has exactly one owner and every member has some."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for member in members:
            member.poll(0.05)
        owned = [{place.partition for place in member.assignment()} for member in members]
        if all(owned) and sorted(each for some in owned for each in some) == list(
            range(partitions)
        ):
            return owned
    raise AssertionError(f"the group does not settle: {owned}")


def test_a_group_shares_the_partitions_and_moves_them_on(config: Config) -> None:
    members = [join(config, "cooperative-sticky") for _ in range(2)]
    settle(members, 4)

    members.pop().close()

    assert settle(members, 4) == [{0, 1, 2, 3}]
    members.pop().close()


def test_a_static_member_that_returns_gets_its_partitions_without_a_rebalance(
    config: Config,
) -> None:
    # Eager, as Faust does it. With a cooperative strategy the embedded broker may hand a returning
    # static member the partitions of another one; Apache Kafka does not.
    members = [join(config, "range", f"pod-{index}") for index in range(2)]
    before = settle(members, 4)
    members.pop().close()  # a static member does not leave the group
    for _ in range(10):
        members[0].poll(0.1)
    meanwhile = {place.partition for place in members[0].assignment()}

    members.append(join(config, "range", "pod-1"))
    after = settle(members, 4)

    assert meanwhile == before[0]
    assert after == before
    for member in members:
        member.close()


def test_the_pure_python_clients_read_what_librdkafka_writes(config: Config) -> None:
    """Counts as ingest compresses them, for Faust; a signal as the SDK can read it."""
    counts, signals = config.topics.name("counts"), config.topics.name("signals")
    long = b"compresses well " * 200
    for topic, compression in ((counts, "lz4"), (signals, "gzip")):
        producer = Producer(clients.librdkafka(config.kafka) | {"compression.type": compression})
        producer.produce(topic, long, b"prod|cart", headers={"ce_id": b"1"})
        assert producer.flush(10) == 0

    async def read_async() -> tuple[bytes, bytes]:
        consumer = AIOKafkaConsumer(
            counts, auto_offset_reset="earliest", **clients.aiokafka(config.kafka)
        )
        await consumer.start()
        try:
            message = await asyncio.wait_for(consumer.getone(), 10)
            return message.key, message.value
        finally:
            await consumer.stop()

    reader = KafkaConsumer(
        signals,
        auto_offset_reset="earliest",
        consumer_timeout_ms=10_000,
        **clients.kafka_python(config.kafka),
    )
    message = next(iter(reader))
    reader.close()

    assert asyncio.run(read_async()) == (b"prod|cart", long)
    assert (message.key, message.value) == (b"prod|cart", long)
    assert message.headers == [("ce_id", b"1")]


def test_a_capture_of_last_year_stays_where_it_is_played(config: Config) -> None:
    topics.create(config, sources=True)
    logs = config.sources[0].topic
    producer = Producer(clients.librdkafka(config.kafka))
    last_year = round((time.time() - 365 * 86_400) * 1000)
    for number in range(20):
        producer.produce(logs, b"old", str(number).encode(), timestamp=last_year)
    assert producer.flush(10) == 0
    time.sleep(5)
    assert len(read_all(config, logs)) == 20
