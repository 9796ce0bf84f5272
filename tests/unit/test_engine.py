"""The engine from outside: counts in, verdicts and signals out."""

from __future__ import annotations

import time

import msgspec
import pytest

from streamwatch.counts import CountsBatch, DeploymentEvent, EngineInput, decode, encode
from streamwatch.detect.verdict import Status, Verdict
from streamwatch.engine import Engine
from streamwatch.errors import InvalidMessage, StreamwatchError
from streamwatch.policy import Policy
from streamwatch.signals.envelope import Signal
from traffic import START, Arm, batch, stream, watermarks

BASE = Arm("1.0", 80, {"Timeout": 0.005, "Conflict": 0.003})


def judge(
    messages: list[EngineInput], policy: Policy | None = None
) -> tuple[list[Verdict], list[Signal]]:
    engine = Engine(policy)
    verdicts: list[Verdict] = []
    signals: list[Signal] = []
    for message in messages:
        for output in engine.feed(message):
            if isinstance(output, Signal):
                signals.append(output)
            else:
                verdicts.append(output)
    return verdicts, signals


def last(verdicts: list[Verdict], release: str) -> Verdict:
    return [verdict for verdict in verdicts if verdict.release == release][-1]


def canary(**errors: float) -> Arm:
    return Arm("1.1", 20, BASE.errors | errors, begin=120, instances=2)


def test_new_error_in_the_candidate_halts_it_once() -> None:
    verdicts, signals = judge(list(stream([BASE, canary(Boom=0.05)], 400)))
    assert [(signal.kind, signal.release, signal.baseline) for signal in signals] == [
        ("halt", "1.1", "1.0")
    ]
    signal = signals[0]
    worst = signal.evidence.fingerprints[0]
    assert (worst.type, worst.new, worst.baseline_errors) == ("Boom", True, 0)
    # Muted for 45 s of pod age, then decided within a minute.
    assert START + 120 + 45 <= signal.tick <= START + 120 + 105
    assert signal.evidence.e_value >= signal.evidence.threshold == pytest.approx(1000)
    assert signal.blast_radius.since_tick == START + 120
    assert signal.blast_radius.instances == 2
    assert last(verdicts, "1.1").status is Status.FAILED
    assert "Boom" in signal.reason


def test_known_errors_at_five_times_the_rate_halt() -> None:
    bad = Arm("1.1", 20, {name: rate * 5 for name, rate in BASE.errors.items()}, begin=120)
    _, signals = judge(list(stream([BASE, bad], 500)))
    assert len(signals) == 1
    evidence = signals[0].evidence
    assert evidence.ratio is not None
    assert evidence.ratio_high is None or evidence.ratio_low <= evidence.ratio
    assert evidence.ratio_low > 1.0


def test_healthy_candidate_passes_and_never_halts() -> None:
    verdicts, signals = judge(list(stream([BASE, canary()], 900)))
    assert signals == []
    assert last(verdicts, "1.1").status is Status.SUCCESSFUL
    assert last(verdicts, "1.1").action == "proceed"


def test_candidate_without_any_errors_passes_beside_a_baseline_without_any() -> None:
    clean = [Arm("1.0", 200), Arm("1.1", 100, begin=60)]
    verdicts, signals = judge(list(stream(clean, 400)))
    assert signals == []
    assert last(verdicts, "1.1").status is Status.SUCCESSFUL


def test_outage_of_both_arms_does_not_halt() -> None:
    arms = [
        Arm("1.0", 80, {"Down": 0.4}, bad_from=200),
        Arm("1.1", 20, {"Down": 0.4}, begin=60, bad_from=200),
    ]
    _, signals = judge(list(stream(arms, 500)))
    assert signals == []


def test_crash_halts_before_the_warm_up_ends() -> None:
    dead = Arm("1.1", 20, {"Dead": 0.9}, begin=120)
    _, signals = judge(list(stream([BASE, dead], 300)))
    assert signals[0].evidence.rule == "crash-bypass"
    assert signals[0].tick - START - 120 <= 10


def test_burst_of_errors_in_a_small_candidate_is_no_crash() -> None:
    small = Arm("1.1", 5, BASE.errors, begin=120, instances=1)
    messages: list[EngineInput] = []
    for second, (counted, marks) in enumerate(
        zip(*[iter(stream([BASE, small], 240))] * 2, strict=True)
    ):
        messages.append(counted)
        if second == 126:
            tick = START + second
            burst = (tick, "1.1", "1.1-0", "Timeout", 30, list(range(16)))
            messages.append(batch(second, second, errors=[burst], partition=1))
        messages.append(marks)
    _, signals = judge(messages)
    assert signals == []


def test_retry_storm_of_one_client_does_not_halt() -> None:
    messages: list[EngineInput] = []
    for second, (counted, marks) in enumerate(
        zip(*[iter(stream([BASE, canary()], 600))] * 2, strict=True)
    ):
        messages.append(counted)
        if second > 200:
            tick = START + second
            storm = (tick, "1.1", "1.1-0", "Storm", 20, [12345])
            messages.append(
                batch(second, second, [(tick, "1.1", "1.1-0", 20, 20)], [storm], partition=1)
            )
        messages.append(marks)
    _, signals = judge(messages)
    assert signals == []


def test_first_release_is_declared_as_such() -> None:
    verdicts, signals = judge(list(stream([BASE], 60)))
    assert [verdict.mode for verdict in verdicts] == ["first-deploy"]
    assert verdicts[0].status is Status.INCONCLUSIVE
    assert signals == []


def test_too_little_traffic_is_said_with_what_is_missing() -> None:
    arms = [Arm("1.0", 2, {"Timeout": 0.02}), Arm("1.1", 0.5, {"Timeout": 0.02}, begin=60)]
    verdicts, _ = judge(list(stream(arms, 300)))
    verdict = last(verdicts, "1.1")
    assert verdict.status is Status.INCONCLUSIVE
    assert verdict.missing is not None
    assert "traffic" in verdict.reason
    assert verdict.action == "hold"


@pytest.mark.parametrize("reason", ["late", "missing_release"])
def test_left_out_records_forbid_a_pass_and_say_so(reason: str) -> None:
    messages: list[EngineInput] = []
    for second, (counted, marks) in enumerate(
        zip(*[iter(stream([BASE, canary()], 900))] * 2, strict=True)
    ):
        lost = batch(second, second, dropped=[(START + second, reason, 5)], partition=1)
        messages += [counted, lost, marks]
    verdicts, signals = judge(messages)
    assert signals == []
    verdict = last(verdicts, "1.1")
    assert verdict.status is Status.INCONCLUSIVE
    assert reason in verdict.reason


def test_candidate_that_falls_silent_is_not_called_good_any_more() -> None:
    arms = [Arm("1.0", 200), Arm("1.1", 100, begin=60, end=400)]
    verdicts, _ = judge(list(stream(arms, 520)))
    mine = {v.tick - START: v for v in verdicts if v.release == "1.1"}
    assert mine[395].status is Status.SUCCESSFUL
    assert mine[510].status is Status.INCONCLUSIVE
    assert "logged nothing" in mine[510].reason


def test_dry_run_says_so() -> None:
    _, signals = judge(list(stream([BASE, canary(Boom=0.2)], 300)), Policy(dry_run=True))
    assert signals[0].dry_run


def test_same_messages_give_the_same_bytes() -> None:
    messages = list(stream([BASE, canary(Boom=0.05)], 300))
    one, other = judge(messages), judge(messages)
    assert msgspec.json.encode(one) == msgspec.json.encode(other)


def test_redelivered_messages_change_nothing() -> None:
    messages = list(stream([BASE, canary(Boom=0.05)], 300))
    doubled = [copy for message in messages for copy in (message, message)]
    assert msgspec.json.encode(judge(doubled)) == msgspec.json.encode(judge(messages))


def test_wire_does_not_change_decisions() -> None:
    messages = list(stream([BASE, canary(Boom=0.05)], 300))
    carried = [decode(encode(message)) for message in messages]
    assert msgspec.json.encode(judge(carried)) == msgspec.json.encode(judge(messages))


def test_partly_applied_batch_is_refused() -> None:
    engine = Engine()
    engine.feed(batch(0, 9, [(START, "1.0", "a", 1, 1)]))
    with pytest.raises(InvalidMessage, match="in part"):
        engine.feed(batch(5, 12, [(START, "1.0", "a", 1, 1)]))


def test_refused_batch_forbids_a_pass_and_says_so() -> None:
    messages = list(stream([BASE, canary()], 900))
    engine = Engine()
    verdicts: list[Verdict] = []
    for number, message in enumerate(messages):
        if number == 600:
            rows = [(START + 299, "1.1", "1.1-0", 9_000, 9_000)]
            with pytest.raises(InvalidMessage):
                engine.feed(batch(0, 900, rows))
        verdicts += [out for out in engine.feed(message) if isinstance(out, Verdict)]
    verdict = last(verdicts, "1.1")
    assert verdict.status is Status.INCONCLUSIVE
    assert "overlapping_offsets" in verdict.reason


@pytest.mark.parametrize(
    "absurd",
    [
        batch(0, 0, [(START, "1.0", "a", 10**30, 1)]),
        batch(0, 0, [(START, "1.0", "a", 2**63, 1)]),
        batch(0, 0, [(START * 1000, "1.0", "a", 1, 1)]),
        batch(0, 0, [(-START, "1.0", "a", 1, 1)]),
        batch(0, 0, errors=[(START, "1.0", "a", "Boom", 1, [-1] * 16)]),
        batch(0, 0, errors=[(START, "1.0", "a", "Boom", 1, [2**70])]),
        batch(0, 0, dropped=[(START * 1000, "late", 1)]),
        DeploymentEvent("e", "started", START * 1000, "production", "shop", "1.1"),
    ],
)
def test_absurd_numbers_are_refused_and_harm_nothing(
    absurd: CountsBatch | DeploymentEvent,
) -> None:
    engine = Engine()
    with pytest.raises(InvalidMessage):
        engine.feed(absurd)
    engine.feed(batch(1, 1, [(START, "1.0", "a", 1, 1)]))
    engine.feed(watermarks(START + 10))
    rows = engine.take_changed_rows()
    assert max(map(len, rows.values())) < 2_000


def test_release_tried_again_in_the_second_it_was_aborted_is_judged_afresh() -> None:
    messages = list(stream([BASE, canary(Boom=0.004)], 300))
    place = ("production", "shop", "1.1")
    again = [
        DeploymentEvent("2", "aborted", START + 200, *place),
        DeploymentEvent("1", "started", START + 200, *place),
    ]
    verdicts, _ = judge([*messages[:398], *again, *messages[398:]])
    mine = [verdict for verdict in verdicts if verdict.release == "1.1"]
    first, second = sorted({v.rollout for v in mine}, key=[v.rollout for v in mine].index)
    closed = [verdict for verdict in mine if not verdict.open]
    assert [(verdict.rollout, verdict.tick) for verdict in closed] == [(first, START + 200)]
    fresh = [verdict for verdict in mine if verdict.rollout == second]
    assert fresh[0].blast_radius.since_tick == START + 200
    assert fresh[0].blast_radius.records < 100


def test_names_of_releases_are_not_remembered_without_bound() -> None:
    engine = Engine()
    engine.feed(batch(0, 0, [(START, "1.0", "a", 100, 100)]))
    sizes = []
    for second in range(1, 59):
        tick = START + second
        rows = [(tick, f"noise-{second}-{n}", "a", 1, 1) for n in range(100)]
        engine.feed(batch(second, second, [(tick, "1.0", "a", 100, 100), *rows]))
        engine.feed(watermarks(tick + 10))
        sizes.append(len(engine.take_changed_rows()["service|production|shop"]))
    assert max(sizes) < 40_000


def test_releases_that_are_too_many_to_be_judged_are_said() -> None:
    crowd = [Arm(f"2.{n}", 5, BASE.errors, begin=60 + n) for n in range(10)]
    verdicts, _ = judge(list(stream([BASE, *crowd], 400)))
    verdict = last(verdicts, "2.0")
    assert verdict.status is Status.INCONCLUSIVE
    assert "too_many_releases" in verdict.reason


def test_a_long_backlog_is_evaluated_in_time_that_grows_with_its_length() -> None:
    def seconds(ticks: int) -> float:
        engine = Engine()
        for first in range(0, ticks, 1_000):
            rows = [(START + first + n, "1.0", "a", 1, 1) for n in range(1_000)]
            engine.feed(batch(first, first + 999, rows))
        begin = time.perf_counter()
        engine.feed(watermarks(START + ticks + 10))
        return time.perf_counter() - begin

    # Quadratic work would make it 64 times as long.
    assert seconds(16_000) < 25 * max(seconds(2_000), 0.02)


def test_state_saved_after_any_message_continues_alike() -> None:
    messages = list(stream([BASE, canary(Boom=0.05)], 260))
    undisturbed = judge(messages)
    for every in (1, 37):
        rows: dict[str, bytes] = {}
        engine = Engine()
        outputs: list[Verdict | Signal] = []
        for number, message in enumerate(messages):
            outputs += engine.feed(message)
            rows |= engine.take_changed_rows()
            if number % every == 0:
                engine = Engine()
                for row, value in rows.items():
                    engine.restore(row, value)
        verdicts = [output for output in outputs if isinstance(output, Verdict)]
        signals = [output for output in outputs if isinstance(output, Signal)]
        assert msgspec.json.encode((verdicts, signals)) == msgspec.json.encode(undisturbed)


def test_state_of_an_unknown_version_is_refused() -> None:
    with pytest.raises(StreamwatchError, match="version"):
        Engine().restore("clock", b"\xff...")


def test_no_tick_closes_before_every_partition_spoke() -> None:
    engine = Engine()
    engine.feed(batch(0, 0, [(START, "1.0", "a", 1, 1)]))
    two = watermarks(START + 100, partitions=2)
    engine.feed(msgspec.structs.replace(two, sources=two.sources[:1]))
    assert engine.closed == -1
    engine.feed(two)
    assert engine.closed == START + 94


def test_a_topic_that_lags_holds_back_only_its_own_services() -> None:
    engine = Engine()
    rows = [(START, "1.0", "a", 1, 1), (START + 40, "1.0", "a", 1, 1)]
    engine.feed(batch(0, 1, rows))
    engine.feed(batch(0, 1, rows, service="slow", source="lagging"))
    engine.feed(watermarks(START - 100, source="lagging"))
    first = engine.feed(watermarks(START + 100))
    assert [output.service for output in first] == ["shop"]
    assert engine.closed == START - 106
    second = engine.feed(watermarks(START + 100, source="lagging"))
    assert [output.service for output in second] == ["slow"]


def test_announced_rollout_names_its_baseline() -> None:
    arms = [
        Arm("1.0", 50, {"Timeout": 0.005}),
        Arm("0.9", 50, {"Timeout": 0.005}),
        Arm("1.1", 20, {"Timeout": 0.005}, begin=60),
    ]
    messages = list(stream(arms, 120))
    event = DeploymentEvent(
        "e1", "started", START + 50, "production", "shop", "1.1", baseline="0.9"
    )
    verdicts, _ = judge([*messages[:40], event, event, *messages[40:]])
    assert {v.baseline for v in verdicts if v.release == "1.1"} == {"0.9"}


def test_rolled_back_release_is_closed_and_its_stragglers_open_nothing() -> None:
    messages = list(stream([BASE, canary()], 300))
    event = DeploymentEvent("e2", "rolled_back", START + 200, "production", "shop", "1.1")
    verdicts, _ = judge([*messages[:398], event, *messages[398:]])
    mine = [verdict for verdict in verdicts if verdict.release == "1.1"]
    assert not mine[-1].open
    assert mine[-1].tick == START + 200


def test_promotion_makes_the_candidate_the_next_baseline() -> None:
    policy = Policy(idle_close_seconds=30)
    arms = [
        Arm("1.0", 50, {"Timeout": 0.005}, end=150),
        Arm("1.1", 50, {"Timeout": 0.005}, begin=60),
        Arm("1.2", 20, {"Timeout": 0.005}, begin=250),
    ]
    verdicts, _ = judge(list(stream(arms, 320)), policy)
    assert last(verdicts, "1.2").baseline == "1.1"
    assert not last(verdicts, "1.1").open
