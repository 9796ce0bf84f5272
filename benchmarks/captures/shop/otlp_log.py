"""Logs through the OpenTelemetry SDK, one OTLP/JSON export request per line of a file."""

from __future__ import annotations

import base64
import json
import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf import json_format
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import (
    BatchLogRecordProcessor,
    LogRecordExporter,
    LogRecordExportResult,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from shop.web import CustomerFilter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from wsgiref.types import WSGIApplication

    from opentelemetry.sdk._logs import ReadableLogRecord

BATCH_MILLISECONDS = 1000


class FileExporter(LogRecordExporter):
    """Appends what the official encoder makes of a batch."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._lock = threading.Lock()

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        """Write one batch as one line."""
        request = json_format.MessageToDict(encode_logs(batch), use_integers_for_enums=True)
        for resource in request["resourceLogs"]:
            for scope in resource["scopeLogs"]:
                for record in scope["logRecords"]:
                    # OTLP/JSON departs from protobuf's JSON mapping: ids are hex, not base64.
                    for key in record.keys() & {"traceId", "spanId"}:
                        record[key] = base64.b64decode(record[key]).hex()
        line = json.dumps(request, separators=(",", ":"), ensure_ascii=False) + "\n"
        with self._lock, self._path.open("a", encoding="utf-8") as file:
            file.write(line)
        return LogRecordExportResult.SUCCESS

    def shutdown(self) -> None:
        """Nothing is held open."""


def install(path: str, resource: dict[str, str]) -> Callable[[], None]:
    """Send the root logger's records to `path`; what must be called at the end is returned."""
    trace.set_tracer_provider(TracerProvider())
    provider = LoggerProvider(resource=Resource.create(resource), shutdown_on_exit=False)
    provider.add_log_record_processor(
        BatchLogRecordProcessor(FileExporter(path), schedule_delay_millis=BATCH_MILLISECONDS)
    )
    handler = LoggingHandler(logger_provider=provider)
    handler.addFilter(CustomerFilter("enduser.id"))
    # Not basicConfig: it would give the handler a formatter, and so a prefix to every body.
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    root.addHandler(handler)
    return provider.shutdown


def traced(application: WSGIApplication) -> WSGIApplication:
    """Serve every request of a WSGI application inside a span of the caller's trace."""
    tracer = trace.get_tracer(__name__)
    propagator = TraceContextTextMapPropagator()

    def serve(environ, start_response):
        carrier = {"traceparent": environ.get("HTTP_TRACEPARENT", "")}
        with tracer.start_as_current_span("request", context=propagator.extract(carrier)):
            return application(environ, start_response)

    return serve
