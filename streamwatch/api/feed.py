"""Follows the verdicts and signals topics, and knows how far behind them it is.

Contract: `Feed.run` never ends by itself. A broker, a topic or a credential that goes away costs
freshness, never the answers held; what is then said of a release is `board.distrust`'s to decide.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from aiokafka.errors import KafkaError

from streamwatch import metrics
from streamwatch.api.board import Board, Moment
from streamwatch.api.halts import Halts
from streamwatch.errors import InfrastructureError, InvalidMessage, StreamwatchError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

log = logging.getLogger(__name__)

POLL_MS = 250
POLL_RECORDS = 500
#: Time between two comparisons with what Kafka holds.
CHECK_SECONDS = 1.0
#: How long a broker may take to say what it holds.
ANSWER_SECONDS = 3.0
FIRST_BACKOFF_SECONDS = 0.5
LAST_BACKOFF_SECONDS = 15.0

#: What going away looks like: all of it is survived.
_GONE = (KafkaError, OSError, TimeoutError, StreamwatchError)


class Consumer(Protocol):
    """What the feed needs of `aiokafka.AIOKafkaConsumer`, subscribed without a group."""

    async def start(self) -> None:
        """Connect, and take all partitions of both topics."""
        ...

    async def stop(self) -> None:
        """Close every connection."""
        ...

    def assignment(self) -> set[Any]:
        """The partitions that are read."""
        ...

    async def getmany(self, *, timeout_ms: int, max_records: int) -> Mapping[Any, Sequence[Any]]:
        """The next records by partition; none after the time-out."""
        ...

    async def end_offsets(self, partitions: set[Any]) -> Mapping[Any, int]:
        """The offset after the last committed record of each partition."""
        ...

    async def position(self, partition: Any) -> int:
        """The offset of the next record that `getmany` gives."""
        ...


class View(NamedTuple):
    """Everything that serve knows."""

    board: Board
    halts: Halts


class Feed:
    """The state of serve, kept in step with Kafka by `run`.

    Args:
        verdicts: name of the verdicts topic.
        signals: name of the signals topic.
        fresh_seconds: how long a connection may bring nothing before it is made anew.
        connect: makes a consumer of both topics that starts at the beginning of every partition.
        clock: wall clock, seconds since the epoch.
        monotonic: clock for durations, seconds.

    Attributes:
        view: what is known now; replaced as a whole after a reconnect.
        problem: what the feed is struggling with; empty when nothing.
    """

    def __init__(
        self,
        verdicts: str,
        signals: str,
        fresh_seconds: float,
        connect: Callable[[], Consumer],
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.view = View(Board(), Halts())
        self.problem = "connecting to Kafka"
        self._verdicts = verdicts
        self._signals = signals
        self._fresh_seconds = fresh_seconds
        self._connect = connect
        self._clock = clock
        self._monotonic = monotonic
        self._in_step_at: float | None = None
        self._backoff = FIRST_BACKOFF_SECONDS
        self._said_invalid = False

    def moment(self) -> Moment:
        """The present, with how far the view is to be trusted."""
        out_of_step = None if self._in_step_at is None else self._monotonic() - self._in_step_at
        return Moment(self._clock(), self._fresh_seconds, out_of_step)

    async def run(self) -> None:
        """Follow the topics forever, through every outage."""
        while True:
            try:
                await self._follow()
            except _GONE as error:
                self._struggle(f"connecting anew after {_said(error)}")
            metrics.SERVE_RECONNECTS.inc()
            await asyncio.sleep(self._backoff)
            self._backoff = min(self._backoff * 2, LAST_BACKOFF_SECONDS)

    async def _follow(self) -> None:
        """Build a view from the beginning of the topics, then keep it in step; ends by raising."""
        view = View(Board(), Halts())
        if self._in_step_at is None:
            self.view = view
        consumer = self._connect()
        try:
            await consumer.start()
            pace = _Pace(consumer, self._monotonic)
            while True:
                for records in (
                    await consumer.getmany(timeout_ms=POLL_MS, max_records=POLL_RECORDS)
                ).values():
                    for record in records:
                        self._apply(view, record)
                # getmany does not give way while it has records in hand.
                await asyncio.sleep(0)
                await self._compare(pace, view)
        finally:
            await consumer.stop()

    def _apply(self, view: View, record: Any) -> None:
        topic = "verdicts" if record.topic == self._verdicts else "signals"
        metrics.SERVE_MESSAGES.labels(topic).inc()
        try:
            if topic == "verdicts":
                written_at = max(record.timestamp or 0, 0) / 1000
                view.board.put(record.key or b"", record.value, written_at, self._clock())
            else:
                view.halts.put(record.value)
        except InvalidMessage as error:
            metrics.SERVE_FAILED.labels(topic, error.reason.value).inc()
            if not self._said_invalid:
                self._said_invalid = True
                log.warning(
                    "cannot read %s/%d offset %d: %s (further ones are only counted)",
                    record.topic,
                    record.partition,
                    record.offset,
                    error,
                )

    async def _compare(self, pace: _Pace, view: View) -> None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                reached = await pace.reached()
        except (KafkaError, OSError, TimeoutError) as error:
            self._struggle(f"no answer from Kafka: {_said(error)}")
            reached = None
        if reached is not None:
            self._in_step(reached, view)
        elif self._monotonic() - pace.last_progress > max(self._fresh_seconds, ANSWER_SECONDS):
            raise TimeoutError("the connection brings nothing any more")

    def _in_step(self, since: float, view: View) -> None:
        if self.problem:
            log.info("in step with Kafka, %d verdicts held", len(view.board))
        self.view = view
        self.problem = ""
        self._in_step_at = since
        self._backoff = FIRST_BACKOFF_SECONDS
        metrics.SERVE_IN_STEP.set(self._clock() - (self._monotonic() - since))
        metrics.SERVE_VERDICTS.set(len(view.board))
        metrics.SERVE_EVICTED.set(view.board.evicted + view.halts.evicted)

    def _struggle(self, problem: str) -> None:
        if problem != self.problem:
            self.problem = problem
            log.warning("%s", problem)


class _Pace:
    """Compares a consumer's positions with the ends of its partitions.

    Ends are taken once and then waited for: a stream that never pauses would otherwise never be
    caught up with.

    Attributes:
        last_progress: when a position last moved or an end was reached.
    """

    def __init__(self, consumer: Consumer, monotonic: Callable[[], float]) -> None:
        self.last_progress = monotonic()
        self._consumer = consumer
        self._monotonic = monotonic
        self._ends: Mapping[Any, int] | None = None
        self._taken_at = 0.0
        self._next_at = 0.0
        self._positions: dict[Any, int] = {}

    async def reached(self) -> float | None:
        """The time at which everything that Kafka held has now been read; None for no news.

        Raises:
            InfrastructureError: partitions came or went, or a position went back: what was built
                from the topics cannot be kept.
            aiokafka.errors.KafkaError: the broker does not say.
        """
        if self._ends is None:
            if self._monotonic() < self._next_at:
                return None
            taken_at = self._monotonic()
            self._next_at = taken_at + CHECK_SECONDS
            self._ends = await self._consumer.end_offsets(self._consumer.assignment())
            self._taken_at = taken_at
        positions = {
            partition: await self._consumer.position(partition)
            for partition in self._consumer.assignment()
        }
        self._check(positions, self._ends)
        if positions != self._positions:
            self.last_progress = self._monotonic()
        self._positions = positions
        if any(positions[partition] < end for partition, end in self._ends.items()):
            return None
        self._ends = None
        self.last_progress = self._monotonic()
        return self._taken_at

    def _check(self, positions: dict[Any, int], ends: Mapping[Any, int]) -> None:
        known = self._positions or positions
        if not positions or positions.keys() != known.keys() or positions.keys() != ends.keys():
            raise InfrastructureError("the topics' partitions changed")
        if any(positions[partition] < known[partition] for partition in known):
            raise InfrastructureError("a topic was made anew")


def _said(error: Exception) -> str:
    text, name = " ".join(str(error).split()), type(error).__name__
    return text if text.startswith(name) else f"{name}: {text}".rstrip(": ")
