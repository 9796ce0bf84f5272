"""The HTTP layer: requests to questions for the board, answers to JSON.

Only GET (and HEAD), nothing changes anything. Errors are problem documents (RFC 9457). The one
exception is a release that is not known: gates read `status` of whatever they get, and there
RFC 9457 has a number, so the answer is a small verdict-like object that never reads as a pass.
"""

from __future__ import annotations

import base64
import binascii
import logging
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import orjson
from aiohttp import hdrs, web, web_response

from streamwatch import metrics
from streamwatch.api.board import Filter, Identity, Moment
from streamwatch.detect.verdict import Status

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from streamwatch.api.feed import View

log = logging.getLogger(__name__)

DEFAULT_LIMIT = 100
LARGEST_LIMIT = 1000
#: Longest path and query; three names of several hundred characters each, URL-encoded, fit.
LARGEST_TARGET = 4096
#: How the empty environment is written in a path.
NO_ENVIRONMENT = "-"

_HEADERS = {
    hdrs.SERVER: "streamwatch",
    hdrs.CACHE_CONTROL: "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}

# Bytes that are no HTTP are answered by aiohttp itself and never reach `_envelope`; it would name
# its version and Python's there. There is no setting for it, hence the ignored type error.
web_response.SERVER_SOFTWARE = "streamwatch"  # type: ignore[attr-defined]


class Source(Protocol):
    """Where the answers come from: `streamwatch.api.feed.Feed`."""

    @property
    def view(self) -> View:
        """What is known now."""
        ...

    @property
    def problem(self) -> str:
        """What the source is struggling with; empty when nothing."""
        ...

    def moment(self) -> Moment:
        """The present, with how far the view is to be trusted."""
        ...


def make_app(source: Source) -> web.Application:
    """The application that answers from one source."""
    app = web.Application(middlewares=[_envelope])
    api = _Api(source)
    app.router.add_get("/livez", api.livez)
    app.router.add_get("/readyz", api.readyz)
    app.router.add_get("/metrics", api.metrics)
    app.router.add_get("/v1/verdicts", api.verdicts)
    app.router.add_get("/v1/verdicts/{environment}/{service}/{release}", api.verdict)
    app.router.add_get("/v1/halts", api.halts)
    return app


class _Api:
    def __init__(self, source: Source) -> None:
        self._source = source

    async def livez(self, _request: web.Request) -> web.Response:
        return _json({"alive": True})

    async def readyz(self, _request: web.Request) -> web.Response:
        moment = self._source.moment()
        if moment.doubt is None:
            return _json({"ready": True, "reasons": []})
        reasons = [reason for reason in (moment.doubt, self._source.problem) if reason]
        return _json({"ready": False, "reasons": reasons}, HTTPStatus.SERVICE_UNAVAILABLE)

    async def metrics(self, _request: web.Request) -> web.Response:
        return web.Response(
            body=metrics.exposition("serve"),
            headers={hdrs.CONTENT_TYPE: metrics.CONTENT_TYPE},
        )

    async def verdicts(self, request: web.Request) -> web.Response:
        query = _query(request, "environment", "service", "status", "open", "limit", "cursor")
        only = Filter(
            _environment(query.get("environment")),
            query.get("service"),
            _one_of("status", query.get("status"), {status.value: status for status in Status}),
            _one_of("open", query.get("open"), {"true": True, "false": False}),
        )
        moment = self._source.moment()
        page = self._source.view.board.page(
            only, _cursor(query.get("cursor")), _limit(query.get("limit")), moment
        )
        return _json(
            {
                "verdicts": [reading.as_dict() for reading in page.readings],
                "next": None if page.next is None else _as_cursor(page.next),
                "in_step": moment.doubt is None,
            }
        )

    async def verdict(self, request: web.Request) -> web.Response:
        path = request.match_info
        identity = Identity(
            _environment(path["environment"]) or "", path["service"], path["release"]
        )
        moment = self._source.moment()
        reading = self._source.view.board.get(identity, moment)
        if reading is not None:
            return _json(reading.as_dict())
        reason, code = "unknown release", HTTPStatus.NOT_FOUND
        if moment.doubt is not None:
            reason = f"unknown release, but {moment.doubt}"
            code = HTTPStatus.SERVICE_UNAVAILABLE
        unknown = {"status": Status.INCONCLUSIVE, "action": "hold", "reason": reason}
        return _json({**identity._asdict(), **unknown}, code)

    async def halts(self, request: web.Request) -> web.Response:
        query = _query(request, "environment", "service", "limit")
        halts = self._source.view.halts.in_force(
            _environment(query.get("environment")),
            query.get("service"),
            _limit(query.get("limit")),
        )
        return _json({"halts": halts, "in_step": self._source.moment().doubt is None})


@web.middleware
async def _envelope(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Around every answer: bounds, errors as problems, headers, metrics."""
    begin = time.perf_counter()
    response: web.StreamResponse
    try:
        if len(request.raw_path) > LARGEST_TARGET:
            response = _problem(HTTPStatus.REQUEST_URI_TOO_LONG, "the path and query are too long")
        else:
            response = await handler(request)
    except web.HTTPException as error:
        detail = _DETAILS.get(error.status) or error.text or error.reason
        response = _problem(HTTPStatus(error.status), detail)
        if hdrs.ALLOW in error.headers:
            response.headers[hdrs.ALLOW] = error.headers[hdrs.ALLOW]
    except Exception:
        log.exception("cannot answer a request")
        response = _problem(HTTPStatus.INTERNAL_SERVER_ERROR, "see the log of serve")
    response.headers.update(_HEADERS)
    resource = request.match_info.route.resource
    route = resource.canonical if resource is not None else "unmatched"
    metrics.API_REQUESTS.labels(route, str(response.status)).inc()
    metrics.API_SECONDS.labels(route).observe(time.perf_counter() - begin)
    return response


_DETAILS = {
    HTTPStatus.NOT_FOUND.value: "no such resource; releases are under /v1/verdicts",
    HTTPStatus.METHOD_NOT_ALLOWED.value: "this API only answers GET",
}


def _json(value: Any, code: HTTPStatus = HTTPStatus.OK) -> web.Response:
    return web.Response(
        body=orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE),
        status=code,
        content_type="application/json",
    )


def _problem(code: HTTPStatus, detail: str) -> web.Response:
    problem = {"type": "about:blank", "title": code.phrase, "status": code.value, "detail": detail}
    response = _json(problem, code)
    response.content_type = "application/problem+json"
    return response


def _query(request: web.Request, *known: str) -> dict[str, str]:
    """The query's parameters. A misspelled filter must not list everything as if it matched."""
    for name in request.query:
        if name not in known:
            raise _bad(f"no such parameter; known are {', '.join(known)}")
        if len(request.query.getall(name)) > 1:
            raise _bad(f"{name} is given twice")
    return dict(request.query)


def _environment(name: str | None) -> str | None:
    return "" if name == NO_ENVIRONMENT else name


def _one_of(name: str, text: str | None, values: dict[str, Any]) -> Any:
    if text is not None and text not in values:
        raise _bad(f"{name} must be one of {', '.join(values)}")
    return None if text is None else values[text]


def _limit(text: str | None) -> int:
    if text is None:
        return DEFAULT_LIMIT
    if text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= LARGEST_LIMIT:
        return int(text)
    raise _bad(f"limit must be a number from 1 to {LARGEST_LIMIT}")


def _as_cursor(identity: Identity) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(list(identity))).decode().rstrip("=")


def _cursor(text: str | None) -> Identity | None:
    if text is None:
        return None
    try:
        value = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        return Identity(*msgspec.json.decode(value, type=tuple[str, str, str]))
    except (binascii.Error, ValueError, msgspec.DecodeError):
        raise _bad("cursor must be the `next` of an earlier answer") from None


def _bad(detail: str) -> web.HTTPBadRequest:
    return web.HTTPBadRequest(text=detail)
