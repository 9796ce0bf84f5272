"""OTLP logs in JSON, as the OpenTelemetry Collector's Kafka exporter writes them.

One message is an `ExportLogsServiceRequest` (or `LogsData`, which is the same on the wire):
resources, in them scopes, in them log records. Names are the lowerCamelCase of the OTLP
specification, 64-bit integers are text or numbers, null is the default, unknown fields are ignored.
"""

from __future__ import annotations

from typing import Any

import msgspec

from streamwatch.errors import InvalidMessage, Reason
from streamwatch.formats.fields import (
    as_text,
    parse,
    severity_from_name,
    wrong_type,
)
from streamwatch.records import SEVERITY_INFO, LogRecord


class _AnyValue(msgspec.Struct, rename="camel"):
    string_value: str | None = None
    bool_value: bool | None = None
    int_value: int | str | None = None
    double_value: float | str | None = None
    array_value: _ArrayValue | None = None
    kvlist_value: _KeyValueList | None = None
    bytes_value: str | None = None


class _KeyValue(msgspec.Struct):
    key: str = ""
    value: _AnyValue | None = None


class _ArrayValue(msgspec.Struct):
    values: list[_AnyValue] | None = None


class _KeyValueList(msgspec.Struct):
    values: list[_KeyValue] | None = None


class _LogRecord(msgspec.Struct, rename="camel"):
    time_unix_nano: int | str | None = None
    observed_time_unix_nano: int | str | None = None
    severity_number: int | str | None = None
    severity_text: str | None = None
    body: _AnyValue | None = None
    attributes: list[_KeyValue] | None = None
    trace_id: str | None = None


class _ScopeLogs(msgspec.Struct, rename="camel"):
    log_records: list[_LogRecord] | None = None


class _Resource(msgspec.Struct):
    attributes: list[_KeyValue] | None = None


class _ResourceLogs(msgspec.Struct, rename="camel"):
    resource: _Resource | None = None
    scope_logs: list[_ScopeLogs] | None = None


class _Request(msgspec.Struct, rename="camel"):
    # Required: a message without it is no OTLP, and must not pass for one with no records.
    resource_logs: list[_ResourceLogs]


#: Attributes in order of preference; the deprecated name of each follows the present one.
_ENVIRONMENT = ("deployment.environment.name", "deployment.environment")
_INSTANCE = ("service.instance.id", "k8s.pod.name", "host.name")
_CLIENT = ("enduser.id", "user.id", "session.id")
_REQUEST = ("http.request.method", "http.method")

_MAX_UINT64 = 2**64 - 1


class OtlpJsonDecoder:
    """Decodes one OTLP/JSON message to all of its log records."""

    def __init__(self) -> None:
        self._decode = msgspec.json.Decoder(_Request).decode

    def decode(self, value: bytes) -> list[LogRecord]:
        """Decode one message, records in their order.

        Raises:
            InvalidMessage: not JSON, not OTLP logs, or a field of a type that does not fit: then
                none of the message's records is returned.
        """
        request = parse(self._decode, value)
        records: list[LogRecord] = []
        try:
            for group in request.resource_logs:
                origin = _origin(_attributes(group.resource.attributes if group.resource else None))
                for scope in group.scope_logs or ():
                    records += [_record(origin, entry) for entry in scope.log_records or ()]
        except RecursionError as error:
            raise InvalidMessage(Reason.UNDECODABLE, str(error)) from None
        return records


def _origin(resource: dict[str, _AnyValue]) -> dict[str, str]:
    return {
        "service": _first(resource, ("service.name",)),
        "environment": _first(resource, _ENVIRONMENT),
        "release": _first(resource, ("service.version",)),
        "instance": _first(resource, _INSTANCE),
    }


def _record(origin: dict[str, str], entry: _LogRecord) -> LogRecord:
    own = _attributes(entry.attributes)
    return LogRecord(
        **origin,
        timestamp_ns=_nanoseconds("timeUnixNano", entry.time_unix_nano)
        or _nanoseconds("observedTimeUnixNano", entry.observed_time_unix_nano),
        severity=_severity(entry),
        message=_text(entry.body),
        exception_type=_first(own, ("exception.type",)),
        exception_message=_first(own, ("exception.message",)),
        stacktrace=_first(own, ("exception.stacktrace",)),
        client=_first(own, _CLIENT) or entry.trace_id or "",
        request=any(name in own for name in _REQUEST),
    )


def _attributes(pairs: list[_KeyValue] | None) -> dict[str, _AnyValue]:
    return {pair.key: pair.value for pair in pairs or () if pair.value is not None}


def _first(attributes: dict[str, _AnyValue], names: tuple[str, ...]) -> str:
    for name in names:
        text = _text(attributes.get(name))
        if text:
            return text
    return ""


def _text(value: _AnyValue | None) -> str:
    if value is None:
        return ""
    if value.string_value is not None:
        return value.string_value
    plain = _plain(value)
    return "" if plain is None else as_text(plain)


def _plain(value: _AnyValue) -> Any:
    if value.array_value is not None:
        return [_plain(item) for item in value.array_value.values or ()]
    if value.kvlist_value is not None:
        pairs = value.kvlist_value.values or ()
        return {pair.key: None if pair.value is None else _plain(pair.value) for pair in pairs}
    for plain in (
        value.string_value,
        value.bool_value,
        value.int_value,
        value.double_value,
        value.bytes_value,
    ):
        if plain is not None:
            return plain
    return None


def _nanoseconds(field: str, value: int | str | None) -> int:
    if value is None or value == "":
        return 0
    if isinstance(value, str):
        if not (value.isascii() and value.isdecimal() and len(value) <= 20):
            raise wrong_type(field, value, "a number of nanoseconds")
        value = int(value)
    if not 0 <= value <= _MAX_UINT64:
        raise wrong_type(field, value, "a number of nanoseconds")
    return value


def _severity(entry: _LogRecord) -> int:
    number = entry.severity_number
    if isinstance(number, str):
        if not number.isdecimal():  # the name of the enum's member, as ProtoJSON also allows
            return severity_from_name(number, "severityNumber")
        number = int(number[:9])
    if number and not 1 <= number <= 24:
        raise wrong_type("severityNumber", number, "1 to 24")
    if number:
        return number
    if entry.severity_text:
        return severity_from_name(entry.severity_text, "severityText")
    return SEVERITY_INFO
