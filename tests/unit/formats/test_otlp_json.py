from __future__ import annotations

from typing import Any

import orjson
import pytest

from streamwatch.errors import InvalidMessage, Reason
from streamwatch.formats.otlp_json import OtlpJsonDecoder
from streamwatch.records import LogRecord

NANOSECONDS = 1_544_712_660_300_000_000


def attribute(key: str, value: str) -> dict[str, Any]:
    return {"key": key, "value": {"stringValue": value}}


def message(*records: dict[str, Any], resource: list[dict[str, Any]] | None = None) -> bytes:
    scope = {"scope": {"name": "lib"}, "logRecords": list(records)}
    return orjson.dumps(
        {"resourceLogs": [{"resource": {"attributes": resource or []}, "scopeLogs": [scope]}]}
    )


def decode_one(*records: dict[str, Any], resource: list[dict[str, Any]] | None = None) -> LogRecord:
    (record,) = OtlpJsonDecoder().decode(message(*records, resource=resource))
    return record


def test_a_full_record() -> None:
    record = decode_one(
        {
            "timeUnixNano": str(NANOSECONDS),
            "observedTimeUnixNano": "1",
            "severityNumber": 17,
            "severityText": "INFO",
            "traceId": "5B8EFFF798038103D269B633813FC60C",
            "spanId": "EEE19B7EC3C1B174",
            "body": {"stringValue": "payment failed"},
            "attributes": [
                attribute("exception.type", "TimeoutError"),
                attribute("exception.message", "no answer"),
                attribute("exception.stacktrace", "Traceback ..."),
                attribute("http.request.method", "POST"),
                attribute("user.id", "u-1"),
            ],
        },
        resource=[
            attribute("service.name", "checkout"),
            attribute("service.version", "1.2.3"),
            attribute("deployment.environment.name", "prod"),
            attribute("service.instance.id", "pod-1"),
        ],
    )
    assert record == LogRecord(
        timestamp_ns=NANOSECONDS,
        service="checkout",
        environment="prod",
        release="1.2.3",
        instance="pod-1",
        severity=17,
        message="payment failed",
        exception_type="TimeoutError",
        exception_message="no answer",
        stacktrace="Traceback ...",
        client="u-1",
        request=True,
    )


def test_many_resources_scopes_and_records_keep_their_order() -> None:
    def scope(*bodies: str) -> dict[str, Any]:
        return {"logRecords": [{"body": {"stringValue": body}} for body in bodies]}

    def group(service: str, *scopes: dict[str, Any]) -> dict[str, Any]:
        resource = {"attributes": [attribute("service.name", service)]}
        return {"resource": resource, "scopeLogs": list(scopes)}

    value = orjson.dumps(
        {
            "resourceLogs": [
                group("a", scope("1", "2"), scope("3")),
                group("b"),
                group("c", scope("4")),
            ]
        }
    )
    records = OtlpJsonDecoder().decode(value)
    assert [(record.service, record.message) for record in records] == [
        ("a", "1"),
        ("a", "2"),
        ("a", "3"),
        ("c", "4"),
    ]


@pytest.mark.parametrize(
    ("fields", "severity"),
    [
        ({}, 9),
        ({"severityNumber": 0}, 9),
        ({"severityNumber": 0, "severityText": "Error"}, 17),
        ({"severityText": "WARN"}, 13),
        ({"severityNumber": "SEVERITY_NUMBER_ERROR2"}, 18),
        ({"severityNumber": "21"}, 21),
    ],
)
def test_severity(fields: dict[str, Any], severity: int) -> None:
    assert decode_one(fields).severity == severity


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"timeUnixNano": "0", "observedTimeUnixNano": "7"}, 7),
        ({"observedTimeUnixNano": 8}, 8),
        ({"timeUnixNano": None}, 0),
    ],
)
def test_observed_time_stands_in_for_time(fields: dict[str, Any], expected: int) -> None:
    assert decode_one(fields).timestamp_ns == expected


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"stringValue": "x"}, "x"),
        ({"intValue": "42"}, "42"),
        ({"intValue": 42}, "42"),
        ({"doubleValue": 1.5}, "1.5"),
        ({"boolValue": False}, "false"),
        ({"arrayValue": {"values": [{"stringValue": "a"}, {"boolValue": True}]}}, '["a",true]'),
        (
            {"kvlistValue": {"values": [attribute("k", "v"), {"key": "n"}]}},
            '{"k":"v","n":null}',
        ),
        ({"bytesValue": "AAEC"}, "AAEC"),
        ({}, ""),
    ],
)
def test_bodies(body: dict[str, Any], text: str) -> None:
    assert decode_one({"body": body}).message == text


def test_resource_attributes_have_their_order_of_preference() -> None:
    host, pod = attribute("host.name", "node"), attribute("k8s.pod.name", "pod")
    deprecated = attribute("deployment.environment", "old")
    assert decode_one({}, resource=[host]).instance == "node"
    assert decode_one({}, resource=[host, pod]).instance == "pod"
    instance = attribute("service.instance.id", "id")
    assert decode_one({}, resource=[host, pod, instance]).instance == "id"
    assert decode_one({}, resource=[deprecated]).environment == "old"
    present = attribute("deployment.environment.name", "new")
    assert decode_one({}, resource=[deprecated, present]).environment == "new"


def test_the_client_is_the_most_personal_id_known() -> None:
    trace = {"traceId": "t"}
    assert decode_one(trace).client == "t"
    session, enduser = attribute("session.id", "s"), attribute("enduser.id", "e")
    assert decode_one(trace | {"attributes": [session]}).client == "s"
    assert decode_one(trace | {"attributes": [session, enduser]}).client == "e"


def test_a_cut_emoji_does_not_cost_the_message() -> None:
    value = message({"body": {"stringValue": "CUT"}}).replace(b"CUT", rb"\ud83d")
    assert OtlpJsonDecoder().decode(value)[0].message == "?"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", Reason.UNDECODABLE),
        (b"\x0a\x10protobuf", Reason.UNDECODABLE),
        (b'{"other":' + b"[" * 100_000, Reason.UNDECODABLE),
        (b"{}", Reason.WRONG_TYPE),
        (b'{"message":"mapped JSON on the wrong topic"}', Reason.WRONG_TYPE),
        (b'{"resourceLogs":{}}', Reason.WRONG_TYPE),
        (message({"timeUnixNano": "soon"}), Reason.WRONG_TYPE),
        (message({"timeUnixNano": -1}), Reason.WRONG_TYPE),
        (message({"severityNumber": 25}), Reason.WRONG_TYPE),
        (message({"body": "x"}), Reason.WRONG_TYPE),
    ],
)
def test_what_is_no_otlp_is_refused(value: bytes, reason: Reason) -> None:
    with pytest.raises(InvalidMessage) as caught:
        OtlpJsonDecoder().decode(value)
    assert caught.value.reason is reason
