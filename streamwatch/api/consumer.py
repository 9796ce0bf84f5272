"""The Kafka consumer of serve: all partitions of some topics, from the beginning, in no group."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from aiokafka import AIOKafkaConsumer

from streamwatch.kafka import clients

if TYPE_CHECKING:
    from streamwatch.api.feed import Consumer
    from streamwatch.config import Kafka

#: Between two attempts of the client to reach a broker.
RETRY_MS = 500
STOP_SECONDS = 3.0


def open_consumer(config: Kafka, topics: tuple[str, ...]) -> Consumer:
    """A consumer that is yet to be started. Reads credentials anew, so that rotated ones count.

    Raises:
        ConfigError: a secret or certificate file cannot be used.
    """
    consumer = _Consumer(
        *topics,
        **clients.aiokafka(config),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        retry_backoff_ms=RETRY_MS,
    )
    return cast("Consumer", consumer)


class _Consumer(AIOKafkaConsumer):  # type: ignore[misc]  # aiokafka is not typed
    async def stop(self) -> None:
        """Close every connection.

        aiokafka's own stop breaks off, as if cancelled, at a fetch that waits to be tried again,
        and leaves the client behind with its connections and tasks; hence the task around it.
        """
        stopping = asyncio.ensure_future(super().stop())
        await asyncio.wait({stopping}, timeout=STOP_SECONDS)
        stopping.cancel()
        await asyncio.gather(stopping, return_exceptions=True)
        await self._client.close()
