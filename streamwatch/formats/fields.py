"""Timestamps, severities and text as loggers write them: what the JSON decoders share."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import orjson

from streamwatch.errors import InvalidMessage, Reason
from streamwatch.records import SEVERITY_INFO

if TYPE_CHECKING:
    from collections.abc import Callable

Parsed = TypeVar("Parsed")

NANOSECONDS = 1_000_000_000

#: Distinct seconds whose parsed text a decoder remembers.
_SECONDS_CACHE = 4_096

#: Below each bound a number counts this many a second. The bounds are year 5138 in every unit, so
#: that the units only meet in the first months of 1970.
_UNITS = ((1e11, 1), (1e14, 1_000), (1e17, 1_000_000))

_SECOND = re.compile(r"(\d{4})-(\d\d)-(\d\d)[Tt _](\d\d):(\d\d):(\d\d)\Z")
_REST = re.compile(r"(?:[.,](\d{1,18}))? ?(?:[Zz]|UTC|([+-])(\d\d):?(\d\d))?\Z")
_NUMBER = re.compile(r"-?\d{1,30}(?:\.\d{1,30})?\Z")

#: Length of `2026-01-02T03:04:05.123Z` and its like to the nanoseconds in its last digit.
_SCALES = {21 + digits: int("1".ljust(10 - digits, "0")) for digits in range(1, 10)}

_TRACE, _DEBUG, _WARN, _ERROR, _FATAL = 1, 5, 13, 17, 21

_LEVELS = {
    name: number
    for number, names in {
        _TRACE: "trace t verbose v finest all",
        _DEBUG: "debug d dbg fine finer config",
        SEVERITY_INFO: "info i information informational notice n default log success unspecified",
        _WARN: "warn w warning",
        _ERROR: "error e err severe failure",
        _FATAL: "fatal f critical crit c alert a emerg emergency panic dpanic fault",
    }.items()
    for name in names.split()
}
_OTEL_NAME = re.compile(r"(?:severity_number_)?(trace|debug|info|warn|error|fatal)([2-4]?)\Z")

#: Level numbers of bunyan and pino.
_NODE_LEVELS = {10: _TRACE, 20: _DEBUG, 30: SEVERITY_INFO, 40: _WARN, 50: _ERROR, 60: _FATAL}


class TimestampReader:
    """Reads timestamps to nanoseconds since the epoch; remembers the seconds it parsed last."""

    def __init__(self) -> None:
        self._seconds: dict[str, int] = {}
        self._last = "none yet"
        self._last_ns = 0

    def read(self, value: Any, field: str) -> int:
        """Read a timestamp.

        RFC 3339 text (a comma before the fraction, a blank for the `T`, and a missing offset, which
        then means UTC, are accepted), or a number of seconds, milliseconds, microseconds or
        nanoseconds told apart by magnitude, as a JSON number or as text.

        Args:
            value: what the record holds.
            field: its name, for the error.

        Raises:
            InvalidMessage: it is none of these.
        """
        if type(value) is str:
            return self.read_text(value, field)
        if type(value) is int or type(value) is float:
            return _number(value)
        raise wrong_type(field, value, "a timestamp")

    def read_text(self, text: str, field: str) -> int:
        """Read a timestamp that is known to be text; otherwise like `read`."""
        # Records come mostly in order of time, so mostly in the second of the one before.
        if text.startswith(self._last) and text[-1] == "Z":
            digits, scale = text[20:-1], _SCALES.get(len(text))
            if scale is not None and digits.isdecimal():
                return self._last_ns + int(digits) * scale
        if _NUMBER.match(text):
            return _number(float(text) if "." in text else int(text))
        seconds = self._seconds.get(text[:19])
        match = _REST.match(text[19:])
        if seconds is None:
            seconds = self._whole(text[:19])
        if match is None or seconds is None:
            raise wrong_type(field, text, "a timestamp")
        self._last, self._last_ns = f"{text[:19]}.", seconds * NANOSECONDS
        fraction, sign, hours, minutes = match.groups()
        if sign:
            offset = int(hours) * 3600 + int(minutes) * 60
            seconds -= offset if sign == "+" else -offset
        return seconds * NANOSECONDS + (int(fraction[:9].ljust(9, "0")) if fraction else 0)

    def _whole(self, text: str) -> int | None:
        match = _SECOND.match(text)
        if match is None:
            return None
        year, month, day, hour, minute, second = map(int, match.groups())
        # RFC 3339 allows a leap second, datetime does not: it is the first of the next minute.
        leap = second == 60
        try:
            moment = datetime(year, month, day, hour, minute, second - leap, tzinfo=UTC)
        except ValueError:
            return None
        seconds = int(moment.timestamp()) + leap
        if len(self._seconds) >= _SECONDS_CACHE:
            self._seconds.clear()
        self._seconds[text] = seconds
        return seconds


def _number(value: float) -> int:
    magnitude = abs(value)
    for bound, per_second in _UNITS:
        if magnitude < bound:
            if type(value) is int:
                return value * (NANOSECONDS // per_second)
            # A double holds present-day seconds to about a quarter of a microsecond: what lies
            # below is noise of the representation, not time.
            return round(value * (1_000_000 / per_second)) * 1_000
    return int(value)


def severity_from_number(number: float, field: str) -> int:
    """Read a level number as an OpenTelemetry SeverityNumber.

    The name of the field tells whose number it is: one that ends in `levelno` (or `level.no`) is
    Python's, one that ends in `severity_number` is OpenTelemetry's. Under any other name a multiple
    of ten from 10 to 60 is a level of bunyan or pino, the loggers that write a number as `level`;
    the rest is OpenTelemetry's 1 to 24, and 0 is its "unspecified".

    Args:
        number: the level.
        field: path of the field it was found in.

    Raises:
        InvalidMessage: nobody's level.
    """
    name = re.sub(r"[^a-z]", "", field.lower())
    if name.endswith("levelno"):
        steps = ((10, _TRACE), (20, _DEBUG), (30, SEVERITY_INFO), (40, _WARN), (50, _ERROR))
        return next((severity for bound, severity in steps if number < bound), _FATAL)
    if number in _NODE_LEVELS and not name.endswith("severitynumber"):
        return _NODE_LEVELS[int(number)]
    if number == 0:
        return SEVERITY_INFO
    if 1 <= number <= 24 and number == int(number):
        return int(number)
    raise wrong_type(field, number, "a severity")


def severity_from_name(text: str, field: str) -> int:
    """Read a level name (any case) or a level number written as text.

    A name that is in no table reads as INFO: loggers have levels of their own (`AUDIT`), and their
    records are exposure all the same.

    Args:
        text: the level.
        field: path of the field it was found in.

    Raises:
        InvalidMessage: a number that is nobody's level.
    """
    name = text.strip().lower()
    known = _LEVELS.get(name)
    if known is not None:
        return known
    match = _OTEL_NAME.match(name)
    if match:
        return _LEVELS[match[1]] + int(match[2] or 1) - 1
    if _NUMBER.match(name):
        return severity_from_number(float(name), field)
    return SEVERITY_INFO


def as_text(value: Any) -> str:
    """Any JSON value as one text: itself when it is text, compact JSON otherwise."""
    if type(value) is str:
        return value
    try:
        return orjson.dumps(value).decode()
    except (TypeError, ValueError):  # an integer beyond 64 bits, or nesting beyond orjson's limit
        return repr(value)


def wrong_type(field: str, value: Any, wanted: str) -> InvalidMessage:
    """The error for a field whose value is of no use."""
    return InvalidMessage(Reason.WRONG_TYPE, f"{field}: {_excerpt(value)} is not {wanted}")


def _excerpt(value: Any) -> str:
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "an array"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def parse(decode: Callable[[bytes], Parsed], value: bytes) -> Parsed:
    """Decode JSON, half surrogate pairs in it mended.

    Args:
        decode: a msgspec decoder's method.
        value: the message.

    Raises:
        InvalidMessage: not JSON, or not of the type that `decode` wants.
    """
    try:
        try:
            return decode(value)
        except msgspec.ValidationError as error:
            raise InvalidMessage(Reason.WRONG_TYPE, str(error)) from None
        except msgspec.DecodeError:
            repaired = without_lone_surrogates(value)
            if repaired is None:
                raise
            return decode(repaired)
    except (ValueError, RecursionError) as error:
        raise InvalidMessage(Reason.UNDECODABLE, str(error)) from None


def without_lone_surrogates(value: bytes) -> bytes | None:
    r"""JSON bytes with each lone half of a surrogate pair replaced by `?`; None if there is none.

    A line that was cut inside an emoji leaves `\ud83d` behind. It is no valid text, and the fast
    parsers refuse the whole message for it, but the record is good.
    """
    if b"\\ud" not in value and b"\\uD" not in value:
        return None
    try:
        return json.dumps(json.loads(value), ensure_ascii=False).encode("utf-8", "replace")
    except (ValueError, RecursionError):
        return None
