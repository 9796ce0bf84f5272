"""Settings of the four Kafka clients, and what start-up says when it cannot go on."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from streamwatch.config import Kafka, Security
from streamwatch.errors import BrokerUnreachable, ConfigError
from streamwatch.kafka import clients

if TYPE_CHECKING:
    from pathlib import Path

BUILDERS = [clients.librdkafka, clients.kafka_python, clients.aiokafka, clients.faust_broker]


@pytest.fixture
def secrets(tmp_path: Path) -> dict[str, str]:
    files = {"username_file": "watcher\n", "password_file": "p4ss word\r\n"}
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    return {name: str(tmp_path / name) for name in files}


def sasl(secrets: dict[str, str], protocol: Any = "SASL_PLAINTEXT") -> Kafka:
    security = Security(protocol=protocol, sasl_mechanism="SCRAM-SHA-512", **secrets)
    return Kafka(bootstrap="one:9092, two:9093", security=security)


def test_plain_settings_name_every_broker_and_nothing_secret() -> None:
    config = Kafka(bootstrap="one:9092, two:9093")

    assert clients.librdkafka(config)["bootstrap.servers"] == "one:9092,two:9093"
    assert clients.kafka_python(config)["bootstrap_servers"] == ["one:9092", "two:9093"]
    assert clients.faust_broker(config) == (["kafka://one:9092", "kafka://two:9093"], None)
    for key in (*clients.librdkafka(config), *clients.aiokafka(config)):
        assert "sasl" not in key
        assert "ssl" not in key


def test_credentials_are_read_without_their_line_ends(secrets: dict[str, str]) -> None:
    config = sasl(secrets)

    native, pure = clients.librdkafka(config), clients.aiokafka(config)
    _, faust = clients.faust_broker(config)

    assert (native["sasl.username"], native["sasl.password"]) == ("watcher", "p4ss word")
    assert (pure["sasl_plain_username"], pure["sasl_plain_password"]) == ("watcher", "p4ss word")
    assert (faust.username, faust.password) == ("watcher", "p4ss word")
    assert native["sasl.mechanism"] == pure["sasl_mechanism"] == faust.mechanism.value
    assert "p4ss word" not in repr(faust)


def test_a_rotated_secret_is_used_by_the_next_client(
    secrets: dict[str, str], tmp_path: Path
) -> None:
    config = sasl(secrets)
    clients.librdkafka(config)

    (tmp_path / "password_file").write_text("rotated")

    assert clients.librdkafka(config)["sasl.password"] == "rotated"


@pytest.mark.parametrize("build", BUILDERS)
@pytest.mark.parametrize(
    ("content", "problem"),
    [(None, "No such file"), (b"", "is empty"), (b"\n", "is empty"), (b"\xff\xfe", "not UTF-8")],
)
def test_an_unusable_secret_names_its_key(
    build: Any, content: bytes | None, problem: str, secrets: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "password_file"
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)

    with pytest.raises(ConfigError, match=problem) as caught:
        build(sasl(secrets))

    assert caught.value.key == "kafka.security.password_file"
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("build", BUILDERS)
@pytest.mark.parametrize("key", ["ca_file", "certificate_file"])
@pytest.mark.parametrize("content", [None, "not a certificate"])
def test_an_unusable_certificate_names_its_key(
    build: Any, key: str, content: str | None, tmp_path: Path
) -> None:
    file = tmp_path / "file.pem"
    if content is not None:
        file.write_text(content)
    config = Kafka(security=Security(protocol="SSL", **{key: str(file)}))  # type: ignore[arg-type] # the keys are strings

    with pytest.raises(ConfigError) as caught:
        build(config)

    assert caught.value.key == f"kafka.security.{key}"


def test_a_key_without_a_certificate_is_refused(tmp_path: Path) -> None:
    security = Security(protocol="SSL", key_file=str(tmp_path / "key.pem"))

    with pytest.raises(ConfigError, match="certificate_file"):
        clients.librdkafka(Kafka(security=security))


def test_a_client_certificate_reaches_every_client(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "1",
        "-subj",
        "/CN=localhost",
    ]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    config = Kafka(
        security=Security(
            protocol="SSL",
            ca_file=str(certificate),
            certificate_file=str(certificate),
            key_file=str(key),
        )
    )

    native, pure = clients.librdkafka(config), clients.kafka_python(config)
    _, faust = clients.faust_broker(config)

    assert native["ssl.ca.location"] == native["ssl.certificate.location"] == str(certificate)
    assert native["ssl.key.location"] == str(key)
    for context in (pure["ssl_context"], faust.context):
        assert isinstance(context, ssl.SSLContext)
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname
        assert len(context.get_ca_certs()) == 1


def test_an_empty_address_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match=r"kafka\.bootstrap"):
        clients.wait_for_broker(Kafka(bootstrap=" , "))


@pytest.mark.parametrize("listening", [False, True])
def test_a_silent_address_is_one_line_within_the_time_limit(
    listening: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        if listening:  # connects, and is never answered
            silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        begin = time.monotonic()

        with pytest.raises(BrokerUnreachable) as caught:
            clients.wait_for_broker(Kafka(bootstrap=address, connect_timeout_seconds=1.5))

    assert 1.4 <= time.monotonic() - begin < 3
    assert address in str(caught.value)
    assert "waited 1.5 s" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")
