"""Which rollouts are halted: the newest signal of each, as far as it asks for a halt."""

from __future__ import annotations

from typing import Any

import msgspec

from streamwatch.counts import WIRE_VERSION
from streamwatch.errors import InvalidMessage, Reason
from streamwatch.signals.envelope import Signal, decode_signal

#: Rollouts remembered; beyond it the one whose signal was read first goes.
CAPACITY = 10_000


class Halts:
    """The newest signal of every rollout.

    Args:
        capacity: rollouts held at most; `evicted` counts those that went because of it.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.evicted = 0
        self._capacity = capacity
        self._newest: dict[str, Signal] = {}

    def __len__(self) -> int:
        return len(self._newest)

    def put(self, value: bytes | None) -> None:
        """Take one record of the signals topic; a repeated or older signal changes nothing.

        Raises:
            InvalidMessage: the value is no signal of this version.
        """
        signal = _decode(value)
        known = self._newest.get(signal.rollout)
        if known is not None and known.sequence >= signal.sequence:
            return
        self._newest[signal.rollout] = signal
        if len(self._newest) > self._capacity:
            del self._newest[next(iter(self._newest))]
            self.evicted += 1

    def in_force(
        self, environment: str | None = None, service: str | None = None, limit: int = 100
    ) -> list[dict[str, Any]]:
        """The halts that no later signal of their rollout took back, newest first.

        Args:
            environment: only of this environment; None for all.
            service: only of this service; None for all.
            limit: most that are returned.
        """
        halts = [
            signal
            for signal in self._newest.values()
            if signal.kind == "halt"
            and environment in (None, signal.environment)
            and service in (None, signal.service)
        ]
        halts.sort(key=lambda signal: (-signal.tick, signal.id))
        return [msgspec.to_builtins(signal) for signal in halts[:limit]]


def _decode(value: bytes | None) -> Signal:
    if value is None:
        raise InvalidMessage(Reason.UNDECODABLE, "a signal without a value")
    try:
        signal = decode_signal(value)
    except msgspec.ValidationError as error:
        raise InvalidMessage(Reason.WRONG_TYPE, str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidMessage(Reason.UNDECODABLE, str(error)) from None
    if signal.version != WIRE_VERSION:
        raise InvalidMessage(
            Reason.WRONG_TYPE, f"version {signal.version}, this process knows {WIRE_VERSION}"
        )
    return signal
