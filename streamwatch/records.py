"""The one record that every input format is decoded into."""

from __future__ import annotations

import msgspec

#: OpenTelemetry SeverityNumber: 17 is ERROR, 21 FATAL; a missing severity means INFO (9).
SEVERITY_INFO = 9
SEVERITY_ERROR = 17


class LogRecord(msgspec.Struct, gc=False):
    """A log record or error event, reduced to what counting and fingerprinting read.

    An empty string means that the input did not say. `service`, `release` and `timestamp_ns` are
    required by the combiner (`streamwatch.counting`), which rejects a record without them.

    Attributes:
        timestamp_ns: event time, nanoseconds since the epoch; 0 when absent.
        service: `service.name`.
        environment: `deployment.environment.name`.
        release: `service.version`.
        instance: `service.instance.id`, pod or host: what contributed the record.
        severity: OpenTelemetry SeverityNumber, 1 to 24.
        message: the log body. Hostile text.
        exception_type: `exception.type`.
        exception_message: `exception.message`.
        stacktrace: `exception.stacktrace`, as text.
        client: user, session or trace id, whichever the input names; only its hash leaves ingest.
        request: whether the record stands for one request (policies may count only those).
    """

    timestamp_ns: int = 0
    service: str = ""
    environment: str = ""
    release: str = ""
    instance: str = ""
    severity: int = SEVERITY_INFO
    message: str = ""
    exception_type: str = ""
    exception_message: str = ""
    stacktrace: str = ""
    client: str = ""
    request: bool = False

    @property
    def is_error(self) -> bool:
        """Whether OpenTelemetry calls this record an error."""
        return self.severity >= SEVERITY_ERROR
