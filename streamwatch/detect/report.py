"""From a judge's evidence to the verdict and signal that people and tools read."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

import msgspec
import orjson

from streamwatch.detect.judge import BASELINE, CANDIDATE
from streamwatch.detect.verdict import (
    Action,
    BlastRadius,
    Evidence,
    FingerprintEvidence,
    Health,
    Missing,
    Status,
    Verdict,
)
from streamwatch.fingerprint import GROUPING_CONFIG
from streamwatch.signals.envelope import Signal, signal_id

if TYPE_CHECKING:
    from streamwatch.detect.dispersion import Dispersion
    from streamwatch.detect.groups import ServiceGroups
    from streamwatch.detect.judge import Judge
    from streamwatch.policy import Policy
    from streamwatch.rollouts import Rollout

#: Fingerprints told in a verdict.
MAX_FINGERPRINTS = 10

#: Templates are cut to so many characters in evidence; the catalogue has them whole.
MAX_TEMPLATE = 300


def policy_hash(policy: Policy) -> str:
    """12 hex digits that change with any field of the policy."""
    return blake2b(orjson.dumps(msgspec.to_builtins(policy)), digest_size=6).hexdigest()


def make_verdict(
    environment: str,
    service: str,
    rollout: Rollout,
    judge: Judge,
    health: Health,
    groups: ServiceGroups,
    dispersion: Dispersion,
    instances: int,
    policy: Policy,
    tick: int,
) -> Verdict:
    """Everything that is known of a rollout's candidate at the end of a tick."""
    status = _status(judge, health, policy)
    evidence = _evidence(judge, groups, dispersion, policy)
    missing = None
    if status is Status.INCONCLUSIVE:
        missing = Missing(
            judge.visible_ratio(dispersion, policy), judge.seconds_to_decision(dispersion, policy)
        )
    return Verdict(
        environment=environment,
        service=service,
        release=rollout.candidate,
        baseline=rollout.baseline,
        rollout=rollout.id,
        tick=tick,
        status=status,
        mode="concurrent",
        action=_action(status, policy),
        dry_run=policy.dry_run,
        open=rollout.closing is None,
        share=round(judge.share, 4),
        reason=_reason(status, rollout, judge, evidence, health, missing, policy),
        evidence=evidence,
        blast_radius=_blast_radius(rollout, judge, instances, policy, tick),
        health=health,
        missing=missing,
        policy=policy_hash(policy),
        grouping_config=GROUPING_CONFIG,
    )


def first_deploy_verdict(
    environment: str, service: str, release: str, health: Health, policy: Policy, tick: int
) -> Verdict:
    """The verdict on the first release of a service that was ever seen."""
    return Verdict(
        environment=environment,
        service=service,
        release=release,
        baseline="",
        rollout="",
        tick=tick,
        status=Status.INCONCLUSIVE,
        mode="first-deploy",
        action=_action(Status.INCONCLUSIVE, policy),
        dry_run=policy.dry_run,
        open=False,
        share=1.0,
        reason=f"{release} is the first release seen of {service}: nothing to compare it with",
        evidence=Evidence(
            e_value=0.0,
            threshold=1 / policy.false_halt_probability,
            p_value=1.0,
            ratio=None,
            ratio_low=0.0,
            ratio_high=None,
            confidence=1 - policy.miss_probability,
            candidate_errors=0,
            baseline_errors=0,
            candidate_exposure=0,
            baseline_exposure=0,
        ),
        blast_radius=BlastRadius(tick, 0, 0, 0, 0, 0, 0.0),
        health=health,
        missing=Missing(None, None),
        policy=policy_hash(policy),
        grouping_config=GROUPING_CONFIG,
    )


def halt_signal(verdict: Verdict, sequence: int) -> Signal:
    """The signal that asks deployment tools to halt a failed candidate."""
    return Signal(
        id=signal_id(verdict.rollout, "halt", sequence),
        kind="halt",
        sequence=sequence,
        rollout=verdict.rollout,
        tick=verdict.tick,
        environment=verdict.environment,
        service=verdict.service,
        release=verdict.release,
        baseline=verdict.baseline,
        share=verdict.share,
        dry_run=verdict.dry_run,
        reason=verdict.reason,
        evidence=verdict.evidence,
        blast_radius=verdict.blast_radius,
        health=verdict.health,
        policy=verdict.policy,
        grouping_config=verdict.grouping_config,
    )


def _status(judge: Judge, health: Health, policy: Policy) -> Status:
    if judge.failed(policy):
        return Status.FAILED
    if judge.good(policy) and not health.problems:
        return Status.SUCCESSFUL
    return Status.INCONCLUSIVE


def _action(status: Status, policy: Policy) -> Action:
    if status is Status.FAILED:
        return "halt"
    if status is Status.SUCCESSFUL or policy.inconclusive == "go":
        return "proceed"
    return "hold"


def _evidence(
    judge: Judge, groups: ServiceGroups, dispersion: Dispersion, policy: Policy
) -> Evidence:
    errors = judge.errors()
    exposure = judge.requests if judge.unit(policy) else judge.records
    low, high = judge.interval(dispersion, policy)
    rule = ""
    if judge.failed(policy):
        rule = "crash-bypass" if judge.crash.crashed else "sequential-test"
    ratio = judge.ratio(policy)
    return Evidence(
        e_value=_round(judge.e_value),
        threshold=1 / policy.false_halt_probability,
        p_value=_round(min(1.0, 1 / judge.e_greatest) if judge.e_greatest > 0 else 1.0),
        ratio=None if ratio is None else _round(ratio),
        ratio_low=_round(low),
        ratio_high=None if high is None else _round(high),
        confidence=1 - policy.miss_probability,
        candidate_errors=errors[CANDIDATE],
        baseline_errors=errors[BASELINE],
        candidate_exposure=exposure[CANDIDATE],
        baseline_exposure=exposure[BASELINE],
        rule=rule,
        fingerprints=_fingerprints(judge, groups),
    )


def _fingerprints(judge: Judge, groups: ServiceGroups) -> list[FingerprintEvidence]:
    weighted = judge.cells.weights() * judge.e_cells
    ranked = sorted(
        (
            (-float(weighted[row]), -judge.totals[group].candidate, group)
            for group, row in judge.cells.index.items()
            if group in judge.totals and judge.totals[group].candidate
        ),
    )
    told = []
    for _, _, group in ranked[:MAX_FINGERPRINTS]:
        entry, totals = groups.entry(group), judge.totals[group]
        row = judge.cells.index[group]
        told.append(
            FingerprintEvidence(
                group=group,
                template=entry.template[:MAX_TEMPLATE] if entry else "",
                type=entry.type if entry else "",
                example=entry.example[:MAX_TEMPLATE] if entry else "",
                new=row >= judge.cells.known,
                candidate_errors=totals.candidate,
                baseline_errors=totals.baseline,
                e_value=_round(float(judge.e_cells[row])),
                since_tick=totals.since,
            )
        )
    return told


def _blast_radius(
    rollout: Rollout, judge: Judge, instances: int, policy: Policy, tick: int
) -> BlastRadius:
    return BlastRadius(
        since_tick=rollout.opened,
        seconds=tick - rollout.opened + 1,
        records=judge.records[CANDIDATE],
        requests=judge.requests[CANDIDATE],
        instances=instances,
        errors=judge.errors()[CANDIDATE],
        excess_errors=round(judge.excess_errors(policy), 1),
    )


def _reason(
    status: Status,
    rollout: Rollout,
    judge: Judge,
    evidence: Evidence,
    health: Health,
    missing: Missing | None,
    policy: Policy,
) -> str:
    if status is Status.FAILED:
        return _failed_reason(rollout, judge, evidence)
    if status is Status.SUCCESSFUL:
        shown = _interval(evidence)
        return f"{rollout.candidate} is no worse than {rollout.baseline}{shown}"
    if health.problems:
        return f"not decided: {'; '.join(health.problems)}"
    if judge.repeats_more(policy) and judge.good_greatest >= 1 / policy.miss_probability:
        return (
            f"not decided: {rollout.candidate} fails far more often than {rollout.baseline}, again "
            f"and again for few clients{_interval(evidence)}"
        )
    if not judge.windows:
        return (
            f"not decided: {rollout.candidate} has no instance older than "
            f"{policy.warm_up_seconds} s beside {rollout.baseline}"
        )
    shown = ""
    if missing and missing.visible_ratio:
        shown = f" to show a ratio below {missing.visible_ratio:.2g}"
    return (
        f"not decided: {rollout.candidate} has had too little traffic{shown}{_interval(evidence)}"
    )


def _failed_reason(rollout: Rollout, judge: Judge, evidence: Evidence) -> str:
    worst = evidence.fingerprints[0] if evidence.fingerprints else None
    parts = []
    if judge.crash.crashed:
        parts.append(f"at least half of what {rollout.candidate} served in the last 10 s failed")
    if worst is not None:
        name = worst.type or worst.template[:80]
        counts = f"{worst.candidate_errors} errors against {worst.baseline_errors}"
        if worst.new and not worst.baseline_errors:
            parts.append(f"{rollout.candidate} makes a new error, {name} ({counts})")
        else:
            parts.append(f"{rollout.candidate} makes more of {name} ({counts})")
    if evidence.ratio is not None:
        parts.append(
            f"all its errors together are {evidence.ratio:.3g} times as frequent as those of "
            f"{rollout.baseline}{_bounds(evidence)}"
        )
    return "; ".join(parts)


def _interval(evidence: Evidence) -> str:
    if evidence.ratio is None:
        return ""
    return f": {evidence.ratio:.3g} times as many{_bounds(evidence)}"


def _bounds(evidence: Evidence) -> str:
    high = "no bound" if evidence.ratio_high is None else f"{evidence.ratio_high:.3g}"
    return f" ({evidence.confidence:.0%} interval {evidence.ratio_low:.3g} to {high})"


def _round(value: float) -> float:
    """Six significant digits: enough to read, and no noise in what is compared byte by byte."""
    return float(f"{value:.6g}")
