"""Fixtures that every suite shares: a real Kafka, an embedded one, a name space of topics."""

from __future__ import annotations

import os
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from kafka_cluster.choose import NoKafkaError, RealKafka, obtain
from kafka_cluster.java import ClusterError
from streamwatch.kafka.embedded import EmbeddedBroker

if TYPE_CHECKING:
    from collections.abc import Iterator


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "kafka" in getattr(item, "fixturenames", ()):
            item.add_marker("kafka")


def _say(config: pytest.Config, line: str) -> None:
    capture = config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture else nullcontext():
        config.get_terminal_writer().line(f"\n{line}")


@pytest.fixture(scope="session")
def kafka(request: pytest.FixtureRequest) -> Iterator[RealKafka]:
    """A real Apache Kafka for the session: `bootstrap`, `version`."""
    begin = time.monotonic()
    try:
        with obtain() as running:
            took = time.monotonic() - begin
            line = f"Apache Kafka {running.version} ({running.origin}), up in {took:.1f} s"
            _say(request.config, line)
            yield running
    except NoKafkaError as error:
        if os.environ.get("CI"):
            pytest.fail(f"{error}; CI must run these tests", pytrace=False)
        pytest.skip(str(error))
    except ClusterError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session")
def embedded() -> Iterator[EmbeddedBroker]:
    """The embedded broker for the session."""
    with EmbeddedBroker() as broker:
        yield broker


@pytest.fixture
def topic_prefix() -> str:
    """First part of this test's topic and group names, so that tests share a broker unharmed."""
    return f"test-{uuid4().hex[:12]}"
