"""Every client library, with our settings, on a listener that wants TLS and a password."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Literal

import faust
import pytest
from aiokafka import AIOKafkaProducer
from confluent_kafka import Producer
from kafka import KafkaProducer

from kafka_cluster import java
from streamwatch.config import Config, Detect, Kafka, Security, Topics
from streamwatch.errors import BrokerUnreachable
from streamwatch.kafka import clients, topics

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.kafka
PASSWORD = "correct horse"  # noqa: S105  of a broker that lives as long as this module


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("secured")


@pytest.fixture(scope="module")
def bootstrap(folder: Path) -> Iterator[str]:
    """A broker of this module's own: the session's has no such listener."""
    lacks = java.why_not() or ("" if shutil.which("openssl") else "no openssl")
    if lacks:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no secured Kafka: {lacks}")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    pem = folder / "broker.pem"
    pem.write_text(key.read_text() + certificate.read_text())
    secured = java.Secured(pem, {"streamwatch": PASSWORD})
    with java.JavaCluster(secured=secured) as cluster:
        yield cluster.secured_bootstrap


def config(
    folder: Path,
    bootstrap: str,
    password: str = PASSWORD,
    protocol: Literal["SSL", "SASL_SSL"] = "SASL_SSL",
    *,
    trusted: bool = True,
) -> Config:
    (folder / "username").write_text("streamwatch\n")
    (folder / "password").write_text(f"{password}\n")
    security = Security(
        protocol=protocol,
        sasl_mechanism="PLAIN",
        username_file=str(folder / "username"),
        password_file=str(folder / "password"),
        ca_file=str(folder / "certificate.pem") if trusted else None,
    )
    return Config(
        kafka=Kafka(bootstrap=bootstrap, connect_timeout_seconds=5, security=security),
        topics=Topics(partitions=1),
        detect=Detect(group="secured-detect"),
    )


def test_every_client_gets_in(folder: Path, bootstrap: str) -> None:
    allowed = config(folder, bootstrap)
    topics.create(allowed)
    assert topics.check(allowed) == []

    native = Producer(clients.librdkafka(allowed.kafka))
    native.produce("streamwatch.counts", b"librdkafka")
    assert native.flush(10) == 0

    pure = KafkaProducer(**clients.kafka_python(allowed.kafka))
    assert pure.send("streamwatch.counts", b"kafka-python").get(10).offset == 1
    pure.close()

    async def send() -> int:
        producer = AIOKafkaProducer(**clients.aiokafka(allowed.kafka))
        await producer.start()
        try:
            sent = await producer.send_and_wait("streamwatch.counts", b"aiokafka")
            return int(sent.offset)
        finally:
            await producer.stop()

    assert asyncio.run(send()) == 2


def test_faust_gets_in(folder: Path, bootstrap: str) -> None:
    allowed = config(folder, bootstrap)
    topics.create(allowed)

    async def send() -> int:
        urls, credentials = clients.faust_broker(allowed.kafka)
        app = faust.App("secured", broker=urls, broker_credentials=credentials, autodiscover=False)
        channel = app.topic("streamwatch.signals", value_serializer="raw", key_serializer="raw")
        await app.producer.start()
        try:
            sent = await (await channel.send(key=b"k", value=b"faust"))
            return int(sent.offset)
        finally:
            await app.producer.stop()

    assert asyncio.run(asyncio.wait_for(send(), 20)) == 0


def test_a_wrong_password_is_told_at_once_and_not_repeated(folder: Path, bootstrap: str) -> None:
    wrong = "wrong one"
    with pytest.raises(BrokerUnreachable, match="refuses the credentials") as caught:
        clients.wait_for_broker(config(folder, bootstrap, password=wrong).kafka)

    assert wrong not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_authority_that_nobody_trusts_is_named_as_the_reason(
    folder: Path, bootstrap: str
) -> None:
    with pytest.raises(BrokerUnreachable, match="certificate") as caught:
        clients.wait_for_broker(config(folder, bootstrap, trusted=False).kafka)

    assert "\n" not in str(caught.value)
