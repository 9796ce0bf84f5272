"""Our own log: lines for a person on a terminal, JSON everywhere else.

What is logged may quote the outside world, so nothing that steers a terminal or breaks a line gets
through.
"""

from __future__ import annotations

import logging
import re
import sys
from datetime import UTC, datetime

import orjson

#: Libraries that talk a lot. They stay at warning even when we are at debug: at that level
#: kafka-python logs the settings of its clients, passwords included.
#: `streamwatch.kafka.faust_app` is where Faust logs what our subclasses of it do.
NOISY = ("aiokafka", "asyncio", "faust", "kafka", "mode", "streamwatch.kafka.faust_app")

# C0, DEL, C1, the line and paragraph separators, and what reorders or hides text.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


def escape(text: str) -> str:
    """The text on one line, with control characters and lone surrogates written as escapes."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return _CONTROL.sub(_as_escape, text)


def configure(level: str) -> None:
    """Send this process's log to stderr. Calling it again replaces the earlier set-up.

    Args:
        level: `debug`, `info`, `warning` or `error`.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter() if sys.stderr.isatty() else JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in NOISY:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


class JsonFormatter(logging.Formatter):
    """One JSON object a line: timestamp (RFC 3339, UTC), level, logger, pid, message, exception."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line of JSON."""
        line = {
            "timestamp": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "logger": record.name,
            "pid": record.process,
            "message": _encodable(record.getMessage()),
        }
        if record.exc_info:
            line["exception"] = _encodable(self.formatException(record.exc_info))
        # orjson escapes C0 only; the rest means the same as an escape and is safe to look at.
        return _CONTROL.sub(_as_json_escape, orjson.dumps(line).decode())


class LineFormatter(logging.Formatter):
    """One line for a person: local time, level, logger, message; a traceback follows indented."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as text."""
        time = datetime.fromtimestamp(record.created, UTC).astimezone().strftime("%H:%M:%S")
        lines = [f"{time} {record.levelname:<7} {record.name}: {escape(record.getMessage())}"]
        if record.exc_info:
            trace = self.formatException(record.exc_info).splitlines()
            lines += [f"    {escape(line)}" for line in trace]
        return "\n".join(lines)


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _as_escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()


def _as_json_escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"
