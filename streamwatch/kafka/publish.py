"""Detect's outputs on their topics."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from streamwatch import metrics
from streamwatch.deadletters import dead_letter
from streamwatch.detect.verdict import encode_verdict
from streamwatch.fingerprint.catalogue import encode_entry
from streamwatch.signals.envelope import Signal, encode_signal, headers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    import faust
    from faust.types import Message

    from streamwatch.config import Config
    from streamwatch.kafka.detect import Outcome


class Publisher:
    """Writes verdicts, signals, catalogue entries and dead letters, and waits for their delivery.

    Args:
        app: whose producer to use.
        config: names of the topics.
    """

    def __init__(self, app: faust.App, config: Config) -> None:
        self._topics = {
            name: app.topic(
                config.topics.name(name),
                key_type=bytes,
                value_type=bytes,
                key_serializer="raw",
                value_serializer="raw",
            )
            for name in ("verdicts", "signals", "fingerprints", "dead-letter")
        }

    async def publish(self, message: Message, outcome: Outcome) -> None:
        """Send everything that a message led to; returns when the brokers have it."""
        sent = [
            await self._send("fingerprints", entry.key, encode_entry(entry))
            for entry in outcome.catalogue
        ]
        for output in outcome.outputs:
            if isinstance(output, Signal):
                metrics.DETECT_SIGNALS.labels(output.kind).inc()
                value = encode_signal(output)
                sent.append(await self._send("signals", output.key, value, headers(output)))
            else:
                metrics.DETECT_VERDICTS.labels(output.status).inc()
                sent.append(await self._send("verdicts", output.key, encode_verdict(output)))
        if outcome.rejected is not None:
            metrics.DETECT_FAILED.labels(outcome.rejected.reason).inc()
            letter = dead_letter(
                outcome.rejected,
                message.topic,
                message.partition,
                message.offset,
                round(message.timestamp * 1000),
                message.value or b"",
            )
            place = f"{message.topic}/{message.partition}"
            sent.append(await self._send("dead-letter", place, letter))
        await asyncio.gather(*sent)

    async def _send(
        self, topic: str, key: str, value: bytes, extra: Sequence[tuple[str, bytes]] = ()
    ) -> Awaitable[object]:
        sent: Awaitable[object] = await self._topics[topic].send(
            key=key.encode(), value=value, headers=list(extra) or None
        )
        return sent
