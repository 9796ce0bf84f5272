"""What both services do around a request: who asks, and the access log."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from flask import g, has_request_context, request

if TYPE_CHECKING:
    from flask import Flask, Response


def customer_id() -> int:
    """The customer, as the gateway in front of the shop has established."""
    return int(request.headers["X-Customer-Id"])


def install(app: Flask) -> None:
    """Log every request of the application once, at INFO."""

    @app.before_request
    def _start() -> None:
        g.started = time.perf_counter()

    @app.after_request
    def _log(response: Response) -> Response:
        milliseconds = (time.perf_counter() - g.started) * 1000
        app.logger.info(
            "%s %s %d in %.1f ms",
            *(request.method, request.path, response.status_code, milliseconds),
            extra={
                "http.request.method": request.method,
                "http.route": request.url_rule.rule if request.url_rule else "",
                "http.response.status_code": response.status_code,
            },
        )
        return response


class CustomerFilter(logging.Filter):
    """Adds the customer to every record that is logged while serving one."""

    def __init__(self, field: str) -> None:
        super().__init__()
        self.field = field

    def filter(self, record: logging.LogRecord) -> bool:
        """Never drops a record."""
        if has_request_context():
            setattr(record, self.field, f"customer-{customer_id()}")
        return True
