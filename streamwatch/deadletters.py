"""Dead letters: what is kept of a message that could not be used, and why it could not.

The value of the topic `<prefix>.dead-letter`, as JSON; its record key is `topic/partition` of the
message. A message that holds many records gives one dead letter per reason.
"""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING

import msgspec

from streamwatch.counts import WIRE_VERSION, encode

if TYPE_CHECKING:
    from streamwatch.errors import InvalidMessage

#: Bytes of a message that its dead letter keeps.
KEPT_BYTES = 32_768

#: Characters of the explanation, which may quote the input.
_DETAIL_CHARACTERS = 500


class DeadLetter(msgspec.Struct, frozen=True):
    """A message, or records of one, that could not be used.

    Attributes:
        reason: one of `errors.Reason`.
        detail: what is wrong with the first of the records. Quotes the input, which is hostile.
        topic: where the message is.
        partition: its partition.
        offset: its offset there.
        timestamp: Kafka's timestamp of it, milliseconds since the epoch; None when it has none.
        records: how many records of the message were lost for this reason; 0 when it could not be
            decoded, so that nobody knows.
        value: the message, where it is UTF-8 text.
        value_base64: the message, where it is not.
        truncated: only the first `KEPT_BYTES` of the message are kept.
        version: of this format.
    """

    reason: str
    detail: str
    topic: str
    partition: int
    offset: int
    timestamp: int | None
    records: int = 0
    value: str | None = None
    value_base64: str | None = None
    truncated: bool = False
    version: int = WIRE_VERSION


def dead_letter(
    error: InvalidMessage,
    topic: str,
    partition: int,
    offset: int,
    timestamp: int | None,
    value: bytes,
    *,
    records: int = 0,
) -> bytes:
    """The encoded dead letter of a message.

    Args:
        error: what is wrong with it.
        topic: where it is.
        partition: its partition.
        offset: its offset.
        timestamp: Kafka's timestamp of it, milliseconds since the epoch, or None.
        value: its value.
        records: how many of its records are lost, where it could be decoded.
    """
    text, base64 = _readable(value[:KEPT_BYTES])
    letter = DeadLetter(
        reason=error.reason.value,
        detail=error.detail[:_DETAIL_CHARACTERS].encode("utf-8", "replace").decode(),
        topic=topic,
        partition=partition,
        offset=offset,
        timestamp=timestamp,
        records=records,
        value=text,
        value_base64=base64,
        truncated=len(value) > KEPT_BYTES,
    )
    return encode(letter)


def _readable(value: bytes) -> tuple[str | None, str | None]:
    try:
        return value.decode(), None
    except UnicodeDecodeError as error:
        # A cut in the middle of a character does not make it binary.
        if len(value) == KEPT_BYTES and error.end == len(value) and error.start >= len(value) - 3:
            return value[: error.start].decode(), None
        return None, b64encode(value).decode()
