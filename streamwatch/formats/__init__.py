"""Decoders: the bytes of one message to log records.

A decoder is chosen per source topic. Its contract: `decode` returns every record of the message
(possibly none), leaves out nothing silently, and raises `InvalidMessage` when the bytes as a whole
cannot be read. Whether a record is complete is not the decoder's question but the combiner's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from streamwatch.records import LogRecord


class Decoder(Protocol):
    """Turns one message value into records."""

    def decode(self, value: bytes) -> list[LogRecord]:
        """Decode one message.

        Raises:
            InvalidMessage: the value is not of this format.
        """
        ...
