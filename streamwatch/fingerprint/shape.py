"""Shapes: the stateless half of a fingerprint, the same in every process and order of lines."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Literal

from streamwatch.counts import ShapeDefinition
from streamwatch.fingerprint import stacktrace
from streamwatch.fingerprint.caches import GenerationCache
from streamwatch.fingerprint.controls import strip_hidden
from streamwatch.fingerprint.fold import collapse, fold
from streamwatch.fingerprint.mask import Masker

if TYPE_CHECKING:
    from streamwatch.records import LogRecord

#: Version of the rules of this package. It is mixed into every id, so that shapes made by different
#: rules are never taken for each other; a change to any rule must raise it.
GROUPING_CONFIG: str = "1"

#: Characters of a message that count; what follows them does not change its shape.
LONGEST_TEXT = 4_096
#: Characters of a template that are kept; a longer one ends with `…`. The id is of the whole.
LONGEST_TEMPLATE = 1_000
_LONGEST_NAME = 200

_KEY_BYTES = 400
_TRACE_KEY_BYTES = 16


class Shaper:
    """Finds the shape of records, from bounded caches where it can.

    The common case costs one fold and one dict access. What a shape is never depends on what was
    seen before: caches only save work.

    Args:
        cache_size: distinct folded messages remembered in each of two generations.

    Attributes:
        hits: lookups that the folded message alone answered.
        misses: lookups that had to collapse, mask or parse.
    """

    def __init__(self, cache_size: int = 50_000) -> None:
        self.hits = 0
        self.misses = 0
        self._masker = Masker()
        self._folded: GenerationCache[bytes, ShapeDefinition] = GenerationCache(
            cache_size, cache_size * _KEY_BYTES
        )
        self._collapsed: GenerationCache[bytes, ShapeDefinition] = GenerationCache(
            cache_size, cache_size * _KEY_BYTES
        )
        self._texts: GenerationCache[str, ShapeDefinition] = GenerationCache(
            cache_size, cache_size * _KEY_BYTES
        )
        self._traces: GenerationCache[bytes, ShapeDefinition] = GenerationCache(
            cache_size, cache_size * _TRACE_KEY_BYTES
        )
        self._known = self._folded.young.get

    def shape(self, record: LogRecord) -> ShapeDefinition:
        """The shape of a record: of its exception when it has one, else of its message."""
        if record.stacktrace or record.exception_type:
            return self._shape_exception(record)
        return self.shape_text(record.message)

    def shape_text(self, message: str) -> ShapeDefinition:
        """The shape of a message, which may hold a stack trace."""
        if len(message) <= LONGEST_TEXT:
            folded = fold(message)
            definition = self._known(folded)
            if definition is not None:
                self.hits += 1
                return definition
            self.misses += 1
            return self._shape_miss(message, folded)
        self.misses += 1
        return self._shape_miss(message, fold(message[:LONGEST_TEXT]))

    def _shape_miss(self, message: str, folded: bytes) -> ShapeDefinition:
        if "\n" in message or "\\n" in message:
            # Names in a trace may differ in a digit, and a long one goes on behind what was folded,
            # so it is never looked up by its folded bytes.
            raised = self._shape_trace("", message)
            return self._shape_folded(folded) if raised is _NO_TRACE else raised
        definition = self._folded.find(folded)
        if definition is None:
            definition = self._shape_folded(folded)
            self._folded.put(folded, definition)
        return definition

    def _shape_folded(self, folded: bytes) -> ShapeDefinition:
        collapsed = collapse(folded)
        if len(collapsed) == len(folded):
            return self._shape_masked(collapsed)
        definition = self._collapsed.find(collapsed)
        if definition is None:
            definition = self._shape_masked(collapsed)
            self._collapsed.put(collapsed, definition)
        return definition

    def _shape_masked(self, collapsed: bytes) -> ShapeDefinition:
        template = self._masker.mask(collapsed.decode(errors="replace"))
        definition = self._texts.find(template)
        if definition is None:
            definition = _define("text", template)
            self._texts.put(template, definition)
        return definition

    def _shape_exception(self, record: LogRecord) -> ShapeDefinition:
        self.misses += 1
        type_ = record.exception_type.strip()[:_LONGEST_NAME]
        for text in (record.stacktrace, record.message, record.exception_message):
            if text and ("\n" in text or "\\n" in text or text is record.stacktrace):
                definition = self._shape_trace(type_, text)
                if definition is not _NO_TRACE:
                    return definition
        said = record.exception_message or record.message or record.stacktrace
        template = self.shape_text(said).template
        if type_:
            template = f"{type_}: {template}" if template else type_
        return _define("exception", template, type_)

    def _shape_trace(self, type_: str, text: str) -> ShapeDefinition:
        text = stacktrace.shorten(text)
        key = _digest(16, type_, text)
        definition = self._traces.find(key)
        if definition is None:
            raised = stacktrace.parse(text)
            if raised is None:
                definition = _NO_TRACE
            else:
                definition = _define(
                    "exception",
                    stacktrace.canonical(raised, type_),
                    raised.type or type_,
                    stacktrace.top_frame(raised),
                )
            self._traces.put(key, definition)
        return definition


def _define(
    kind: Literal["text", "exception"], canonical: str, type_: str = "", frame: str = ""
) -> ShapeDefinition:
    canonical = strip_hidden(canonical)
    return ShapeDefinition(
        id=_digest(8, GROUPING_CONFIG, kind, canonical).hex(),
        kind=kind,
        template=shorten(canonical, LONGEST_TEMPLATE),
        type=shorten(strip_hidden(type_), _LONGEST_NAME),
        frame=shorten(strip_hidden(frame), _LONGEST_NAME),
    )


#: Stands for "this text holds no stack trace" in the cache of traces.
_NO_TRACE = ShapeDefinition(id="", kind="text", template="")


def shorten(text: str, limit: int) -> str:
    """Text of at most `limit` characters, ending with `…` when something was cut off."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _digest(size: int, *parts: str) -> bytes:
    joined = "\0".join(parts).encode(errors="replace")
    return hashlib.blake2b(joined, digest_size=size).digest()
