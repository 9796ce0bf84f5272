"""The verdict on a release: what is said of it, and the wire format it is said in.

These structs are the value of the compacted topic `streamwatch.verdicts` (record key
`environment|service|release`), of the HTTP API and of `streamwatch replay --json`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

import msgspec
import orjson

from streamwatch.counts import WIRE_VERSION, service_key, without_bars


class Status(StrEnum):
    """Argo Rollouts' words for the outcome of an analysis."""

    SUCCESSFUL = "Successful"
    FAILED = "Failed"
    INCONCLUSIVE = "Inconclusive"
    ERROR = "Error"


#: What the candidate was compared with: a baseline that serves at the same time, or nothing.
Mode = Literal["concurrent", "first-deploy"]

#: What the policy draws from the verdict.
Action = Literal["proceed", "hold", "halt"]


class FingerprintEvidence(msgspec.Struct, frozen=True):
    """One fingerprint's part in the verdict.

    Attributes:
        group: fingerprint id.
        template: masked message or exception chain.
        type: exception type, or empty.
        example: one redacted message, or empty.
        new: never seen in the baseline before the rollout.
        candidate_errors: errors counted in the candidate since the rollout opened.
        baseline_errors: the same in the baseline.
        e_value: evidence of this fingerprint alone, before weighting.
        since_tick: first tick of the rollout in which the candidate made this error; 0 for never.
    """

    group: str
    template: str
    type: str
    example: str
    new: bool
    candidate_errors: int
    baseline_errors: int
    e_value: float
    since_tick: int


class Evidence(msgspec.Struct, frozen=True):
    """How sure the verdict is, and of what.

    Attributes:
        e_value: evidence against "the ratio is at most `tolerated_ratio`"; under that hypothesis
            its mean never exceeds 1, however often it is looked at.
        threshold: the verdict is Failed at this e-value, 1 / `false_halt_probability`.
        p_value: min(1, 1 / greatest e-value so far): valid at any time.
        ratio: estimated error-rate ratio, candidate over baseline; None without errors or exposure.
        ratio_low: lower end of its confidence sequence.
        ratio_high: upper end; None when unbounded.
        confidence: coverage of the interval at all times together.
        candidate_errors: errors counted in the candidate (every repeat, warm-up included).
        baseline_errors: the same in the baseline.
        candidate_exposure: the candidate's records or requests, as the policy says.
        baseline_exposure: the same of the baseline.
        rule: what decided: `sequential-test`, `crash-bypass` or empty.
        fingerprints: ranked, greatest evidence first, at most ten.
    """

    e_value: float
    threshold: float
    p_value: float
    ratio: float | None
    ratio_low: float
    ratio_high: float | None
    confidence: float
    candidate_errors: int
    baseline_errors: int
    candidate_exposure: int
    baseline_exposure: int
    rule: str = ""
    fingerprints: list[FingerprintEvidence] = []


class BlastRadius(msgspec.Struct, frozen=True):
    """What the candidate has cost since the rollout opened (for a halted one: until the halt).

    Attributes:
        since_tick: when the candidate was first seen.
        seconds: event time since then.
        records: log records of the candidate.
        requests: those that stand for a request; 0 where the input does not say.
        instances: instances of the candidate that were seen.
        errors: its error records.
        excess_errors: errors above what the baseline's rate would have made of the same exposure.
    """

    since_tick: int
    seconds: int
    records: int
    requests: int
    instances: int
    errors: int
    excess_errors: float


class Health(msgspec.Struct, frozen=True):
    """Whether what the verdict rests on is whole. Any problem forbids `Successful`.

    Attributes:
        watermark: tick up to which everything was counted.
        dropped: records left out since the rollout opened, by reason.
        problems: sentences, one per defect that keeps the verdict from passing; empty when whole.
    """

    watermark: int
    dropped: dict[str, int]
    problems: list[str]


class Missing(msgspec.Struct, frozen=True):
    """What an Inconclusive verdict still needs.

    Attributes:
        visible_ratio: smallest ratio that the traffic so far could have shown; None if none.
        seconds_to_decision: expected event time until a ratio of `unacceptable_ratio` would be
            shown at the present traffic; None when it would not be.
    """

    visible_ratio: float | None
    seconds_to_decision: int | None


class Verdict(msgspec.Struct, frozen=True):
    """What is known of a candidate release at the end of one tick.

    Attributes:
        environment: where.
        service: of which service.
        release: the candidate.
        baseline: the release it is compared with; empty in mode `first-deploy`.
        rollout: id of the rollout: the same for all its verdicts and signals.
        tick: event time, seconds since the epoch, up to which it speaks.
        status: the outcome so far.
        mode: what the candidate is compared with.
        action: what the policy draws from it.
        dry_run: nothing is asked of any deployment tool.
        open: the rollout still runs; a closed rollout's verdict does not change any more.
        share: the candidate's share of the exposure of the last window, 0 to 1.
        reason: one sentence. Quotes log text, which is hostile.
        evidence: how sure, and of what.
        blast_radius: what it has cost so far.
        health: whether the input was whole.
        missing: what a decision still needs; None once decided.
        policy: hash of the policy in force.
        grouping_config: version of the fingerprint rules.
        version: of this format.
    """

    environment: str
    service: str
    release: str
    baseline: str
    rollout: str
    tick: int
    status: Status
    mode: Mode
    action: Action
    dry_run: bool
    open: bool
    share: float
    reason: str
    evidence: Evidence
    blast_radius: BlastRadius
    health: Health
    missing: Missing | None
    policy: str
    grouping_config: str
    version: int = WIRE_VERSION

    @property
    def key(self) -> str:
        """The record key, `environment|service|release`, bars in the first two escaped."""
        return f"{service_key(self.environment, without_bars(self.service))}|{self.release}"


_decoder = msgspec.json.Decoder(Verdict)


def encode_verdict(verdict: Verdict) -> bytes:
    """The verdict as JSON, keys in declared order."""
    return orjson.dumps(msgspec.to_builtins(verdict))


def decode_verdict(value: bytes) -> Verdict:
    """Read a verdict.

    Raises:
        msgspec.DecodeError: not a verdict of this version's form.
    """
    return _decoder.decode(value)
