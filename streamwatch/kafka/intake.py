"""What a worker has in hand between two flushes: counts and dead letters, from raw messages."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from streamwatch.counting import Combiner, Limits
from streamwatch.deadletters import dead_letter
from streamwatch.errors import InvalidMessage, Reason
from streamwatch.fingerprint import Shaper
from streamwatch.formats.registry import decoder_for
from streamwatch.kafka.transactions import Outgoing

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamwatch.config import Config
    from streamwatch.records import LogRecord

#: Bytes of dead letters in hand from which on a flush is due.
DEAD_LETTER_BYTES = 8_000_000


class Intake:
    """Decodes messages, counts their records and keeps dead letters of the rest.

    Attributes:
        combiner: holds the counts and the watermarks; its `full` also says when there are so many
            dead letters in hand that a flush is due.
        messages: messages taken since the last `clear`.
        message_bytes: their size.
        records: records decoded from them.
        failed: messages that could not be decoded, and records that could not be counted.
        dead_letters: ready to be produced.
        dead_reasons: how many of them there are of each reason.
        sample: topic, partition and event time (ns) of the last record; None without one.

    Raises:
        ConfigError: a topic's field mapping cannot be used.
    """

    def __init__(self, config: Config) -> None:
        self.combiner = Combiner(
            Shaper(config.ingest.shape_cache), Limits.from_config(config.ingest)
        )
        self._longest = config.ingest.max_message_bytes
        self._topic = config.topics.name("dead-letter")
        self._decode: dict[str, Callable[[bytes], list[LogRecord]]] = {
            source.topic: decoder_for(source).decode for source in config.sources
        }
        self.clear()

    def clear(self) -> None:
        """Start from zero, after a flush; the combiner keeps its own state."""
        self.messages = 0
        self.message_bytes = 0
        self.records = 0
        self.failed = 0
        self.dead_letters: list[Outgoing] = []
        self.dead_reasons: Counter[str] = Counter()
        self.sample: tuple[str, int, int] | None = None
        self._dead_bytes = 0

    def take(
        self, topic: str, partition: int, offset: int, timestamp_ms: int | None, value: bytes
    ) -> None:
        """Decode and count one message. Messages of a partition come in offset order."""
        self.messages += 1
        self.message_bytes += len(value)
        try:
            if len(value) > self._longest:
                raise self._too_large(value)
            records = self._decode[topic](value)
        except InvalidMessage as error:
            records = []
            self._bury([error], topic, partition, offset, timestamp_ms, value, decoded=False)
        rejected = self.combiner.add(topic, partition, offset, timestamp_ms, records)
        self.records += len(records)
        if records:
            self.sample = (topic, partition, records[-1].timestamp_ns)
        if rejected:
            self._bury(rejected, topic, partition, offset, timestamp_ms, value, decoded=True)

    def _too_large(self, value: bytes) -> InvalidMessage:
        return InvalidMessage(Reason.TOO_LARGE, f"{len(value)} bytes, over {self._longest}")

    def _bury(
        self,
        errors: list[InvalidMessage],
        topic: str,
        partition: int,
        offset: int,
        timestamp_ms: int | None,
        value: bytes,
        *,
        decoded: bool,
    ) -> None:
        """Keep a dead letter for each reason that a message, or records of it, were refused.

        One a reason, not one a record: a message of a thousand records would be kept as often.
        """
        self.failed += len(errors)
        first = {error.reason: error for error in reversed(errors)}
        lost = Counter(error.reason for error in errors)
        for reason, error in sorted(first.items()):
            records = lost[reason] if decoded else 0
            letter = dead_letter(
                error, topic, partition, offset, timestamp_ms, value, records=records
            )
            place = f"{topic}/{partition}".encode()
            self.dead_letters.append(Outgoing(self._topic, place, letter))
            self.dead_reasons[reason.value] += 1
            self._dead_bytes += len(letter)
        if self._dead_bytes >= DEAD_LETTER_BYTES:
            self.combiner.full = True
