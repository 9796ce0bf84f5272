"""Folding: what makes two occurrences of one message equal before any pattern is tried.

Every digit becomes `0`. Nothing that masks or parses after this may depend on the value of a
digit, so a message may be looked up by its folded bytes: on ordinary logs most lines hit.
"""

from __future__ import annotations

import re

_ZEROS = bytes.maketrans(b"123456789", b"000000000")
# Runs glued to letters keep their length: it tells a hash from a name with a number.
# The look-behind comes after the first zero, so that the search may skip to it.
_FREE_RUN = re.compile(rb"0(?<![0A-Za-z\x80-\xff]0)0+(?![0A-Za-z\x80-\xff])")


def fold(message: str) -> bytes:
    """The UTF-8 bytes of a message with every ASCII digit turned into `0`.

    Lone surrogates, which UTF-8 has no bytes for, become `?`.
    """
    try:
        return message.encode().translate(_ZEROS)
    except UnicodeEncodeError:
        return message.encode(errors="replace").translate(_ZEROS)


def collapse(folded: bytes) -> bytes:
    """Folded bytes with every number that stands free cut to one `0`."""
    return _FREE_RUN.sub(b"0", folded)
