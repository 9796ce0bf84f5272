"""Apache Kafka in a container, through testcontainers, where a Docker engine answers."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import TYPE_CHECKING, Self

import docker
from docker.errors import DockerException
from testcontainers.core.container import DockerContainer

from kafka_cluster.java import KAFKA_VERSION, ClusterError
from streamwatch.config import Kafka
from streamwatch.kafka.clients import Probe

if TYPE_CHECKING:
    from types import TracebackType

IMAGE = f"apache/kafka:{KAFKA_VERSION}"
_START_SECONDS = 120


def why_not() -> str:
    """What this machine lacks for it, or an empty string."""
    try:
        client = docker.from_env(timeout=5)
        try:
            client.ping()
        finally:
            client.close()
    except DockerException:
        return "no Docker engine answers"
    return ""


class ContainerKafka:
    """One broker in a container, while the context lasts.

    Attributes:
        version: Kafka's.
        bootstrap: `host:port` for clients on this machine, once entered.

    Raises:
        ClusterError: on entering, when the image cannot be had or the broker does not answer.
    """

    version = KAFKA_VERSION

    def __init__(self) -> None:
        self.bootstrap = ""
        self._cleanup = contextlib.ExitStack()

    def __enter__(self) -> Self:
        # Clients connect to what the broker advertises, so the port is chosen beforehand.
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        container = DockerContainer(IMAGE).with_bind_ports(9092, port)
        for key, value in _environment(port).items():
            container = container.with_env(key, value)
        try:
            container.start()
        except DockerException as error:
            raise ClusterError(f"cannot start {IMAGE}: {error}") from error
        with contextlib.ExitStack() as cleanup:
            cleanup.callback(container.stop)
            self.bootstrap = f"{container.get_container_host_ip()}:{port}"
            question = Probe(Kafka(bootstrap=self.bootstrap))
            deadline = time.monotonic() + _START_SECONDS
            while question.ask(0.5) is None:
                if time.monotonic() > deadline:
                    logs = b"".join(container.get_logs()).decode(errors="backslashreplace")
                    raise ClusterError(f"{IMAGE} does not answer; its log:\n{logs[-8000:]}")
            self._cleanup = cleanup.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._cleanup.close()


def _environment(port: int) -> dict[str, str]:
    return {
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_LISTENERS": "PLAINTEXT://:9092,CONTROLLER://:9093",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://localhost:{port}",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
    }
