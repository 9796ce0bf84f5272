"""One complete value of every wire format, for the tests of those who read and write them."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from streamwatch.counts import (
    CountsBatch,
    DeploymentEvent,
    Dropped,
    Errors,
    Exposure,
    ShapeDefinition,
    SourceRange,
    SourceWatermark,
    Watermarks,
)
from streamwatch.deadletters import DeadLetter
from streamwatch.detect.verdict import (
    BlastRadius,
    Evidence,
    FingerprintEvidence,
    Health,
    Missing,
    Status,
    Verdict,
)
from streamwatch.signals.envelope import Signal, signal_id

TICK = 1_763_800_000

EVIDENCE = Evidence(
    e_value=4321.5,
    threshold=1000.0,
    p_value=0.00023,
    ratio=12.25,
    ratio_low=3.5,
    ratio_high=40.0,
    confidence=0.95,
    candidate_errors=98,
    baseline_errors=8,
    candidate_exposure=1000,
    baseline_exposure=1010,
    rule="sequential-test",
    fingerprints=[
        FingerprintEvidence(
            group="00000000000000a1",
            template="connection to <*> refused",
            type="psycopg.OperationalError",
            example="connection to 10.0.0.0 refused",
            new=True,
            candidate_errors=90,
            baseline_errors=0,
            e_value=4000.0,
            since_tick=TICK - 20,
        )
    ],
)
BLAST_RADIUS = BlastRadius(
    since_tick=TICK - 30,
    seconds=30,
    records=1200,
    requests=1000,
    instances=3,
    errors=98,
    excess_errors=90.1,
)
HEALTH = Health(watermark=TICK, dropped={"late": 2}, problems=[])

VERDICT = Verdict(
    environment="production",
    service="checkout",
    release="2.4.1",
    baseline="2.4.0",
    rollout="5f2b8c0d9e1a4b37",
    tick=TICK,
    status=Status.FAILED,
    mode="concurrent",
    action="halt",
    dry_run=False,
    open=True,
    share=0.5,
    reason="2.4.1 fails 12 times as often as 2.4.0",
    evidence=EVIDENCE,
    blast_radius=BLAST_RADIUS,
    health=HEALTH,
    missing=None,
    policy="9c1f0a22",
    grouping_config="1",
)
SIGNAL = Signal(
    id=signal_id("5f2b8c0d9e1a4b37", "halt", 1),
    kind="halt",
    sequence=1,
    rollout="5f2b8c0d9e1a4b37",
    tick=TICK,
    environment="production",
    service="checkout",
    release="2.4.1",
    baseline="2.4.0",
    share=0.5,
    dry_run=False,
    reason="2.4.1 fails 12 times as often as 2.4.0",
    evidence=EVIDENCE,
    blast_radius=BLAST_RADIUS,
    health=HEALTH,
    policy="9c1f0a22",
    grouping_config="1",
)
COUNTS = CountsBatch(
    environment="production",
    service="checkout",
    grouping_config="1",
    sources=[SourceRange("logs", 0, 100, 199)],
    releases=["2.4.0", "2.4.1"],
    instances=["pod-a", "pod-b"],
    shapes=["00000000000000a1"],
    exposure=Exposure(
        tick=[TICK, TICK], release=[0, 1], instance=[0, 1], records=[60, 40], requests=[50, 30]
    ),
    errors=Errors(
        tick=[TICK],
        release=[1],
        instance=[1],
        shape=[0],
        count=[3],
        clients=[[17, 281474976710655]],
    ),
    definitions=[
        ShapeDefinition(
            "00000000000000a1",
            "exception",
            "psycopg.OperationalError in shop.db.connect",
            type="psycopg.OperationalError",
            frame="shop.db.connect",
            example="connection to 10.0.0.0 refused",
        )
    ],
    dropped=Dropped(tick=[TICK], reason=["late"], count=[2]),
)
WATERMARKS = Watermarks(
    sources=[SourceWatermark("logs", 0, 2, TICK), SourceWatermark("logs", 1, 2, -1, idle=True)]
)
DEPLOYMENT = DeploymentEvent(
    id="deploy-77",
    kind="started",
    tick=TICK - 60,
    environment="production",
    service="checkout",
    release="2.4.1",
    baseline="2.4.0",
    share=0.1,
)
DEAD_LETTER = DeadLetter(
    reason="missing_release",
    detail="no service.version",
    topic="logs",
    partition=3,
    offset=4711,
    timestamp=TICK * 1000,
    records=2,
    value='{"service": "checkout", "message": "hello"}',
)


def verdict(release: str = "2.4.1", status: Status = Status.SUCCESSFUL, **changes: Any) -> Verdict:
    """A verdict that passes (or has another status), with some fields changed."""
    action = {Status.SUCCESSFUL: "proceed", Status.FAILED: "halt"}.get(status, "hold")
    missing = Missing(visible_ratio=3.0, seconds_to_decision=60) if action == "hold" else None
    changes = {
        "release": release,
        "status": status,
        "action": action,
        "missing": missing,
        "reason": f"{release} is {status.value}",
    } | changes
    return replace(VERDICT, **changes)
