from __future__ import annotations

from datetime import datetime

import pytest

from streamwatch.errors import InvalidMessage, Reason
from streamwatch.formats.fields import (
    TimestampReader,
    severity_from_name,
    severity_from_number,
    without_lone_surrogates,
)

SECOND = 1_767_323_045  # 2026-01-02T03:04:05Z


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-02T03:04:05Z",
        "2026-01-02T03:04:05.123Z",
        "2026-01-02T03:04:05.123456+00:00",
        "2026-01-02T05:34:05.5+02:30",
        "2026-01-01T19:04:05-08:00",
        "2026-01-02 03:04:05.25+00:00",
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59.999999Z",
    ],
)
def test_rfc_3339_agrees_with_datetime(text: str) -> None:
    reader = TimestampReader()
    expected = datetime.fromisoformat(text)
    epoch = datetime.fromisoformat("1970-01-01T00:00:00Z")
    microseconds = (expected - epoch) // (datetime.resolution)
    # Twice: the second time the whole second comes from memory.
    assert [reader.read(text, "ts"), reader.read(text, "ts")] == [microseconds * 1000] * 2


@pytest.mark.parametrize(
    ("value", "nanoseconds"),
    [
        ("2026-01-02T03:04:05.123456789Z", SECOND * 10**9 + 123_456_789),
        ("2026-01-02T03:04:05.1234567891Z", SECOND * 10**9 + 123_456_789),
        ("2026-01-02 03:04:05,123", SECOND * 10**9 + 123_000_000),
        ("2026-01-02t03:04:05z", SECOND * 10**9),
        ("2026-01-02 03:04:05 +0100", (SECOND - 3600) * 10**9),
        ("2026-01-02T03:03:60Z", SECOND * 10**9 - 5 * 10**9),
        (SECOND, SECOND * 10**9),
        (SECOND + 0.25, SECOND * 10**9 + 250_000_000),
        (SECOND * 10**3 + 7, SECOND * 10**9 + 7_000_000),
        (SECOND * 10**6 + 7, SECOND * 10**9 + 7_000),
        (SECOND * 10**9 + 7, SECOND * 10**9 + 7),
        (str(SECOND), SECOND * 10**9),
        (f"{SECOND}.5", SECOND * 10**9 + 500_000_000),
        (str(SECOND * 10**9 + 7), SECOND * 10**9 + 7),
        (0, 0),
        (-1, -(10**9)),
    ],
)
def test_timestamps(value: object, nanoseconds: int) -> None:
    assert TimestampReader().read(value, "ts") == nanoseconds


@pytest.mark.parametrize(
    "value",
    [
        "yesterday",
        "2026-13-01T00:00:00Z",
        "2026-01-02T03:04",
        "2026-01-02T03:04:05.1_2Z",
        "2026-01-02T03:04:05.²Z",
        "2026-01-02T03:04:05.Z",
        "1e9",
        "nan",
        True,
        [1],
        {"seconds": 1},
    ],
)
def test_what_is_no_timestamp_is_named(value: object) -> None:
    reader = TimestampReader()
    reader.read("2026-01-02T03:04:05Z", "ts")  # the second is known: only the rest is wrong
    with pytest.raises(InvalidMessage, match=r"event\.created") as caught:
        reader.read(value, "event.created")
    assert caught.value.reason is Reason.WRONG_TYPE


def test_remembered_seconds_are_bounded() -> None:
    reader = TimestampReader()
    for minute in range(10_000):
        reader.read(
            f"2026-01-{minute // 1440 + 1:02}T{minute // 60 % 24:02}:{minute % 60:02}:00Z", ""
        )
    assert len(reader._seconds) < 5_000


@pytest.mark.parametrize(
    ("name", "severity"),
    [
        ("INFO", 9),
        ("warning", 13),
        ("Error", 17),
        ("ERR", 17),
        ("critical", 21),
        ("FATAL", 21),
        ("SEVERE", 17),
        ("DEBUG", 5),
        ("trace", 1),
        ("notice", 9),
        ("panic", 21),
        ("ERROR3", 19),
        ("SEVERITY_NUMBER_FATAL2", 22),
        (" error ", 17),
        ("AUDIT", 9),
        ("17", 17),
        ("50", 17),
    ],
)
def test_level_names(name: str, severity: int) -> None:
    assert severity_from_name(name, "level") == severity


@pytest.mark.parametrize(
    ("number", "field", "severity"),
    [
        # OpenTelemetry's, whatever the name, where no logger library uses the number.
        (9, "severity", 9),
        (17, "level", 17),
        (24, "severity_number", 24),
        (0, "severity_number", 9),
        # 10 and 20 are OpenTelemetry's under its own name, and bunyan's or pino's elsewhere.
        (10, "severity_number", 10),
        (20, "severityNumber", 20),
        (20, "level", 5),
        (40, "level", 13),
        (50, "level", 17),
        (60, "level", 21),
        # Python's, by the name that Python gives them.
        (10, "levelno", 5),
        (20, "levelno", 9),
        (25, "record.level.no", 9),
        (30, "levelno", 13),
        (40, "levelno", 17),
        (50, "levelno", 21),
    ],
)
def test_level_numbers(number: int, field: str, severity: int) -> None:
    assert severity_from_number(number, field) == severity


@pytest.mark.parametrize(("number", "field"), [(99, "level"), (30, "severity_number"), (1.5, "l")])
def test_nobodys_level_is_refused(number: float, field: str) -> None:
    with pytest.raises(InvalidMessage) as caught:
        severity_from_number(number, field)
    assert caught.value.reason is Reason.WRONG_TYPE


def test_half_an_emoji_is_replaced() -> None:
    assert without_lone_surrogates(rb'{"m": "cut \ud83d", "n": "\ud83d\ude00"}') == (
        '{"m": "cut ?", "n": "😀"}'.encode()
    )
    assert without_lone_surrogates(b"{}") is None
    assert without_lone_surrogates(rb"{\ud83d") is None
