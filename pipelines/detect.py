"""Detect: counts in, verdicts and signals out. A Faust app over `streamwatch.engine`.

The order of durability, for each message:

1. verdicts, signals and catalogue entries are delivered;
2. the engine's changed rows are written to the table, and so to its changelog;
3. the message's offset is committed, after the changelog was flushed.

A crash before 2 repeats the message and gives the same outputs, with the same ids; a crash between
2 and 3 repeats it too, and the row's last applied offsets turn it away.
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING

from streamwatch import metrics
from streamwatch.kafka.clients import require_topics
from streamwatch.kafka.detect import DetectStage, Watchdog
from streamwatch.kafka.faust_app import new_app, recovered, run_until_stopped
from streamwatch.kafka.publish import Publisher
from streamwatch.kafka.topics import DETECT_TABLE, own_topics

if TYPE_CHECKING:
    import faust

    from streamwatch.config import Config

log = logging.getLogger(__name__)


def build(config: Config, stage: DetectStage) -> faust.App:
    """The application: two topics in, one table, one agent."""
    app = new_app(config)
    name = config.topics.name
    source = app.topic(
        name("counts"),
        name("deployments"),
        key_type=bytes,
        value_type=bytes,
        value_serializer="raw",
    )
    table = app.Table(
        DETECT_TABLE, partitions=config.topics.partitions, key_type=bytes, value_type=bytes
    )
    publisher = Publisher(app, config)
    app.on_partitions_revoked.connect(lambda *_, **__: stage.forget())

    @app.agent(source, concurrency=1)
    async def detect(stream: faust.StreamT[bytes]) -> None:
        async for event in stream.events():
            try:
                outcome = stage.apply(event.message.partition, event.value, table)
                await publisher.publish(event.message, outcome)
                table.update(outcome.rows)
            except Exception:
                # Faust would acknowledge the message. Ending here leaves it uncommitted.
                log.exception("detect cannot go on")
                os._exit(4)

    return app


def run(config: Config) -> None:
    """Run one worker until SIGTERM or SIGINT.

    Raises:
        BrokerUnreachable: no broker answers at start-up.
        TopicMissing: a topic that detect needs does not exist.
        StageFailed: the worker crashed, stalled or did not stop in time.
    """
    require_topics(config, [topic.name for topic in own_topics(config)])
    listener = metrics.start(config.detect.metrics_port, stage="detect")
    try:
        asyncio.run(_run(config))
    finally:
        listener.stop()


async def _run(config: Config) -> None:
    stage = DetectStage(config)
    watchdog = Watchdog(config, config.topics.name("counts"))
    app = build(config, stage)

    async def check() -> None:
        stage.report()
        metrics.DETECT_RECOVERED.set(recovered(app))
        await asyncio.to_thread(watchdog.check, stage.partitions, stage.processed)

    try:
        await run_until_stopped(app, check)
    finally:
        watchdog.close()
