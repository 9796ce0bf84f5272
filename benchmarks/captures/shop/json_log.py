"""Logs through python-json-logger, one JSON object per line of a file."""

from __future__ import annotations

import contextvars
import logging
from typing import TYPE_CHECKING, Any

from pythonjsonlogger.json import JsonFormatter

from shop.web import CustomerFilter

if TYPE_CHECKING:
    from collections.abc import Callable
    from wsgiref.types import WSGIApplication

_trace_id: contextvars.ContextVar[str] = contextvars.ContextVar("trace_id", default="")


class Formatter(JsonFormatter):
    """Adds the trace and the type and text of an exception to the standard fields."""

    def add_fields(
        self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]
    ) -> None:
        """Fill the object that is written."""
        super().add_fields(log_data, record, message_dict)
        if _trace_id.get():
            log_data["trace_id"] = _trace_id.get()
        if record.exc_info:
            kind, error, _ = record.exc_info
            log_data["exception.type"] = f"{kind.__module__}.{kind.__qualname__}"
            log_data["exception.message"] = str(error)


def install(path: str, resource: dict[str, str]) -> Callable[[], None]:
    """Send the root logger's records to `path`; what must be called at the end is returned."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(
        Formatter(
            "{levelname}{name}{message}",
            style="{",
            timestamp=True,
            rename_fields={
                "levelname": "level",
                "name": "logger",
                "exc_info": "exception.stacktrace",
            },
            rename_fields_keep_missing=False,
            static_fields=resource,
        )
    )
    handler.addFilter(CustomerFilter("user.id"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    return handler.close


def traced(application: WSGIApplication) -> WSGIApplication:
    """Remember the caller's trace id (W3C `traceparent`) while a request is served."""

    def serve(environ, start_response):
        parts = environ.get("HTTP_TRACEPARENT", "").split("-")
        _trace_id.set(parts[1] if len(parts) == 4 else "")
        return application(environ, start_response)

    return serve
