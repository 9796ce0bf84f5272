"""Mapped JSON: one object a message, its fields found by the paths of a `FieldMapping`.

There are two ways through. The reference way reads any value a path may lead to. The fast way is a
msgspec type made for the layout seen so far: of all the keys that the mapping names, those that
were seen with one plain type are declared with it, and those that were never seen are declared to
be absent. A message that does not fit goes the reference way, which then widens the layout. A
layout only ever widens, so that happens a few times per topic, and a record does not depend on
which way it came or on what was seen before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from streamwatch.errors import InvalidMessage, Reason
from streamwatch.formats.fields import (
    TimestampReader,
    as_text,
    severity_from_name,
    severity_from_number,
    without_lone_surrogates,
    wrong_type,
)
from streamwatch.records import SEVERITY_INFO, LogRecord

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamwatch.config import FieldMapping

_NUMERIC = ("timestamp", "severity")
_FREE_TEXT = ("message", "exception_message")

#: What is known of a top-level key, from narrow to wide, and its declared type.
_ABSENT, _TEXT, _PLAIN, _ANY = range(4)
_TYPES: tuple[Any, ...] = (None, str | None, str | int | float | None, Any)

#: Level texts and numbers whose severity a decoder remembers.
_SEVERITY_CACHE = 1_000


class _Step(msgspec.Struct, frozen=True):
    """One way to a value: a top-level key of the message and the keys nested in it."""

    path: str
    root: str
    rest: tuple[str, ...] = ()


class JsonDecoder:
    """Decodes one JSON object to one record.

    Not to be shared between threads. Null and empty text count as absent. Texts may be written as
    integers (`"user.id": 17`), a message as any JSON, a stack trace also as an array of lines.

    Args:
        mapping: where the fields are.

    Raises:
        ValueError: a path of the mapping has a quote, a backslash or a control character.
    """

    def __init__(self, mapping: FieldMapping) -> None:
        self._steps = {target: _steps(getattr(mapping, target)) for target in _targets(mapping)}
        roots = dict.fromkeys(step.root for steps in self._steps.values() for step in steps)
        self._attributes = {root: f"key{index}" for index, root in enumerate(roots)}
        wide = msgspec.defstruct(
            "Wide",
            [(attribute, Any, None) for attribute in self._attributes.values()],
            rename={attribute: root for root, attribute in self._attributes.items()},
        )
        self._decode_any = msgspec.json.Decoder(wide).decode
        self._seen = dict.fromkeys(roots, _ABSENT)
        self._layout = _Layout(self._steps, self._seen)
        self._timestamps = TimestampReader()
        self._severities: dict[str | float, int] = {}

    def decode(self, value: bytes) -> list[LogRecord]:
        """Decode one message to a list of one record.

        Raises:
            InvalidMessage: not a JSON object, or a field of a type that does not fit.
        """
        layout = self._layout
        try:
            raw: Any = layout.decode(value)
            for target, steps in layout.computed:
                setattr(raw, target, self._value(target, raw, layout.attributes, steps))
            timestamp = raw.timestamp
            if timestamp and layout.timestamp_field:
                timestamp = self._timestamps.read(timestamp, layout.timestamp_field)
            severity = raw.severity
            if severity and layout.severity_field:
                severity = self._severities.get(severity) or self._severity(
                    severity, layout.severity_field
                )
        except (ValueError, RecursionError, InvalidMessage):
            return [self._reference(value)]
        return [
            LogRecord(
                timestamp or 0,
                raw.service or "",
                raw.environment or "",
                raw.release or "",
                raw.instance or "",
                severity or SEVERITY_INFO,
                raw.message or "",
                raw.exception_type or "",
                raw.exception_message or "",
                raw.stacktrace or "",
                raw.client or "",
                bool(raw.request),
            )
        ]

    def _reference(self, value: bytes) -> LogRecord:
        raw = self._parse(value)
        self._widen(raw)
        found = {
            target: self._value(target, raw, self._attributes, steps)
            for target, steps in self._steps.items()
        }
        timestamp, severity = found.pop("timestamp"), found.pop("severity")
        request = bool(found.pop("request"))
        return LogRecord(timestamp_ns=timestamp, severity=severity, request=request, **found)

    def _parse(self, value: bytes) -> Any:
        try:
            try:
                return self._decode_any(value)
            except msgspec.ValidationError as error:
                raise InvalidMessage(Reason.WRONG_TYPE, str(error)) from None
            except msgspec.DecodeError:
                repaired = without_lone_surrogates(value)
                if repaired is None:
                    raise
                return self._decode_any(repaired)
        except (ValueError, RecursionError) as error:
            raise InvalidMessage(Reason.UNDECODABLE, str(error)) from None

    def _widen(self, raw: Any) -> None:
        widened = False
        for root, attribute in self._attributes.items():
            value = getattr(raw, attribute)
            if value is None:
                continue
            kind = type(value)
            known = _TEXT if kind is str else _PLAIN if kind is int or kind is float else _ANY
            if known > self._seen[root]:
                self._seen[root] = known
                widened = True
        if widened:
            self._layout = _Layout(self._steps, self._seen)

    def _value(
        self, target: str, raw: Any, attributes: Mapping[str, str], steps: tuple[_Step, ...]
    ) -> Any:
        path, value = _find(raw, attributes, steps)
        if target == "timestamp":
            return 0 if value is None else self._timestamps.read(value, path)
        if target == "severity":
            return SEVERITY_INFO if value is None else self._severity(value, path)
        if target == "request":
            return value is not None
        if value is None:
            return ""
        return value if type(value) is str else _text(target, path, value)

    def _severity(self, value: Any, path: str) -> int:
        if type(value) is str:
            severity = severity_from_name(value, path)
        elif type(value) is int or type(value) is float:
            severity = severity_from_number(value, path)
        else:
            raise wrong_type(path, value, "a severity")
        # Only one key may fill the cache: the same number under another name is another level.
        if path == self._layout.severity_field and len(self._severities) < _SEVERITY_CACHE:
            self._severities[value] = severity
        return severity


class _Layout:
    """The msgspec type for what was seen of each key, with one attribute per target.

    Attributes:
        decode: bytes to an instance of the type.
        attributes: the attribute that holds each top-level key.
        computed: targets that no single plain key gives, with the steps that may lead to them.
        timestamp_field: path of the key that gives the timestamp; empty when it is computed.
        severity_field: the same of the severity.
    """

    def __init__(self, all_steps: Mapping[str, tuple[_Step, ...]], seen: Mapping[str, int]) -> None:
        self.computed: list[tuple[str, tuple[_Step, ...]]] = []
        self.attributes: dict[str, str] = {}
        for target, steps in all_steps.items():
            live = tuple(step for step in steps if _may_hit(step, seen[step.root]))
            if live and not self._claim(target, live, seen):
                self.computed.append((target, live))
        self.timestamp_field = self._field_of("timestamp")
        self.severity_field = self._field_of("severity")
        keys = {attribute: root for root, attribute in self.attributes.items()}
        types = {attribute: _TYPES[seen[root]] for attribute, root in keys.items()}
        for target in all_steps:
            if target not in keys:
                keys[target], types[target] = _unused(target, seen), None
        for index, root in enumerate(seen):
            if root not in self.attributes:
                attribute = self.attributes[root] = f"key{index}"
                keys[attribute], types[attribute] = root, _TYPES[seen[root]]
        struct = msgspec.defstruct(
            "Layout", [(name, types[name], None) for name in keys], rename=keys
        )
        self.decode = msgspec.json.Decoder(struct).decode

    def _claim(self, target: str, live: tuple[_Step, ...], seen: Mapping[str, int]) -> bool:
        root = live[0].root
        widest = _PLAIN if target in _NUMERIC else _TEXT
        if len(live) > 1 or live[0].rest or root in self.attributes or seen[root] > widest:
            return False
        self.attributes[root] = target
        return True

    def _field_of(self, target: str) -> str:
        return next((root for root, name in self.attributes.items() if name == target), "")


def _targets(mapping: FieldMapping) -> tuple[str, ...]:
    return mapping.__struct_fields__


def _steps(paths: tuple[str, ...]) -> tuple[_Step, ...]:
    steps = []
    for path in paths:
        steps.append(_Step(path, path))
        root, *rest = path.split(".")
        if rest:
            steps.append(_Step(path, root, tuple(rest)))
    return tuple(steps)


def _may_hit(step: _Step, known: int) -> bool:
    return known == _ANY or (known != _ABSENT and not step.rest)


def _unused(name: str, keys: Mapping[str, int]) -> str:
    """A key that the mapping does not name; a message that has it all the same does not fit."""
    key = f" {name}"
    while key in keys:
        key = f" {key}"
    return key


def _find(raw: Any, attributes: Mapping[str, str], steps: tuple[_Step, ...]) -> tuple[str, Any]:
    for step in steps:
        value = getattr(raw, attributes[step.root])
        for key in step.rest:
            value = value.get(key) if type(value) is dict else None
        if value is not None and value != "":
            return step.path, value
    return "", None


def _text(target: str, path: str, value: Any) -> str:
    if target in _FREE_TEXT:
        return as_text(value)
    if type(value) is int:
        return as_text(value)
    if target == "stacktrace" and type(value) is list and all(type(line) is str for line in value):
        return "\n".join(value)
    raise wrong_type(path, value, "text")
