"""One Kafka transaction: everything a flush writes, and the offsets it stands for, or nothing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Producer

from streamwatch.errors import Fenced, InfrastructureError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Sequence

    from confluent_kafka import TopicPartition

#: Each step of a transaction is tried for so long before the process gives up; once it is to stop,
#: for so much shorter, since all of it has to end within ten seconds.
STEP_SECONDS, STOPPING_STEP_SECONDS = 30.0, 2.5

#: One call into librdkafka; a step that takes longer is taken up again where it was.
_CALL_SECONDS = 2.0

#: After this the brokers abort a transaction that a dead worker left open; until then nobody reads
#: past it. Longer than a healthy flush by far.
TRANSACTION_TIMEOUT_MS = 20_000

_FENCED = (
    KafkaError._FENCED,  # noqa: SLF001  librdkafka's own error codes begin with an underscore
    KafkaError.FENCED_INSTANCE_ID,
    KafkaError.INVALID_PRODUCER_EPOCH,
    KafkaError.PRODUCER_FENCED,
)


class Outgoing(NamedTuple):
    """A message to be produced; `partition` None leaves the choice to the key."""

    topic: str
    key: bytes | None
    value: bytes
    partition: int | None = None


class Transactions:
    """A transactional producer. One a consumer, used from the consumer's thread.

    Starting one fences off any other process of the same id and aborts what it left open.

    Args:
        settings: librdkafka's connection settings.
        transactional_id: unique to the worker, and the same after a restart.
        stop: set when the process is to end.

    Raises:
        Fenced: a newer process took the id over meanwhile.
        InfrastructureError: the brokers refuse, or do not answer in `STEP_SECONDS`.
    """

    def __init__(
        self, settings: dict[str, object], transactional_id: str, stop: threading.Event
    ) -> None:
        self._stop = stop
        self._producer = Producer(
            settings
            | {
                "transactional.id": transactional_id,
                "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
                # The partitioner of the Java clients and of aiokafka: detect's tables rely on it.
                "partitioner": "murmur2_random",
                "compression.type": "lz4",
                "linger.ms": 5,
                "message.max.bytes": 10_000_000,
                "queue.buffering.max.kbytes": 262_144,
            }
        )
        self._begun = False
        self._step(lambda: self._producer.init_transactions(_CALL_SECONDS))

    def commit(
        self,
        messages: Iterable[Outgoing],
        offsets: Sequence[TopicPartition],
        group: object,
    ) -> bool:
        """Write all messages and consumed offsets in one transaction. Blocks until it is decided.

        Args:
            messages: what to produce.
            offsets: the next offset of each source partition, with its metadata; may be empty.
            group: the consumer's `consumer_group_metadata()`.

        Returns:
            True when it is committed. False when it had to be aborted: nothing was written, the
            offsets are what they were, and the caller is to go back to them.

        Raises:
            Fenced: a newer process has this one's id.
            InfrastructureError: the brokers refuse for good, or do not answer.
        """
        try:
            self._producer.begin_transaction()
            self._begun = True
            for message in messages:
                self._produce(message)
            if offsets:
                self._step(
                    lambda: self._producer.send_offsets_to_transaction(
                        list(offsets), group, _CALL_SECONDS
                    )
                )
            self._step(lambda: self._producer.commit_transaction(_CALL_SECONDS))
        except KafkaException as error:
            if not error.args[0].txn_requires_abort():
                raise given_up(error.args[0]) from None
            self.abort()
            return False
        self._begun = False
        return True

    def abort(self) -> None:
        """Undo the transaction that is open, if one is.

        Raises:
            Fenced: a newer process has this one's id.
            InfrastructureError: the brokers refuse for good, or do not answer.
        """
        if not self._begun:
            return
        try:
            self._step(lambda: self._producer.abort_transaction(_CALL_SECONDS))
        except KafkaException as error:
            raise given_up(error.args[0]) from None
        self._begun = False

    def _produce(self, message: Outgoing) -> None:
        place = {} if message.partition is None else {"partition": message.partition}
        while True:
            try:
                self._producer.produce(message.topic, message.value, message.key, **place)
            except BufferError:
                self._producer.poll(0.1)
            else:
                self._producer.poll(0)
                return

    def _step(self, step: Callable[[], None]) -> None:
        """Do one step, again and again while the error says that this helps.

        Raises:
            KafkaException: the transaction has to be aborted.
            Fenced: a newer process has this one's id.
            InfrastructureError: any other error, or no success within `STEP_SECONDS`.
        """
        begin = time.monotonic()
        while True:
            try:
                step()
            except KafkaException as raised:
                error = raised.args[0]
                if error.txn_requires_abort() and not error.fatal():
                    raise
                patience = STOPPING_STEP_SECONDS if self._stop.is_set() else STEP_SECONDS
                if not error.retriable() or time.monotonic() - begin > patience:
                    raise given_up(error) from None
                time.sleep(0.05)
            else:
                return


def given_up(error: KafkaError) -> InfrastructureError:
    """What to raise for an error that cannot be recovered from in this process."""
    if error.code() in _FENCED:
        return Fenced(f"a newer process has this worker's name: {error.str()}")
    return InfrastructureError(f"Kafka: {error.str()}")
