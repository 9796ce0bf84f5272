"""Stack traces: recognised and parsed per language, then reduced to a canonical chain.

A language is one module with `parse(text) -> Raised | None`, listed in `LANGUAGES`. `None` means
that the text holds no trace of that language.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from streamwatch.fingerprint.stacktrace import java, python
from streamwatch.fingerprint.stacktrace.model import canonical, top_frame

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamwatch.fingerprint.stacktrace.model import Raised

__all__ = ["LANGUAGES", "canonical", "parse", "shorten", "top_frame"]

LANGUAGES: tuple[Callable[[str], Raised | None], ...] = (python.parse, java.parse)

# A deep trace has its throw site at one end and its root cause at the other: the middle can go.
_LONGEST_TRACE = 65_536
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "b": " ", "f": " "}
# JSON inside JSON, as a log line quoted by a container's log driver.
_MOST_ESCAPED = 2


def shorten(text: str) -> str:
    """The two ends of a text, when it is longer than any trace needs to be."""
    if len(text) <= _LONGEST_TRACE:
        return text
    half = _LONGEST_TRACE // 2
    return f"{text[:half]}{text[-half:]}"


def parse(text: str) -> Raised | None:
    r"""The exception that a text holds the stack trace of.

    Reads raw traces, traces behind a log header or other text, and traces whose line ends are
    escaped (`\n` as two characters).

    Returns:
        The outermost exception with its causes, or None when there is no trace with a frame.
    """
    text = shorten(text)
    for _ in range(_MOST_ESCAPED + 1):
        for language in LANGUAGES:
            raised = language(text)
            if raised is not None:
                return raised
        if "\\n" not in text:
            break
        text = _ESCAPE.sub(_unescape, text)
    return None


def _unescape(match: re.Match[str]) -> str:
    if match[1]:
        return chr(int(match[1], 16))
    return _ESCAPED.get(match[2], match[2])
