"""The halt and resume signals, as CloudEvents 1.0 in Kafka's binary mode.

The id is derived from what a signal says (rollout, kind, sequence number), so the same decision has
the same id on every run, after every crash and on every path; a subscriber drops repeats by it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import blake2b
from typing import Literal
from urllib.parse import quote

import msgspec
import orjson

from streamwatch.counts import WIRE_VERSION, service_key
from streamwatch.detect.verdict import BlastRadius, Evidence, Health

CONTENT_TYPE = "application/json"
SPEC_VERSION = "1.0"
TYPE_PREFIX = "io.streamwatch.rollout."


class Signal(msgspec.Struct, frozen=True):
    """A request to deployment tools: halt this rollout, or go on with it.

    Attributes:
        id: the same decision always has the same id.
        kind: what is asked.
        sequence: 1 for the first signal of a rollout, and so on.
        rollout: id of the rollout.
        tick: event time of the decision, seconds since the epoch.
        environment: where.
        service: of which service.
        release: the candidate, to be halted or resumed.
        baseline: the release to stay on.
        share: the candidate's share of exposure at the decision, 0 to 1.
        dry_run: only said, not asked: a subscriber must not act.
        reason: one sentence. Quotes log text, which is hostile.
        evidence: how sure, and of what.
        blast_radius: what the candidate had cost at the decision.
        health: whether the input was whole.
        policy: hash of the policy in force.
        grouping_config: version of the fingerprint rules.
        version: of this format.
    """

    id: str
    kind: Literal["halt", "resume"]
    sequence: int
    rollout: str
    tick: int
    environment: str
    service: str
    release: str
    baseline: str
    share: float
    dry_run: bool
    reason: str
    evidence: Evidence
    blast_radius: BlastRadius
    health: Health
    policy: str
    grouping_config: str
    version: int = WIRE_VERSION

    @property
    def key(self) -> str:
        """The record key, `environment|service`."""
        return service_key(self.environment, self.service)


def signal_id(rollout: str, kind: str, sequence: int) -> str:
    """32 hex digits that name one decision."""
    return blake2b(f"{rollout}\0{kind}\0{sequence}".encode(), digest_size=16).hexdigest()


def encode_signal(signal: Signal) -> bytes:
    """The signal as JSON, keys in declared order: the record's value."""
    return orjson.dumps(msgspec.to_builtins(signal))


def decode_signal(value: bytes) -> Signal:
    """Read a signal.

    Raises:
        msgspec.DecodeError: not a signal of this version's form.
    """
    return msgspec.json.decode(value, type=Signal)


def headers(signal: Signal) -> list[tuple[str, bytes]]:
    """The `ce_` headers of the CloudEvents Kafka binding, binary mode."""
    time = datetime.fromtimestamp(signal.tick, tz=UTC).isoformat().replace("+00:00", "Z")
    attributes = {
        "ce_specversion": SPEC_VERSION,
        "ce_id": signal.id,
        "ce_type": f"{TYPE_PREFIX}{signal.kind}.v{WIRE_VERSION}",
        "ce_source": f"/streamwatch/{quote(signal.environment, '')}/{quote(signal.service, '')}",
        "ce_subject": signal.release,
        "ce_time": time,
        "content-type": CONTENT_TYPE,
    }
    return [(name, value.encode()) for name, value in attributes.items()]
