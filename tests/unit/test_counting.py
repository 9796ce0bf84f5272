from __future__ import annotations

from typing import Any

import pytest

from streamwatch.config import Ingest
from streamwatch.counting import LONGEST_NAME, Combiner, Limits, client_hash
from streamwatch.counts import CLIENTS_PER_ROW, CountsBatch, SourceRange, decode, encode
from streamwatch.errors import Reason
from streamwatch.fingerprint import GROUPING_CONFIG, Shaper
from streamwatch.records import LogRecord

TICK = 1_767_323_045


def combiner(**limits: int) -> Combiner:
    return Combiner(Shaper(1_000), Limits(**limits))


def record(tick: int = TICK, **fields: Any) -> LogRecord:
    base: dict[str, Any] = {
        "service": "shop",
        "release": "1",
        "instance": "a",
        "environment": "prod",
    }
    return LogRecord(timestamp_ns=tick * 10**9 + 5, **(base | fields))


def only(batches: list[CountsBatch]) -> CountsBatch:
    (batch,) = batches
    return batch


def test_exposure_and_requests_per_tick_release_and_instance() -> None:
    c = combiner()
    c.add("logs", 0, 0, None, [record(), record(request=True), record(TICK + 1)])
    c.add("logs", 0, 1, None, [record(instance="b"), record(release="2", request=True)])
    batch = only(c.drain())
    rows = batch.exposure
    named = [
        (tick, batch.releases[r], batch.instances[i], records, requests)
        for tick, r, i, records, requests in zip(
            rows.tick, rows.release, rows.instance, rows.records, rows.requests, strict=True
        )
    ]
    assert named == [
        (TICK, "1", "a", 2, 1),
        (TICK, "1", "b", 1, 0),
        (TICK, "2", "a", 1, 1),
        (TICK + 1, "1", "a", 1, 0),
    ]
    assert (batch.environment, batch.service, batch.key) == ("prod", "shop", "prod|shop")
    assert batch.grouping_config == GROUPING_CONFIG
    assert batch.sources == [SourceRange("logs", 0, 0, 1)]
    assert decode(encode(batch)) == batch


def test_errors_per_shape_with_clients_and_a_definition() -> None:
    c = combiner()
    failed: dict[str, Any] = {"severity": 17, "message": "order 1 failed"}
    c.add("logs", 0, 0, None, [record(**failed, client="u1"), record(**failed, client="u2")])
    c.add("logs", 0, 1, None, [record(**failed, client="u1"), record(**failed)])
    c.add("logs", 0, 2, None, [record(severity=16, message="only a warning")])
    batch = only(c.drain())
    assert batch.exposure.records == [5]
    assert batch.errors.count == [4]
    assert batch.errors.clients == [sorted([client_hash("u1"), client_hash("u2")])]
    (definition,) = batch.definitions
    assert batch.shapes == [definition.id]
    assert definition.example == "order 1 failed"


def test_a_row_keeps_the_smallest_client_hashes_whatever_their_order() -> None:
    clients = [f"user-{n}" for n in range(500)]
    smallest = sorted(map(client_hash, clients))[:CLIENTS_PER_ROW]
    for order in (clients, clients[::-1]):
        c = combiner()
        c.add("logs", 0, 0, None, [record(severity=17, message="x", client=u) for u in order])
        assert only(c.drain()).errors.clients == [smallest]


def test_client_hashes_have_48_bits_and_take_hostile_text() -> None:
    assert all(0 <= client_hash(text) < 2**48 for text in ("", "u", "é" * 10_000, "\ud800"))


def test_an_exception_without_a_message_is_shown_by_its_own_words() -> None:
    c = combiner()
    error: dict[str, Any] = {"exception_type": "KeyError", "exception_message": "'sku'"}
    c.add("logs", 0, 0, None, [record(severity=17, **error)])
    (definition,) = only(c.drain()).definitions
    assert (definition.kind, definition.example) == ("exception", "KeyError: 'sku'")


def test_secrets_do_not_reach_an_example() -> None:
    c = combiner()
    line = "login failed for ann@example.com with password=hunter2"
    c.add("logs", 0, 0, None, [record(severity=17, message=line)])
    example = only(c.drain()).definitions[0].example
    assert "hunter2" not in example
    assert "ann@example.com" not in example


@pytest.mark.parametrize(
    ("fields", "timestamp_ms", "reason"),
    [
        ({"service": ""}, None, Reason.MISSING_SERVICE),
        ({"release": ""}, None, Reason.MISSING_RELEASE),
        ({"timestamp_ns": 0}, None, Reason.MISSING_TIMESTAMP),
        ({"timestamp_ns": 946_684_799 * 10**9}, None, Reason.ABSURD_TIMESTAMP),
        ({"timestamp_ns": 4_102_444_801 * 10**9}, None, Reason.ABSURD_TIMESTAMP),
        ({"timestamp_ns": -1}, None, Reason.ABSURD_TIMESTAMP),
        ({"timestamp_ns": 10**60}, None, Reason.ABSURD_TIMESTAMP),
        ({"timestamp_ns": (TICK + 301) * 10**9}, TICK * 1000, Reason.ABSURD_TIMESTAMP),
        ({"timestamp_ns": (TICK - 3601) * 10**9}, TICK * 1000, Reason.ABSURD_TIMESTAMP),
        # The message's own clock may be absurd as well, and then proves nothing.
        ({"timestamp_ns": 5 * 10**18}, 5 * 10**12, Reason.ABSURD_TIMESTAMP),
    ],
)
def test_what_cannot_be_counted_is_returned_and_moves_no_watermark(
    fields: dict[str, Any], timestamp_ms: int | None, reason: Reason
) -> None:
    c = combiner(max_future_seconds=300, max_age_seconds=3600)
    good: dict[str, Any] = {"service": "s", "release": "1", "timestamp_ns": TICK * 10**9}
    bad = LogRecord(**(good | fields))
    (error,) = c.add("logs", 0, 0, timestamp_ms, [bad])
    assert error.reason is reason
    assert c.watermarks() == {("logs", 0): -1}
    batches = c.drain()
    if reason is Reason.MISSING_SERVICE:
        assert batches == []
    else:
        batch = only(batches)
        assert (batch.dropped.reason, batch.dropped.count) == ([reason.value], [1])
        assert batch.exposure.tick == []
        assert 0 <= batch.dropped.tick[0] <= TICK
        assert decode(encode(batch)) == batch


def test_bounds_against_the_message_timestamp_are_inclusive() -> None:
    c = combiner(max_future_seconds=300, max_age_seconds=3600, allowed_lateness_seconds=9_999)
    edges = [
        LogRecord(timestamp_ns=(TICK + s) * 10**9, service="s", release="1") for s in (-3600, 300)
    ]
    assert c.add("logs", 0, 0, TICK * 1000, edges) == []


def test_a_clock_that_runs_ahead_makes_nobody_elses_records_late() -> None:
    c = combiner(max_future_seconds=300, allowed_lateness_seconds=5)
    now = TICK * 1000
    ahead, others = record(TICK + 200, instance="skewed"), record(TICK, instance="b")
    assert c.add("logs", 0, 0, now, [ahead, others]) == []
    batch = only(c.drain())
    assert sorted(batch.exposure.tick) == [TICK, TICK + 200]
    assert batch.dropped.tick == []
    assert c.watermarks() == {("logs", 0): TICK}


def test_a_record_without_a_release_is_dropped_in_its_own_tick() -> None:
    c = combiner()
    c.add("logs", 0, 0, None, [record(TICK + 9), record(TICK, release="")])
    dropped = only(c.drain()).dropped
    assert (dropped.tick, dropped.reason, dropped.count) == ([TICK], ["missing_release"], [1])


def test_late_records_are_dropped_where_their_partition_stood() -> None:
    c = combiner(allowed_lateness_seconds=5)
    c.add("logs", 0, 0, None, [record(TICK), record(TICK - 5), record(TICK - 6), record(TICK - 7)])
    # Another partition may well be that far behind: its own records decide.
    c.add("logs", 1, 0, None, [record(TICK - 100)])
    batch = only(c.drain())
    assert batch.exposure.tick == [TICK - 100, TICK - 5, TICK]
    dropped = batch.dropped
    assert (dropped.tick, dropped.reason, dropped.count) == ([TICK], ["late"], [2])
    assert c.watermarks() == {("logs", 0): TICK, ("logs", 1): TICK - 100}


def test_an_unusable_record_does_not_make_others_late() -> None:
    c = combiner()
    c.add("logs", 0, 0, None, [record(TICK + 1000, release=""), record(TICK)])
    assert only(c.drain()).exposure.tick == [TICK]


def test_batches_come_sorted_and_sources_name_who_contributed() -> None:
    c = combiner()
    c.add("b", 0, 7, None, [record(service="z")])
    c.add("a", 1, 3, None, [record(service="y"), record(service="y", environment="")])
    c.add("a", 0, 4, None, [record(service="z")])
    c.add("a", 0, 5, None, [])
    batches = c.drain()
    assert [batch.key for batch in batches] == ["|y", "prod|y", "prod|z"]
    assert batches[2].sources == [SourceRange("a", 0, 4, 5), SourceRange("b", 0, 7, 7)]
    assert c.drain() == []


def test_a_shape_is_defined_once_per_service_and_again_after_a_rollback() -> None:
    c = combiner()
    error = record(severity=17, message="x")

    def definitions(*records: LogRecord) -> list[int]:
        c.add("logs", 0, 0, None, list(records))
        return [len(batch.definitions) for batch in c.drain()]

    assert definitions(error) == [1]
    c.rollback()
    assert definitions(error, error) == [1]
    assert definitions(error) == [0]  # drained twice before the commit
    c.commit()
    assert definitions(error) == [0]
    assert definitions(record(severity=17, message="x", service="other")) == [1]


def test_rollback_returns_to_the_last_commit() -> None:
    c = combiner()
    c.add("logs", 0, 0, None, [record(TICK)])
    c.drain()
    c.commit()
    c.add("logs", 0, 1, None, [record(TICK + 100)])
    c.drain()
    c.add("logs", 0, 2, None, [record(TICK + 200)])
    c.rollback()
    assert c.watermarks() == {("logs", 0): TICK}
    assert (c.drain(), c.cells) == ([], 0)
    c.add("logs", 0, 1, None, [record(TICK - 1)])
    batch = only(c.drain())
    assert (batch.exposure.tick, batch.sources) == ([TICK - 1], [SourceRange("logs", 0, 1, 1)])


def test_a_restored_watermark_makes_the_same_records_late() -> None:
    c = combiner()
    c.set_watermark("logs", 0, TICK)
    c.rollback()
    c.add("logs", 0, 9, None, [record(TICK - 6)])
    assert only(c.drain()).dropped.reason == ["late"]
    c.forget("logs", 0)
    assert c.watermarks() == {}


def test_names_are_bounded_and_stay_distinct() -> None:
    c = combiner()
    names = ["x" * LONGEST_NAME, "x" * 10_000 + "a", "x" * 10_000 + "b", "x" * 10_000 + "b"]
    for offset, name in enumerate(names):
        c.add("logs", 0, offset, None, [record(instance=name, release=name)])
    c.add("logs", 0, 9, None, [record(service="s" * 999, release="")])
    batches = c.drain()
    assert sorted(map(len, batches[0].instances + batches[0].releases)) == [LONGEST_NAME] * 6
    assert sorted(batches[0].exposure.records) == [1, 1, 2]
    assert len(batches[1].service) == LONGEST_NAME
    assert c.long_names == 3


def test_cells_are_counted_and_too_many_ask_for_a_drain() -> None:
    c = combiner(max_cells=10)
    for n in range(9):
        c.add("logs", 0, n, None, [record(instance=str(n))])
    assert (c.cells, c.full) == (9, False)
    c.add("logs", 0, 9, None, [record(instance="8")])
    assert not c.full
    c.add("logs", 0, 10, None, [record(instance="9")])
    assert (c.cells, c.full) == (10, True)
    c.drain()
    assert (c.cells, c.full) == (0, False)


@pytest.mark.parametrize("kind", ["instances", "shapes", "clients"])
def test_a_batch_asks_for_a_drain_before_it_outgrows_a_kafka_message(kind: str) -> None:
    c = combiner()
    count = 0
    while not c.full:
        count += 1
        # Letters only: digits would be masked and make all shapes one.
        word = "".join(chr(97 + int(digit)) for digit in f"{count:06}")
        kinds: dict[str, dict[str, Any]] = {
            "instances": {"instance": "i" * 150 + word},
            "shapes": {"severity": 17, "message": f"{word} " * 30},
            "clients": {"severity": 17, "message": "x", "client": word, "instance": word[:3]},
        }
        c.add("logs", 0, count, None, [record(TICK + count // 20, **kinds[kind])])
        assert count < 100_000
    size = max(len(encode(batch)) for batch in c.drain())
    assert 100_000 < size < 900_000


def test_limits_come_from_the_configuration() -> None:
    limits = Limits.from_config(Ingest(max_age_hours=2, max_future_seconds=7, max_cells=8))
    assert limits == Limits(5, 7, 7_200, 8)
