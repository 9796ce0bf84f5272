"""Whatever the bytes: records or InvalidMessage; and what was seen before changes no record."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamwatch.config import FieldMapping
from streamwatch.errors import InvalidMessage, Reason
from streamwatch.formats.json import JsonDecoder
from streamwatch.formats.otlp_json import OtlpJsonDecoder
from streamwatch.records import LogRecord

if TYPE_CHECKING:
    from streamwatch.formats import Decoder

_MAPPING = FieldMapping()
_PATHS = [path for target in _MAPPING.__struct_fields__ for path in getattr(_MAPPING, target)]
_KEYS = sorted({" service", " timestamp", "other", *_PATHS, *".".join(_PATHS).split(".")})

_scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**65)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["", "ERROR", "info", "2026-01-02T03:04:05.123Z", "1767323045", "17"])
    | st.sampled_from([10, 17, 20, 40, 1_767_323_045, 1_767_323_045_123])
)
_values = st.recursive(
    _scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_KEYS), inner, max_size=3)
    ),
    max_leaves=6,
)
_objects = st.dictionaries(st.sampled_from(_KEYS), _values, max_size=8)

_attribute_values: st.SearchStrategy[Any] = st.recursive(
    st.fixed_dictionaries({"stringValue": st.text(max_size=8)})
    | st.fixed_dictionaries({"intValue": _scalars})
    | st.fixed_dictionaries({"doubleValue": _scalars}),
    lambda inner: st.fixed_dictionaries(
        {"arrayValue": st.fixed_dictionaries({"values": st.lists(inner, max_size=3)})}
    ),
    max_leaves=4,
)
_attributes = st.lists(
    st.fixed_dictionaries({"key": st.sampled_from(_KEYS), "value": _attribute_values}), max_size=4
)
_log_records = st.fixed_dictionaries(
    {},
    optional={
        "timeUnixNano": _scalars,
        "severityNumber": _scalars,
        "severityText": _scalars,
        "body": _attribute_values,
        "attributes": _attributes,
        "traceId": _scalars,
    },
)
_requests = st.fixed_dictionaries(
    {
        "resourceLogs": st.lists(
            st.fixed_dictionaries(
                {
                    "resource": st.fixed_dictionaries({"attributes": _attributes}),
                    "scopeLogs": st.lists(
                        st.fixed_dictionaries({"logRecords": st.lists(_log_records, max_size=3)}),
                        max_size=2,
                    ),
                }
            ),
            max_size=2,
        )
    }
)


def outcome(decoder: Decoder, value: bytes) -> list[LogRecord] | tuple[Reason, str]:
    try:
        records = decoder.decode(value)
    except InvalidMessage as error:
        return error.reason, error.detail
    for record in records:
        assert type(record.timestamp_ns) is int
        assert 1 <= record.severity <= 24
        assert type(record.request) is bool
        for name in LogRecord.__struct_fields__:
            if name not in ("timestamp_ns", "severity", "request"):
                getattr(record, name).encode()  # text, and such as can be written again
    return records


def dump(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:  # an integer beyond 64 bits
        return json.dumps(value).encode()


# The strategies are built at their first draw, which is slow on a busy machine.
_patient = settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)


@given(st.binary(max_size=200))
def test_any_bytes(value: bytes) -> None:
    for decoder in (JsonDecoder(_MAPPING), OtlpJsonDecoder()):
        outcome(decoder, value)


@_patient
@given(_objects.map(dump), st.integers(0, 400), st.binary(max_size=3))
def test_damaged_json(value: bytes, at: int, junk: bytes) -> None:
    at %= len(value)
    outcome(JsonDecoder(_MAPPING), value[:at] + junk + value[at + 1 :])


@_patient
@given(_requests.map(dump), st.integers(0, 400), st.binary(max_size=3))
def test_otlp_whole_and_damaged(value: bytes, at: int, junk: bytes) -> None:
    at %= len(value)
    outcome(OtlpJsonDecoder(), value)
    outcome(OtlpJsonDecoder(), value[:at] + junk + value[at + 1 :])


@settings(_patient, max_examples=300)
@given(st.lists(_objects.map(dump), min_size=1, max_size=6))
def test_a_json_record_does_not_depend_on_what_came_before(values: list[bytes]) -> None:
    seasoned = JsonDecoder(_MAPPING)
    for value in values + values[::-1]:
        assert outcome(seasoned, value) == outcome(JsonDecoder(_MAPPING), value)
