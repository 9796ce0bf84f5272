"""Which halts are in force after any sequence of signals."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from streamwatch.api.halts import Halts
from streamwatch.errors import InvalidMessage, Reason
from streamwatch.signals.envelope import Signal, encode_signal, signal_id
from wire_examples import SIGNAL


def signal(rollout: str, kind: str = "halt", sequence: int = 1, **changes: object) -> Signal:
    fields = {"rollout": rollout, "kind": kind, "sequence": sequence} | changes
    return replace(SIGNAL, id=signal_id(rollout, kind, sequence), **fields)


def halts_after(*signals: Signal, capacity: int = 100) -> Halts:
    halts = Halts(capacity)
    for each in signals:
        halts.put(encode_signal(each))
    return halts


def rollouts(halts: Halts, **only: Any) -> list[str]:
    return [halt["rollout"] for halt in halts.in_force(**only)]


def test_a_halt_is_in_force_until_its_rollout_resumes() -> None:
    halts = halts_after(signal("a"), signal("b"))
    assert sorted(rollouts(halts)) == ["a", "b"]
    halts.put(encode_signal(signal("a", "resume", 2)))
    assert rollouts(halts) == ["b"]
    halts.put(encode_signal(signal("a", "halt", 3)))
    assert sorted(rollouts(halts)) == ["a", "b"]


def test_repeats_and_stragglers_change_nothing() -> None:
    halts = halts_after(signal("a"), signal("a", "resume", 2), signal("a"), signal("a"))
    assert rollouts(halts) == []


def test_the_newest_comes_first_and_filters_and_limit_hold() -> None:
    halts = halts_after(
        signal("old", tick=10, environment=""),
        signal("new", tick=30, service="pay"),
        signal("mid", tick=20),
    )
    assert rollouts(halts) == ["new", "mid", "old"]
    assert rollouts(halts, limit=2) == ["new", "mid"]
    assert rollouts(halts, environment="") == ["old"]
    assert rollouts(halts, service="pay") == ["new"]


def test_a_halt_is_listed_as_it_was_sent() -> None:
    assert halts_after(SIGNAL).in_force()[0]["evidence"]["e_value"] == SIGNAL.evidence.e_value


def test_beyond_its_capacity_it_lets_go_of_the_first() -> None:
    halts = halts_after(signal("a"), signal("b"), signal("c"), capacity=2)
    assert sorted(rollouts(halts)) == ["b", "c"]
    assert halts.evicted == 1


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, Reason.UNDECODABLE),
        (b"\xff", Reason.UNDECODABLE),
        (b"{}", Reason.WRONG_TYPE),
        (encode_signal(replace(SIGNAL, version=2)), Reason.WRONG_TYPE),
    ],
)
def test_what_is_no_signal_is_refused(value: bytes | None, reason: Reason) -> None:
    with pytest.raises(InvalidMessage) as caught:
        Halts().put(value)
    assert caught.value.reason is reason
