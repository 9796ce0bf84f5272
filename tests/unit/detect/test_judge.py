"""What must never pass, and what must never be halted, by way of the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from streamwatch.detect.dispersion import MAX_HISTORIES, TOTAL, Dispersion
from streamwatch.detect.verdict import Status, Verdict
from streamwatch.engine import Engine
from streamwatch.signals.envelope import Signal
from traffic import START, batch, watermarks

if TYPE_CHECKING:
    from collections.abc import Callable

    #: Of one second: requests, records, errors and the clients that met them.
    Row = tuple[int, int, int, list[int]]
    Serve = Callable[[int, np.random.Generator], Row]


def run(
    seconds: int,
    baseline: Serve,
    candidate: Serve,
    begin: int = 60,
    seed: int = 1,
) -> tuple[list[Verdict], list[Signal]]:
    """Verdicts on the candidate, and signals, of two releases with one instance each."""
    rng = np.random.default_rng(seed)
    engine = Engine()
    verdicts: list[Verdict] = []
    signals: list[Signal] = []
    for second in range(seconds):
        tick = START + second
        exposure, errors = [], []
        for release, serve in (("1.0", baseline), ("1.1", candidate)):
            if release == "1.1" and second < begin:
                continue
            requests, records, failed, clients = serve(second, rng)
            exposure.append((tick, release, release, records, requests))
            if failed:
                errors.append((tick, release, release, "Boom", failed, clients))
        for message in (batch(second, second, exposure, errors), watermarks(tick)):
            for output in engine.feed(message):
                if isinstance(output, Signal):
                    signals.append(output)
                elif output.release == "1.1":
                    verdicts.append(output)
    return verdicts, signals


def healthy(_second: int, _rng: np.random.Generator) -> Row:
    return 1_000, 1_000, 0, []


def test_release_that_fails_for_few_clients_never_passes() -> None:
    def failing(_second: int, _rng: np.random.Generator) -> Row:
        return 1_000, 1_000, 400, [7, 8]

    verdicts, _ = run(200, healthy, failing)
    assert verdicts
    assert Status.SUCCESSFUL not in {verdict.status for verdict in verdicts}


def test_release_that_repeats_known_errors_for_few_clients_never_passes_and_says_why() -> None:
    def usual(_second: int, rng: np.random.Generator) -> Row:
        count = int(rng.poisson(5))
        return 1_000, 1_000, count, sorted(int(c) for c in rng.integers(0, 2**48, count))

    def stormy(second: int, rng: np.random.Generator) -> Row:
        requests, records, count, clients = usual(second, rng)
        return requests, records, count + 300, clients or [7]

    verdicts, signals = run(300, usual, stormy)
    assert Status.SUCCESSFUL not in {verdict.status for verdict in verdicts}
    assert signals == []
    assert "few clients" in verdicts[-1].reason


def test_release_that_fails_before_it_logs_any_request_is_halted() -> None:
    def usual(_second: int, _rng: np.random.Generator) -> Row:
        return 80, 160, 0, []

    def dies(second: int, rng: np.random.Generator) -> Row:
        if second < 400:
            return 20, 40, 0, []
        count = 15 if second >= 420 else 0
        return 0, 30, count, sorted(int(c) for c in rng.integers(0, 2**48, count))

    verdicts, signals = run(500, usual, dies)
    assert Status.SUCCESSFUL in {verdict.status for verdict in verdicts}
    assert verdicts[-1].status is Status.FAILED
    assert len(signals) == 1
    assert signals[0].tick - START - 420 <= 60


def test_outage_of_both_beside_a_baseline_of_little_traffic_is_no_crash() -> None:
    def outage(rate: float) -> Serve:
        def serve(second: int, rng: np.random.Generator) -> Row:
            requests = int(rng.poisson(rate))
            failed = int(rng.binomial(requests, 0.6)) if second > 120 else 0
            return requests, requests, failed, [int(c) for c in rng.integers(0, 2**48, failed)][:16]

        return serve

    halted = [run(300, outage(0.3), outage(20), begin=40, seed=seed)[1] for seed in range(6)]
    assert halted == [[]] * 6


def test_histories_of_ever_new_fingerprints_are_bounded() -> None:
    dispersion = Dispersion()
    for window in range(12):
        counts = {f"{window}-{number}": 1.0 for number in range(500)}
        dispersion.learn(counts | {"steady": 20.0}, 100.0)
    assert len(dispersion.histories) <= MAX_HISTORIES
    assert {"steady", TOTAL} <= dispersion.histories.keys()
