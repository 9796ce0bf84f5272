"""The Faust application that detect runs in: its settings, isolation level, start and stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from typing import TYPE_CHECKING

import faust
from faust.contrib.asgi import bind_to_running_loop
from faust.transport.drivers import aiokafka as driver

from streamwatch.errors import StageFailed
from streamwatch.kafka.clients import faust_broker
from streamwatch.kafka.topics import LARGEST_ROW

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from streamwatch.config import Config

#: Seconds that a stop may take until the process ends anyway; supervisors wait ten.
STOP_SECONDS = 8.0


class _CommittedThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]  # Faust has no types
    """Reads only what ingest committed.

    Faust asks for `read_committed` only together with its own exactly-once mode, which is not to
    be relied on; without it a counts batch of an aborted transaction would be counted.
    """

    def _create_worker_consumer(self, transport: driver.Transport) -> object:
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"  # noqa: SLF001  # aiokafka's constructor argument, which Faust fixes
        return consumer


class _CommittedConsumer(driver.Consumer):  # type: ignore[misc]  # Faust has no types
    def _new_consumer_thread(self) -> _CommittedThread:
        return _CommittedThread(self, loop=self.loop, beacon=self.beacon)


class ReadCommittedTransport(driver.Transport):  # type: ignore[misc]  # Faust has no types
    """Faust's Kafka transport, with the isolation level that transactions need."""

    Consumer = _CommittedConsumer


def new_app(config: Config) -> faust.App:
    """A Faust application with detect's settings and nothing in it yet."""
    broker, credentials = faust_broker(config.kafka)
    detect, kafka = config.detect, config.kafka
    return faust.App(
        detect.group,
        broker=broker,
        broker_credentials=credentials,
        broker_commit_interval=detect.commit_seconds,
        broker_session_timeout=kafka.session_timeout_seconds,
        broker_heartbeat_interval=kafka.session_timeout_seconds / 5,
        broker_request_timeout=max(90.0, kafka.session_timeout_seconds),
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=f"{detect.group}-{detect.instance_name}",
        producer_acks=-1,
        producer_max_request_size=LARGEST_ROW,
        store="memory://",
        topic_partitions=config.topics.partitions,
        topic_replication_factor=config.topics.replication,
        topic_disable_leader=True,
        topic_allow_declare=True,
        web_enabled=False,
        worker_redirect_stdouts=False,
        stream_wait_empty=True,
    )


def recovered(app: faust.App) -> bool:
    """Whether the worker has its partitions and their tables are rebuilt from the changelog."""
    return bool(not app.rebalancing and app.tables.recovery.completed.is_set())


async def run_until_stopped(
    app: faust.App, check: Callable[[], Awaitable[None]], interval: float = 1.0
) -> None:
    """Run the application until SIGTERM or SIGINT, then stop it with everything committed.

    Args:
        app: made by `new_app`.
        check: called every `interval` seconds; an exception from it ends the run.
        interval: seconds.

    Raises:
        StageFailed: the application crashed. If it does not stop in time, the process ends.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    bind_to_running_loop(app)
    app.transport = ReadCommittedTransport(app.conf.broker, app, loop=loop)
    app.producer_transport = app.transport
    app.finalize()
    # A start lasts until the tables are rebuilt; a stop must not wait for that.
    starting = asyncio.create_task(app.maybe_start())
    try:
        while not stop.is_set():
            if starting.done():
                starting.result()
            if app.crashed:
                raise StageFailed(f"detect crashed: {app.crash_reason!r}")
            await check()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), interval)
    finally:
        _end_in_time()
        starting.cancel()
        await app.stop()


def _end_in_time() -> None:
    """End the process when Faust does not: what it has not committed is read again."""
    timer = threading.Timer(STOP_SECONDS, os._exit, (StageFailed.exit_code,))
    timer.daemon = True
    timer.start()
