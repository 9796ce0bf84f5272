"""Our own log: one line a record, whatever the record quotes."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamwatch import logs

if TYPE_CHECKING:
    from collections.abc import Iterator

HOSTILE = "ok\r\nlevel=error \x1b[2J\x9b31m\u202etxt\u2028\udc80\x7f"


@pytest.fixture(autouse=True)
def _restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in logs.NOISY}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)


def test_off_a_terminal_each_record_is_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info")

    logging.getLogger("streamwatch.ingest").info("flushed %d", 3)
    logging.getLogger("streamwatch.ingest").debug("not this")

    (line,) = capsys.readouterr().err.splitlines()
    record = orjson.loads(line)
    assert record["message"] == "flushed 3"
    assert record["level"] == "info"
    assert record["logger"] == "streamwatch.ingest"
    assert record["timestamp"].endswith("+00:00")


def test_hostile_text_stays_readable_and_on_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info")

    logging.getLogger("streamwatch").error(
        "got %s", HOSTILE, exc_info=(ValueError, ValueError(HOSTILE), None)
    )

    text = capsys.readouterr().err
    assert text.count("\n") == 1
    assert logs.escape(text[:-1]) == text[:-1]
    record = orjson.loads(text)
    assert record["message"] == "got " + HOSTILE.replace("\udc80", "\\udc80")
    assert "ValueError" in record["exception"]


def test_on_a_terminal_the_line_is_for_a_person(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    logs.configure("warning")

    logging.getLogger("streamwatch").warning("got %s", HOSTILE)

    text = capsys.readouterr().err
    assert text.count("\n") == 1
    assert r"WARNING streamwatch: got ok\r\nlevel=error \x1b[2J\x9b31m\u202etxt" in text
    assert logs.escape(text[:-1]) == text[:-1]


def test_configuring_twice_logs_once(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info")
    logs.configure("info")

    logging.getLogger("streamwatch").info("once")

    assert capsys.readouterr().err.count("once") == 1


def test_clients_that_log_passwords_at_debug_stay_quiet(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure("debug")

    logging.getLogger("kafka.admin.client").debug("Starting with {'sasl_plain_password': 'p'}")
    logging.getLogger("kafka.admin.client").warning("a warning")

    assert "password" not in (text := capsys.readouterr().err)
    assert "a warning" in text


@given(st.text(st.characters(codec=None)))
def test_escaped_text_is_one_printable_line(text: str) -> None:
    escaped = logs.escape(text)

    assert len(escaped.splitlines()) <= 1
    assert "\x1b" not in escaped
    escaped.encode()
    assert logs.escape(escaped) == escaped
