"""Mapped JSON: one object a message, its fields found by the paths of a `FieldMapping`.

There are two ways through. The reference way reads any value a path may lead to. The fast way is a
msgspec type made for the layout seen so far: of all the keys that the mapping names, those that
were always seen with one plain type are required, those that were never seen are declared to be
absent, and those that would come after a required one are left out. A message that does not fit
goes the reference way, which then widens the layout. A layout only ever widens, so that happens a
few times per topic, and a record does not depend on which way it came or on what came before it.

msgspec looks each key up from where it found the last one, so the type has its fields in the order
of the messages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from streamwatch.errors import InvalidMessage
from streamwatch.formats.fields import (
    TimestampReader,
    as_text,
    parse,
    severity_from_name,
    severity_from_number,
    wrong_type,
)
from streamwatch.records import SEVERITY_INFO, LogRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from streamwatch.config import FieldMapping

_NUMERIC = ("timestamp", "severity")
_FREE_TEXT = ("message", "exception_message")

#: What is known of a top-level key, from narrow to wide, and its declared type.
_ABSENT, _TEXT, _PLAIN, _ANY = range(4)
_TYPES: tuple[Any, ...] = (None, str | None, str | int | float | None, Any)
_Filled = Annotated[str, msgspec.Meta(min_length=1)]
_REQUIRED: dict[int, Any] = {_TEXT: _Filled, _PLAIN: _Filled | int | float}

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
        self._seen = _Seen(roots)
        self._layout = _Layout(self._steps, self._seen)
        self._timestamps = TimestampReader()
        self._read_text = self._timestamps.read_text
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
                if type(timestamp) is str:
                    timestamp = self._read_text(timestamp, layout.timestamp_field)
                else:
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
        raw = parse(self._decode_any, value)
        values = {root: getattr(raw, name) for root, name in self._attributes.items()}
        if self._seen.widen(values, value):
            self._layout = _Layout(self._steps, self._seen)
        found = {
            target: self._value(target, raw, self._attributes, steps)
            for target, steps in self._steps.items()
        }
        timestamp, severity = found.pop("timestamp"), found.pop("severity")
        request = bool(found.pop("request"))
        return LogRecord(timestamp_ns=timestamp, severity=severity, request=request, **found)

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


class _Seen:
    """What is known of each top-level key that the mapping names.

    Attributes:
        kinds: the widest kind of value seen.
        optional: keys that some message did not have, or had empty.
        order: keys in the order of the messages, as far as they were seen.
    """

    def __init__(self, roots: Iterable[str]) -> None:
        self.kinds = dict.fromkeys(roots, _ABSENT)
        self.optional: set[str] = set()
        self.order: dict[str, None] = {}

    def widen(self, values: Mapping[str, Any], message: bytes) -> bool:
        """Take in the values of a message; True when that changes the layout."""
        widened = False
        for root, value in values.items():
            kind = _kind(value)
            if kind > self.kinds[root]:
                self.kinds[root] = kind
                widened = True
            if (value is None or value == "") and root not in self.optional:
                self.optional.add(root)
                widened |= self.kinds[root] != _ABSENT
        if widened:
            self._learn_order(message)
        return widened

    def _learn_order(self, message: bytes) -> None:
        try:
            keys = msgspec.json.decode(message, type=dict[str, msgspec.Raw])
        except (ValueError, RecursionError):
            return  # It was repaired first; the order of such a message is not worth the trouble.
        self.order |= dict.fromkeys(key for key in keys if key in self.kinds)


class _Layout:
    """The msgspec type for what was seen of each key, with one attribute per target.

    Attributes:
        decode: bytes to an instance of the type.
        attributes: the attribute that holds each top-level key.
        computed: targets that no single plain key gives, with the steps that may lead to them.
        timestamp_field: path of the key that gives the timestamp; empty when it is computed.
        severity_field: the same of the severity.
    """

    def __init__(self, all_steps: Mapping[str, tuple[_Step, ...]], seen: _Seen) -> None:
        self.computed: list[tuple[str, tuple[_Step, ...]]] = []
        self.attributes: dict[str, str] = {}
        required: set[str] = set()
        needed: set[str] = set()
        for target, steps in all_steps.items():
            live = [step for step in steps if _may_hit(step, seen.kinds[step.root])]
            sure = bool(live) and live[0].root not in seen.optional and not live[0].rest
            if not live or not self._claim(target, live, seen, sure=sure):
                needed.update(step.root for step in steps)
                self.computed += [(target, tuple(live))] if live else []
            elif sure:
                required.add(live[0].root)
                needed.update(step.root for step in steps[: steps.index(live[0]) + 1])
            else:
                needed.update(step.root for step in steps)
        self.timestamp_field = self._field_of("timestamp")
        self.severity_field = self._field_of("severity")
        self.decode = self._decoder(all_steps, needed, required, seen)

    def _claim(self, target: str, live: list[_Step], seen: _Seen, *, sure: bool) -> bool:
        """Let one key give the target as it is, where that is possible."""
        root = live[0].root
        widest = _PLAIN if target in _NUMERIC else _TEXT
        if len(live) > 1 and not sure:
            return False
        if live[0].rest or root in self.attributes or seen.kinds[root] > widest:
            return False
        self.attributes[root] = target
        return True

    def _decoder(
        self, targets: Iterable[str], needed: set[str], required: set[str], seen: _Seen
    ) -> Callable[[bytes], Any]:
        ranks = {root: rank for rank, root in enumerate(seen.order)}
        roots = sorted(needed, key=lambda root: (ranks.get(root, len(ranks)), root))
        fields: list[tuple[Any, ...]] = []
        for index, root in enumerate(roots):
            attribute = self.attributes.setdefault(root, f"key{index}")
            kind = seen.kinds[root]
            fields.append(
                (attribute, _REQUIRED[kind])
                if root in required
                else (attribute, _TYPES[kind], None)
            )
        keys = {attribute: root for root, attribute in self.attributes.items()}
        for target in targets:
            if target not in keys:
                keys[target] = _unused(target, seen.kinds)
                fields.append((target, None, None))
        struct = msgspec.defstruct("Layout", fields, rename=keys, kw_only=True, gc=False)
        return msgspec.json.Decoder(struct).decode

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


def _kind(value: Any) -> int:
    if value is None:
        return _ABSENT
    kind = type(value)
    return _TEXT if kind is str else _PLAIN if kind is int or kind is float else _ANY


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
