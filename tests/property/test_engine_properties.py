"""However messages are cut, ordered or interrupted, the engine decides alike."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from streamwatch.counts import DeploymentEvent
from streamwatch.engine import Engine
from streamwatch.policy import Policy
from traffic import START, batch, watermarks

if TYPE_CHECKING:
    from streamwatch.counts import CountsBatch, EngineInput

SECONDS = 70
#: Short times, so that a minute holds warm-ups, rollouts, halts and their ends.
POLICY = Policy(warm_up_seconds=5, idle_close_seconds=10, max_rollout_seconds=60)
RELEASES = ("1.0", "1.1", "1.2")

exposures = st.tuples(
    st.integers(0, SECONDS - 1),
    st.sampled_from(RELEASES),
    st.sampled_from(["a", "b"]),
    st.integers(0, 40),
)
failures = st.tuples(
    st.integers(0, SECONDS - 1),
    st.sampled_from(RELEASES),
    st.sampled_from(["a", "b"]),
    st.sampled_from(["Boom", "Timeout", "Conflict"]),
    st.integers(1, 10),
    st.lists(st.integers(0, 40), max_size=5, unique=True).map(sorted),
)
events = st.builds(
    DeploymentEvent,
    id=st.uuids().map(str),
    kind=st.sampled_from(["started", "promoted", "aborted", "rolled_back"]),
    tick=st.integers(START + 30, START + SECONDS),
    environment=st.just("production"),
    service=st.just("shop"),
    release=st.sampled_from(RELEASES),
    baseline=st.sampled_from(["", *RELEASES]),
)
noise = st.tuples(
    st.lists(exposures, max_size=40), st.lists(failures, max_size=60), st.lists(events, max_size=3)
)


class Rows:
    """Rows of one stream; two releases always serve, so that there is something to judge."""

    def __init__(self, drawn: tuple[list[Any], list[Any], list[DeploymentEvent]]) -> None:
        extra, failed, self.events = drawn
        steady = [(s, "1.0", "a", 30) for s in range(SECONDS)]
        steady += [(s, "1.1", "b", 10) for s in range(35, SECONDS)]
        self.exposure = [
            (START + second, release, name, count, count)
            for second, release, name, count in [*steady, *extra]
        ]
        self.errors = [(START + second, *rest) for second, *rest in failed]

    def batch(self, offset: int, since: int, until: int, part: int = 0, of: int = 1) -> CountsBatch:
        """The rows of some seconds; of several parts, one."""
        chosen = [
            [row for row in rows if since <= row[0] - START < until]
            for rows in (self.exposure, self.errors)
        ]
        exposure, errors = (rows[part::of] for rows in chosen)
        return batch(offset, offset, exposure, errors, partition=part)


def outputs(messages: list[EngineInput]) -> bytes:
    engine = Engine(POLICY)
    return msgspec.json.encode([engine.feed(message) for message in messages if message])


def told(messages: list[EngineInput]) -> bytes:
    """What was decided, whichever message it came with."""
    engine = Engine(POLICY)
    return msgspec.json.encode([out for message in messages for out in engine.feed(message)])


def by_second(rows: Rows, parts: int = 1) -> list[EngineInput]:
    messages: list[EngineInput] = list(rows.events)
    for second in range(SECONDS):
        messages += [rows.batch(second, second, second + 1, p, parts) for p in range(parts)]
        messages.append(watermarks(START + second, parts))
    return [*messages, watermarks(START + SECONDS, parts, idle=True)]


@settings(max_examples=12, deadline=None)
@given(noise, st.data())
def test_restored_at_any_message_it_goes_on_alike(drawn: Any, data: st.DataObject) -> None:
    messages = by_second(Rows(drawn))
    cuts = data.draw(st.sets(st.integers(0, len(messages) - 1), max_size=6))
    engine, saved = Engine(POLICY), dict[str, bytes]()
    given_out = []
    for number, message in enumerate(messages):
        given_out.append(engine.feed(message))
        saved |= engine.take_changed_rows()
        if number in cuts:
            engine = Engine(POLICY)
            for row, value in data.draw(st.permutations(sorted(saved.items()))):
                engine.restore(row, value)
    assert msgspec.json.encode(given_out) == outputs(messages)


@settings(max_examples=12, deadline=None)
@given(noise, st.lists(st.integers(0, SECONDS), max_size=8))
def test_where_batches_are_cut_changes_nothing(drawn: Any, cuts: list[int]) -> None:
    rows = Rows(drawn)
    edges = sorted({0, *cuts, SECONDS})
    messages: list[EngineInput] = list(rows.events)
    for number, (since, until) in enumerate(pairwise(edges)):
        messages += [rows.batch(number, since, until), watermarks(START + until - 1)]
    messages.append(watermarks(START + SECONDS, idle=True))
    assert told(messages) == told(by_second(rows))


@settings(max_examples=12, deadline=None)
@given(noise, st.integers(2, 4))
def test_over_how_many_partitions_records_are_spread_changes_nothing(
    drawn: Any, parts: int
) -> None:
    rows = Rows(drawn)
    assert told(by_second(rows, parts)) == told(by_second(rows))


@settings(max_examples=12, deadline=None)
@given(noise, st.randoms(use_true_random=False))
def test_order_of_batches_within_the_allowed_lateness_changes_nothing(
    drawn: Any, random: Any
) -> None:
    rows = Rows(drawn)
    messages: list[EngineInput] = list(rows.events)
    for since in range(0, SECONDS, 5):
        several: list[EngineInput] = [
            rows.batch(since + part, since, since + 5, part, 5) for part in range(5)
        ]
        random.shuffle(several)
        messages += [*several, watermarks(START + since + 4, 5)]
    messages.append(watermarks(START + SECONDS, 5, idle=True))
    assert told(messages) == told(by_second(rows))


@settings(max_examples=8, deadline=None)
@given(noise, st.data())
def test_messages_delivered_again_change_nothing(drawn: Any, data: st.DataObject) -> None:
    messages = by_second(Rows(drawn))
    again = data.draw(st.lists(st.integers(0, len(messages) - 1), max_size=5))
    repeated = list(messages)
    for number in again:
        repeated.insert(min(number + 7, len(repeated)), messages[number])
    assert told(repeated) == told(messages)
