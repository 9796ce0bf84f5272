"""Verdicts and signals as lines for a terminal. Log text is hostile, so it is escaped."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from streamwatch.logs import escape

if TYPE_CHECKING:
    from streamwatch.detect.verdict import Verdict
    from streamwatch.signals.envelope import Signal

#: Fingerprints told of a signal.
SHOWN_FINGERPRINTS = 3


def moment(tick: int) -> str:
    """A tick as UTC date and time."""
    return datetime.fromtimestamp(tick, tz=UTC).strftime("%Y-%m-%d %H:%M:%S")


def verdict_line(verdict: Verdict) -> str:
    """One line: when, what, and why."""
    where = f"{verdict.service} {verdict.release} in {verdict.environment or '-'}"
    return escape(f"{moment(verdict.tick)}  {verdict.status:<12}  {where}: {verdict.reason}")


def signal_lines(signal: Signal) -> list[str]:
    """The signal with its evidence and blast radius."""
    evidence, radius = signal.evidence, signal.blast_radius
    head = f"{moment(signal.tick)}  {signal.kind.upper():<12}  "
    lines = [
        f"{head}{signal.service} {signal.release} in {signal.environment or '-'}"
        f"{' (dry run)' if signal.dry_run else ''}: {signal.reason}",
        f"  evidence      e-value {evidence.e_value:.4g} against {evidence.threshold:.4g} "
        f"({evidence.rule}), {evidence.candidate_errors} errors in {evidence.candidate_exposure} "
        f"against {evidence.baseline_errors} in {evidence.baseline_exposure}",
        f"  blast radius  {radius.records} records, {radius.requests} requests, "
        f"{radius.instances} instances, {radius.errors} errors ({radius.excess_errors:g} in "
        f"excess) in {radius.seconds} s at a share of {signal.share:.0%}",
    ]
    for fingerprint in evidence.fingerprints[:SHOWN_FINGERPRINTS]:
        new = "new, " if fingerprint.new else ""
        lines.append(
            f"  fingerprint   {fingerprint.group} {fingerprint.type or fingerprint.template} "
            f"({new}{fingerprint.candidate_errors} against {fingerprint.baseline_errors})"
        )
    lines.append(f"  signal id     {signal.id}")
    return [escape(line) for line in lines]
