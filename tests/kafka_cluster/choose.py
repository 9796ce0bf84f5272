"""Which real Kafka the tests run on."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from kafka.admin import KafkaAdminClient

from kafka_cluster import container, java
from kafka_cluster.java import ClusterError
from streamwatch.config import Kafka
from streamwatch.errors import BrokerUnreachable
from streamwatch.kafka.clients import kafka_python, wait_for_broker

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

GIVEN = "STREAMWATCH_TEST_BOOTSTRAP"


class RealKafka(NamedTuple):
    """A running Apache Kafka.

    Attributes:
        bootstrap: `host:port`, several separated by commas.
        version: Kafka's; for one that was given, the newest that its protocol shows it to be.
        origin: how it was obtained.
    """

    bootstrap: str
    version: str
    origin: str


class NoKafkaError(Exception):
    """This machine has no way to run Kafka; the message says what each way lacks."""


@contextmanager
def obtain(environment: Mapping[str, str] | None = None) -> Iterator[RealKafka]:
    """A Kafka: the one given in the environment, else a container, else one on local Java.

    Raises:
        NoKafkaError: none of the three is possible here.
        ClusterError: one was possible and failed; no other way is tried, since that would hide it.
    """
    given = (os.environ if environment is None else environment).get(GIVEN)
    if given:
        try:
            wait_for_broker(Kafka(bootstrap=given))
        except BrokerUnreachable as error:
            raise ClusterError(f"{GIVEN}: {error}") from error
        yield RealKafka(given, _version(given), f"{GIVEN}={given}")
        return
    lacks_docker, lacks_java = container.why_not(), java.why_not()
    if not lacks_docker:
        with container.ContainerKafka() as started:
            yield RealKafka(started.bootstrap, started.version, f"container {container.IMAGE}")
    elif not lacks_java:
        with java.JavaCluster() as cluster:
            yield RealKafka(cluster.bootstrap, cluster.version, "java")
    else:
        raise NoKafkaError(f"no Apache Kafka: {GIVEN} is not set, {lacks_docker}, {lacks_java}")


def _version(bootstrap: str) -> str:
    with KafkaAdminClient(**kafka_python(Kafka(bootstrap=bootstrap))) as admin:
        node = admin.describe_cluster()["brokers"][0]["broker_id"]
        data = admin.get_broker_version_data(node)
        return ".".join(str(part) for part in data.broker_version) + " or newer"
