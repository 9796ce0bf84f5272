"""What is true of a capture, counted from its messages with nothing of streamwatch's."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

LEVELS = {"DEBUG": 5, "INFO": 9, "WARNING": 13, "ERROR": 17, "CRITICAL": 21}
SEVERITY_ERROR = 17
_APP_FRAME = re.compile(r'File "[^"]*/app/(?P<module>[\w/]+)\.py", line \d+, in (?P<function>\w+)')


@dataclass(frozen=True)
class Entry:
    """One log record of a capture."""

    seconds: float
    release: str
    instance: str
    severity: int
    exception: str
    stacktrace: str
    route: str
    status: int

    @property
    def is_error(self) -> bool:
        """Whether it was logged at ERROR or above."""
        return self.severity >= SEVERITY_ERROR

    @property
    def is_request(self) -> bool:
        """Whether it is a line of the access log."""
        return self.status > 0

    @property
    def frame(self) -> str:
        """The innermost frame of the shop's own code."""
        frames = list(_APP_FRAME.finditer(self.stacktrace))
        return (
            f"{frames[-1]['module'].replace('/', '.')}.{frames[-1]['function']}" if frames else ""
        )


def entries(messages: Iterable[dict[str, Any]]) -> Iterator[Entry]:
    """The records of all messages, in their order."""
    for message in messages:
        value = json.loads(message["value"])
        yield from _otlp(value) if "resourceLogs" in value else [_entry(value, value["level"])]


def _otlp(request: dict[str, Any]) -> Iterator[Entry]:
    for resource in request["resourceLogs"]:
        common = _attributes(resource["resource"])
        for scope in resource["scopeLogs"]:
            for record in scope["logRecords"]:
                fields = common | _attributes(record)
                fields["seconds"] = int(record["timeUnixNano"]) / 1e9
                yield _entry(fields, record["severityNumber"])


def _attributes(holder: dict[str, Any]) -> dict[str, Any]:
    pairs = holder.get("attributes", [])
    return {pair["key"]: next(iter(pair["value"].values())) for pair in pairs}


def _entry(fields: dict[str, Any], severity: int | str) -> Entry:
    return Entry(
        seconds=fields.get("seconds") or datetime.fromisoformat(fields["timestamp"]).timestamp(),
        release=fields["service.version"],
        instance=fields["service.instance.id"],
        severity=severity if isinstance(severity, int) else LEVELS[severity],
        exception=fields.get("exception.type", ""),
        stacktrace=fields.get("exception.stacktrace", ""),
        route=fields.get("http.route", ""),
        status=int(fields.get("http.response.status_code", 0)),
    )


def per_release(found: list[Entry]) -> dict[str, Any]:
    """Totals of each release: records, requests, errors, and errors by exception and frame."""
    totals = {}
    for release in sorted({entry.release for entry in found}):
        own = [entry for entry in found if entry.release == release]
        errors = [entry for entry in own if entry.is_error]
        kinds = Counter(f"{e.exception} in {e.frame}" if e.exception else "text" for e in errors)
        totals[release] = {
            "records": len(own),
            "request_records": sum(entry.is_request for entry in own),
            "error_records": len(errors),
            "error_records_by_kind": dict(kinds.most_common()),
            "first_record": round(min(entry.seconds for entry in own), 3),
            "last_record": round(max(entry.seconds for entry in own), 3),
        }
    return totals


def per_instance(found: list[Entry]) -> dict[str, Any]:
    """Release, life and totals of each instance, in the order of their first records."""
    totals: dict[str, Any] = {}
    for entry in sorted(found, key=lambda entry: entry.seconds):
        at = round(entry.seconds, 3)
        own = totals.setdefault(
            entry.instance,
            {"release": entry.release, "first_record": at, "last_record": at, "records": 0}
            | {"error_records": 0},
        )
        own["last_record"] = at
        own["records"] += 1
        own["error_records"] += entry.is_error
    return totals


def share(found: list[Entry], release: str, first: float, last: float) -> float:
    """The part of the requests between two times that a release served."""
    requests = [entry for entry in found if entry.is_request and first <= entry.seconds < last]
    return round(sum(entry.release == release for entry in requests) / len(requests), 4)


def culprit(found: list[Entry], baseline: str, candidate: str) -> dict[str, Any]:
    """The one kind of error that only the candidate makes, and what came of it.

    Raises:
        RuntimeError: there is none, or more than one: the capture is not what it should be.
    """

    def kinds(release: str) -> set[tuple[str, str]]:
        return {
            (entry.exception, entry.frame)
            for entry in found
            if entry.release == release and entry.is_error
        }

    new = kinds(candidate) - kinds(baseline)
    if len(new) != 1:
        raise RuntimeError(f"one kind of error should be new in {candidate}, found {sorted(new)}")
    ((exception, frame),) = new
    bad = [entry for entry in found if (entry.exception, entry.frame) == (exception, frame)]
    failed = Counter(e.route for e in found if e.release == candidate and e.status == 500)
    requests = sum(entry.is_request for entry in found if entry.release == candidate)
    return {
        "exception": exception,
        "frame": frame,
        "endpoint": failed.most_common(1)[0][0],
        "first_bad_tick": int(min(entry.seconds for entry in bad)),
        "bad_records": len(bad),
        "share_of_candidate_requests": round(len(bad) / requests, 4),
    }
