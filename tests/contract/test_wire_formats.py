"""The bytes on the wire: pinned, so that no change of format goes unnoticed.

A file under `tests/golden/wire` is what this version writes. When a format changes on purpose its
version goes up, and the old file stays as what must be told apart.
"""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec
import pytest
from msgspec.structs import replace

from streamwatch import counts
from streamwatch.deadletters import DeadLetter, dead_letter
from streamwatch.detect.verdict import decode_verdict, encode_verdict
from streamwatch.errors import InvalidMessage, Reason
from streamwatch.signals.envelope import decode_signal, encode_signal, headers, signal_id
from wire_examples import COUNTS, DEAD_LETTER, DEPLOYMENT, SIGNAL, VERDICT, WATERMARKS

if TYPE_CHECKING:
    from collections.abc import Callable

WIRE = Path(__file__).parents[1] / "golden" / "wire"


FORMATS: dict[str, tuple[msgspec.Struct, Callable[..., bytes], Callable[[bytes], Any]]] = {
    "counts": (COUNTS, counts.encode, counts.decode),
    "watermarks": (WATERMARKS, counts.encode, counts.decode),
    "deployment": (DEPLOYMENT, counts.encode, counts.decode),
    "verdict": (VERDICT, encode_verdict, decode_verdict),
    "signal": (SIGNAL, encode_signal, decode_signal),
    "dead-letter": (DEAD_LETTER, counts.encode, msgspec.json.Decoder(DeadLetter).decode),
}


@pytest.mark.parametrize("name", FORMATS)
class TestEveryFormat:
    def test_the_bytes_are_those_of_this_version(self, name: str) -> None:
        example, encode, _ = FORMATS[name]
        assert encode(example) == (WIRE / f"{name}.json").read_bytes().rstrip(b"\n")

    def test_what_was_written_before_is_read(self, name: str) -> None:
        example, _, decode = FORMATS[name]
        assert decode((WIRE / f"{name}.json").read_bytes()) == example


def test_no_golden_file_is_left_over() -> None:
    assert {path.stem for path in WIRE.glob("*.json")} == set(FORMATS)


def test_dead_letters_are_made_in_the_pinned_form() -> None:
    error = InvalidMessage(Reason.MISSING_RELEASE, DEAD_LETTER.detail)
    value = (DEAD_LETTER.value or "").encode()
    made = dead_letter(error, "logs", 3, 4711, DEAD_LETTER.timestamp, value, records=2)
    assert made == (WIRE / "dead-letter.json").read_bytes().rstrip(b"\n")


class TestCloudEvents:
    """CloudEvents 1.0, Kafka protocol binding, binary content mode (section 3.2)."""

    def test_required_attributes_are_there_and_none_is_empty(self) -> None:
        found = dict(headers(SIGNAL))
        assert {"ce_specversion", "ce_id", "ce_source", "ce_type"} <= found.keys()
        assert found["ce_specversion"] == b"1.0"
        assert all(value.decode("utf-8") for value in found.values())

    def test_each_header_is_there_once_and_is_named_as_the_binding_says(self) -> None:
        names = [name for name, _ in headers(SIGNAL)]
        assert len(names) == len(set(names))
        # datacontenttype is the one attribute that is mapped to a header without the prefix
        assert "ce_datacontenttype" not in names
        assert [name for name in names if not re.fullmatch(r"ce_[a-z0-9]{1,20}", name)] == [
            "content-type"
        ]

    def test_they_say_what_the_signal_says(self) -> None:
        found = {name: value.decode() for name, value in headers(SIGNAL)}
        assert found["ce_id"] == SIGNAL.id == signal_id(SIGNAL.rollout, "halt", 1)
        assert found["ce_type"] == "io.streamwatch.rollout.halt.v1"
        assert found["ce_source"] == "/streamwatch/production/checkout"
        assert found["ce_subject"] == SIGNAL.release
        assert found["content-type"] == "application/json"
        assert datetime.fromisoformat(found["ce_time"]).timestamp() == SIGNAL.tick
        resumed = dict(headers(replace(SIGNAL, kind="resume")))
        assert resumed["ce_type"] == b"io.streamwatch.rollout.resume.v1"

    @pytest.mark.parametrize("name", ["a b", "a/b", "ü", "a?b#c", "100%", "a|b"])
    def test_the_source_is_a_uri_reference_whatever_the_service_is_called(self, name: str) -> None:
        source = dict(headers(replace(SIGNAL, service=name, environment="")))["ce_source"].decode()
        assert re.fullmatch(r"[A-Za-z0-9\-._~%/]+", source)
        assert urlsplit(source).path == source
        assert source.count("/") == 3

    def test_the_time_is_rfc_3339_in_utc(self) -> None:
        time = dict(headers(SIGNAL))["ce_time"].decode()
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", time)
