from __future__ import annotations

from base64 import b64decode

import msgspec

from streamwatch.deadletters import KEPT_BYTES, DeadLetter, dead_letter
from streamwatch.errors import InvalidMessage, Reason


def letter(value: bytes, detail: str = "why") -> DeadLetter:
    error = InvalidMessage(Reason.WRONG_TYPE, detail)
    encoded = dead_letter(error, "logs", 3, 17, 1_700_000_000_000, value, records=2)
    return msgspec.json.decode(encoded, type=DeadLetter)


def test_it_says_what_where_and_why() -> None:
    assert letter(b'{"a":1}') == DeadLetter(
        reason="wrong_type",
        detail="why",
        topic="logs",
        partition=3,
        offset=17,
        timestamp=1_700_000_000_000,
        records=2,
        value='{"a":1}',
    )


def test_binary_values_are_kept_as_base64() -> None:
    kept = letter(b"\xff\x00")
    assert (kept.value, b64decode(kept.value_base64 or "")) == (None, b"\xff\x00")


def test_long_values_are_cut_between_characters() -> None:
    kept = letter("é".encode() * KEPT_BYTES)
    assert kept.truncated
    assert kept.value == "é" * (KEPT_BYTES // 2)
    odd = letter(b"a" + "é".encode() * KEPT_BYTES)
    assert odd.value == "a" + "é" * ((KEPT_BYTES - 1) // 2)
    whole = letter(b"a" * KEPT_BYTES)
    assert not whole.truncated


def test_text_that_is_binary_in_the_middle_is_binary() -> None:
    assert letter(b"\xff" + b"a" * KEPT_BYTES).value is None


def test_hostile_details_are_bounded_and_encodable() -> None:
    assert letter(b"", detail="\ud800" * 10_000).detail == "?" * 500
