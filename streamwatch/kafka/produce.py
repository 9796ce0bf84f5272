"""Captured messages back into Kafka."""

from __future__ import annotations

from typing import TYPE_CHECKING

from confluent_kafka import KafkaException, Producer

from streamwatch.errors import InfrastructureError
from streamwatch.kafka.clients import librdkafka

if TYPE_CHECKING:
    from collections.abc import Iterable

    from confluent_kafka import KafkaError, Message

    from streamwatch.config import Kafka
    from streamwatch.replay.capture import CapturedMessage

#: Seconds to wait for the last deliveries.
FLUSH_SECONDS = 30.0


def produce(config: Kafka, topic: str, messages: Iterable[CapturedMessage]) -> int:
    """Send messages as fast as the broker takes them, each to its own partition, with its own time.

    Args:
        config: where Kafka is.
        topic: where to send them, whatever topic they were captured from.
        messages: in the order to be sent.

    Returns:
        How many were delivered.

    Raises:
        InfrastructureError: some could not be delivered.
    """
    failures: list[str] = []

    def delivered(error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            failures.append(error.str())

    producer = Producer(librdkafka(config) | {"enable.idempotence": True, "linger.ms": 20})
    sent = 0
    for message in messages:
        while True:
            try:
                producer.produce(
                    topic,
                    message.value,
                    message.key,
                    message.partition,
                    on_delivery=delivered,
                    timestamp=message.timestamp or 0,
                )
            except BufferError:
                producer.poll(0.1)
            except KafkaException as error:
                raise InfrastructureError(f"cannot send to {topic}: {error}") from None
            else:
                break
        producer.poll(0)
        sent += 1
    left = producer.flush(FLUSH_SECONDS)
    if failures or left:
        reason = failures[0] if failures else "no answer in time"
        raise InfrastructureError(f"{len(failures) + left} messages not sent to {topic}: {reason}")
    return sent
