"""Reading a topic to its end, as a consumer that trusts only what was committed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

if TYPE_CHECKING:
    from confluent_kafka import Message


def read_committed(bootstrap: str, topic: str, partitions: int) -> list[Message]:
    """Every committed message of a topic."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "reader",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "enable.auto.commit": False,
        }
    )
    consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in range(partitions)])
    messages, unread = [], set(range(partitions))
    while unread:
        message = consumer.poll(10)
        assert message is not None, f"{topic} cannot be read to its end"
        if message.error():
            unread.discard(message.partition())
        else:
            messages.append(message)
    consumer.close()
    return messages
