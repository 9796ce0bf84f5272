from __future__ import annotations

from typing import Any

import orjson
import pytest

from streamwatch.config import FieldMapping
from streamwatch.errors import InvalidMessage, Reason
from streamwatch.formats.json import JsonDecoder
from streamwatch.records import LogRecord

TICK = 1_767_323_045
FULL = {
    "timestamp": "2026-01-02T03:04:05.123456Z",
    "level": "ERROR",
    "service.name": "checkout",
    "deployment.environment.name": "prod",
    "service.version": "1.2.3",
    "host.name": "node-1",
    "message": "payment failed",
    "exception.type": "TimeoutError",
    "exception.message": "no answer in 3 s",
    "exception.stacktrace": "Traceback ...",
    "trace_id": "4bf92f",
    "http.request.method": "POST",
    "ignored": {"deep": [1, 2]},
}
RECORD = LogRecord(
    timestamp_ns=TICK * 10**9 + 123_456_000,
    service="checkout",
    environment="prod",
    release="1.2.3",
    instance="node-1",
    severity=17,
    message="payment failed",
    exception_type="TimeoutError",
    exception_message="no answer in 3 s",
    stacktrace="Traceback ...",
    client="4bf92f",
    request=True,
)


def decode_twice(fields: Any, mapping: FieldMapping | None = None) -> LogRecord:
    """Decode the reference way, then the fast way for the layout learnt from it."""
    decoder = JsonDecoder(mapping or FieldMapping())
    value = orjson.dumps(fields)
    first = decoder.decode(value)
    assert decoder.decode(value) == first
    (record,) = first
    return record


def reason_of(value: bytes, decoder: JsonDecoder | None = None) -> tuple[Reason, str]:
    with pytest.raises(InvalidMessage) as caught:
        (decoder or JsonDecoder(FieldMapping())).decode(value)
    return caught.value.reason, caught.value.detail


def test_every_field_by_its_literal_key() -> None:
    assert decode_twice(FULL) == RECORD


def test_every_field_nested() -> None:
    nested = {
        "@timestamp": "2026-01-02T03:04:05.123456Z",
        "log": {"level": "error"},
        "service": {"name": "checkout", "version": "1.2.3"},
        "deployment": {"environment": {"name": "prod"}},
        "host": {"name": "node-1"},
        "message": "payment failed",
        "error": {
            "type": "TimeoutError",
            "message": "no answer in 3 s",
            "stack_trace": "Traceback ...",
        },
        "trace": {"id": "4bf92f"},
        "http": {"request": {"method": "POST"}},
    }
    assert decode_twice(nested) == RECORD


def test_literal_key_goes_before_nested_and_the_first_path_before_the_next() -> None:
    fields = {"service": {"name": "nested"}, "service.name": "literal", "release": "second"}
    record = decode_twice(fields | {"service.version": "first"})
    assert (record.service, record.release) == ("literal", "first")


def test_null_and_empty_text_leave_the_field_to_the_next_path() -> None:
    fields = {"service.name": None, "service": "a", "service.version": "", "release": "2"}
    record = decode_twice(fields)
    assert (record.service, record.release) == ("a", "2")


def test_an_absent_field_is_empty_and_severity_defaults_to_info() -> None:
    assert decode_twice({}) == LogRecord()


def test_integers_are_texts_and_any_json_is_a_message() -> None:
    record = decode_twice({"user.id": 17, "release": 42, "message": {"a": [1, 2.5]}})
    assert (record.client, record.release, record.message) == ("17", "42", '{"a":[1,2.5]}')


def test_a_stack_trace_may_be_an_array_of_lines() -> None:
    assert decode_twice({"stack": ["Error: x", "  at f"]}).stacktrace == "Error: x\n  at f"


def test_numeric_level_and_timestamp() -> None:
    record = decode_twice({"level": 50, "time": TICK * 1000})
    assert (record.severity, record.timestamp_ns) == (17, TICK * 10**9)


def test_the_same_number_under_another_name_is_another_level() -> None:
    decoder = JsonDecoder(FieldMapping(severity=("levelno", "level")))
    values = [b'{"level":40}', b'{"levelno":40}', b'{"level":40}', b'{"levelno":40}']
    assert [decoder.decode(value)[0].severity for value in values] == [13, 17, 13, 17]


def test_one_key_may_serve_two_fields() -> None:
    mapping = FieldMapping(client=("user",), instance=("user",))
    record = decode_twice({"user": "u-1"}, mapping)
    assert (record.client, record.instance) == ("u-1", "u-1")


def test_a_cut_emoji_does_not_cost_the_record() -> None:
    decoder = JsonDecoder(FieldMapping())
    for _ in range(2):
        assert decoder.decode(rb'{"message":"\ud83d","service":"a"}')[0].service == "a"


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"service.name": ["a"]}, "service.name"),
        ({"service.name": None, "service": {"id": 1}}, "service"),
        ({"service.version": 1.5}, "service.version"),
        ({"timestamp": "noon"}, "timestamp"),
        ({"timestamp": True}, "timestamp"),
        ({"level": 99}, "level"),
        ({"level": {"a": 1}}, "level"),
        ({"exception.stacktrace": [1]}, "exception.stacktrace"),
        ({"user": {"id": {}}}, "user.id"),
    ],
)
def test_a_wrong_type_names_the_field_and_spoils_no_later_message(
    fields: dict[str, Any], named: str
) -> None:
    decoder = JsonDecoder(FieldMapping())
    for _ in range(2):
        reason, detail = reason_of(orjson.dumps(FULL | fields), decoder)
        assert reason is Reason.WRONG_TYPE
        assert detail.startswith(f"{named}: ")
        assert decoder.decode(orjson.dumps(FULL)) == [RECORD]


@pytest.mark.parametrize(
    "value", [b"", b"{", b"not json", b'{"message":"\xff"}', b'{"message":' + b"[" * 100_000]
)
def test_undecodable(value: bytes) -> None:
    assert reason_of(value)[0] is Reason.UNDECODABLE


@pytest.mark.parametrize("value", [b"[]", b"17", b'"text"', b'{"time":' + b"9" * 9_999 + b"}"])
def test_json_that_is_no_record(value: bytes) -> None:
    assert reason_of(value)[0] is Reason.WRONG_TYPE
