"""Characters that do something to a terminal or hide text instead of showing any."""

from __future__ import annotations

import re

# CSI, OSC (until its terminator, or to the end of the line) and the two-character escapes.
_ESCAPES = re.compile(
    r"\x1b(?:\[[0-9;:?<=>]*[ -/]*[@-~]|\][^\x07\x1b\n]*(?:\x07|\x1b\\)?"
    r"|[PX^_][^\x1b\n]*(?:\x1b\\)?|[ -/]*[0-~]?)"
    r"|\x9b[0-9;:?<=>]*[ -/]*[@-~]"
)
_SPACES = re.compile(r"[\t-\r\x1c-\x1f\x85\u2028\u2029]+")
# Other controls, zero-width and bidirectional format characters, lone surrogates, tag characters.
_HIDDEN = re.compile(
    r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    r"\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]+"
)


def strip_escapes(text: str) -> str:
    """Text without terminal escape sequences (colours, titles, cursor moves)."""
    return _ESCAPES.sub("", text) if "\x1b" in text or "\x9b" in text else text


def strip_hidden(text: str) -> str:
    """Text without control and format characters; tabs and line ends become one space."""
    return text if text.isprintable() else _HIDDEN.sub("", _SPACES.sub(" ", text))
