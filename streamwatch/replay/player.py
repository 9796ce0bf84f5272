"""The stages composed in one process: messages in, verdicts and signals out, by event time."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from streamwatch.config import SourceTopic
from streamwatch.counting import Combiner, Limits
from streamwatch.counts import SourceWatermark, Watermarks
from streamwatch.engine import Engine
from streamwatch.errors import InvalidMessage, Reason, UsageError
from streamwatch.fingerprint import Shaper
from streamwatch.formats.registry import decoder_for
from streamwatch.signals.envelope import Signal
from streamwatch.ticks import NEVER

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from streamwatch.config import Config
    from streamwatch.detect.verdict import Verdict
    from streamwatch.formats import Decoder
    from streamwatch.records import LogRecord
    from streamwatch.replay.capture import CapturedMessage

#: Messages between two flushes; does not change any decision.
FLUSH_MESSAGES = 2_000

#: Rejected messages of which the report keeps the details.
MAX_DETAILS = 100


class Rejected(NamedTuple):
    """One message or record that could not be used."""

    reason: Reason
    detail: str
    topic: str
    partition: int
    offset: int


class Report(msgspec.Struct):
    """What replay did with its input.

    Attributes:
        messages: messages read.
        records: records decoded.
        rejected: messages and records that could not be used, by reason.
        details: the first of them.
        verdicts: verdicts given.
        signals: signals given.
    """

    messages: int = 0
    records: int = 0
    rejected: Counter[str] = msgspec.field(default_factory=Counter)
    details: list[Rejected] = []
    verdicts: int = 0
    signals: int = 0


class Replay:
    """Plays messages through decode, count and detect.

    Args:
        config: policies, limits and source formats.
        formats: how topics are encoded that `config.sources` does not name; empty looks at each
            topic's first message.
        partitions: how many partitions each topic has, where that is known beforehand; without it
            a tick may close before a partition was heard of.
    """

    def __init__(
        self, config: Config, formats: str = "", partitions: dict[str, int] | None = None
    ) -> None:
        self.report = Report()
        self._config = config
        self._format = formats
        self._partitions = dict(partitions or {})
        self._decoders: dict[str, Decoder] = {}
        self._offsets: dict[tuple[str, int], int] = {}
        self._combiner = Combiner(
            Shaper(config.ingest.shape_cache), Limits.from_config(config.ingest)
        )
        self.engine = Engine(
            config.policies,
            allowed_lateness=config.ingest.allowed_lateness_seconds,
            verdict_seconds=config.detect.verdict_seconds,
        )

    def play(self, messages: Iterable[CapturedMessage]) -> Iterator[Verdict | Signal]:
        """Everything decided, as soon as it is.

        Raises:
            UsageError: a partition's offsets go back: the files are not of one stream.
        """
        for message in messages:
            self._add(message)
            if self.report.messages % FLUSH_MESSAGES == 0:
                yield from self._flush(idle=False)
        yield from self._flush(idle=True)

    def _add(self, message: CapturedMessage) -> None:
        place = (message.topic, message.partition)
        last = self._offsets.get(place, -1)
        if message.offset <= last:
            raise UsageError(
                f"{message.topic}/{message.partition} goes back from offset {last} to "
                f"{message.offset}: files of different streams are to be replayed one by one"
            )
        self._offsets[place] = message.offset
        self.report.messages += 1
        records: list[LogRecord] = []
        try:
            records = self._decode(message)
        except InvalidMessage as error:
            self._reject(error, message)
        self.report.records += len(records)
        for rejected in self._combiner.add(
            message.topic, message.partition, message.offset, message.timestamp, records
        ):
            self._reject(rejected, message)

    def _decode(self, message: CapturedMessage) -> list[LogRecord]:
        if len(message.value) > self._config.ingest.max_message_bytes:
            raise InvalidMessage(Reason.TOO_LARGE, f"{len(message.value)} bytes")
        return self._decoder(message).decode(message.value)

    def _decoder(self, message: CapturedMessage) -> Decoder:
        decoder = self._decoders.get(message.topic)
        if decoder is None:
            decoder = decoder_for(self._source(message))
            self._decoders[message.topic] = decoder
        return decoder

    def _source(self, message: CapturedMessage) -> SourceTopic:
        for source in self._config.sources:
            if source.topic == message.topic and not self._format:
                return source
        # OTLP names its one top-level key; anything else is a mapped object.
        looks_otlp = b'"resourceLogs"' in message.value[:200]
        chosen = self._format or ("otlp_json" if looks_otlp else "json")
        tree = {"topic": message.topic, "format": chosen}
        return msgspec.convert(tree, SourceTopic)

    def _reject(self, error: InvalidMessage, message: CapturedMessage) -> None:
        self.report.rejected[error.reason] += 1
        if len(self.report.details) < MAX_DETAILS:
            self.report.details.append(
                Rejected(
                    error.reason, error.detail, message.topic, message.partition, message.offset
                )
            )

    def _flush(self, *, idle: bool) -> Iterator[Verdict | Signal]:
        outputs: list[Verdict | Signal] = []
        for batch in self._combiner.drain():
            outputs += self.engine.feed(batch)
        self._combiner.commit()
        outputs += self.engine.feed(Watermarks(self._watermarks(idle=idle)))
        for output in outputs:
            if isinstance(output, Signal):
                self.report.signals += 1
            else:
                self.report.verdicts += 1
            yield output

    def _watermarks(self, *, idle: bool) -> list[SourceWatermark]:
        reached = self._combiner.watermarks()
        seen = Counter(topic for topic, _ in self._offsets)
        for topic, partition in self._offsets:
            seen[topic] = max(seen[topic], partition + 1)
        counts = {topic: max(self._partitions.get(topic, 0), seen[topic]) for topic in seen}
        return [
            SourceWatermark(
                topic, partition, count, reached.get((topic, partition), NEVER), idle=idle
            )
            for topic, count in sorted(counts.items())
            for partition in range(count)
        ]
