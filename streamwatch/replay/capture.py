"""Captured messages: reading the capture format, and plain log files as if they were one.

A capture holds one JSON object a line for each Kafka message: `topic`, `partition`, `offset`,
`timestamp` (milliseconds), `key`, `headers` and `value` as text, or `value_base64`. A plain log
file is read as one partition, a message a line, named by the file, the line number its offset.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import gzip
import io
import sys
import zlib
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import msgspec

from streamwatch.errors import UsageError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


class CapturedMessage(NamedTuple):
    """One message of a source topic.

    Attributes:
        topic: source topic, or the name of a plain file.
        partition: source partition; 0 for a plain file.
        offset: source offset; the line number, from 0, in a plain file.
        timestamp: Kafka timestamp in milliseconds; None for a plain file.
        key: record key.
        value: the bytes to decode.
    """

    topic: str
    partition: int
    offset: int
    timestamp: int | None
    key: bytes | None
    value: bytes


class _Line(msgspec.Struct):
    topic: str
    partition: int
    offset: int
    timestamp: int | None = None
    key: str | None = None
    value: str | None = None
    value_base64: str | None = None


class _Place(msgspec.Struct):
    topic: str
    partition: int


_line_decoder = msgspec.json.Decoder(_Line)
_place_decoder = msgspec.json.Decoder(_Place)


@contextlib.contextmanager
def open_log(path: Path, progress: Callable[[int], None] | None = None) -> Iterator[BinaryIO]:
    """Open a plain, gzip or zstd file, told apart by its first bytes; `-` is standard input.

    Args:
        path: the file.
        progress: called with the number of bytes read from the file so far.

    Raises:
        UsageError: the file cannot be read.
    """
    try:
        raw: BinaryIO = sys.stdin.buffer if str(path) == "-" else path.open("rb")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    with raw:
        counted = io.BufferedReader(_Counted(raw, progress), 1 << 16)
        magic = counted.peek(4)[:4]
        if magic.startswith(_GZIP_MAGIC):
            with gzip.GzipFile(fileobj=counted) as file:
                yield io.BufferedReader(file)
        elif magic == _ZSTD_MAGIC:
            with zstd.ZstdFile(counted) as file:
                yield io.BufferedReader(file)
        else:
            yield counted


def is_capture(path: Path) -> bool:
    """Whether the file's first line is in the capture format. Standard input never is."""
    if str(path) == "-":
        return False
    try:
        _line_decoder.decode(next(lines(path), b""))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True


def partitions(path: Path) -> dict[str, int]:
    """The number of partitions of each topic of a capture: one more than the greatest."""
    counts: dict[str, int] = {}
    for number, line in enumerate(lines(path), start=1):
        try:
            place = _place_decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise _broken(path, number, error) from None
        counts[place.topic] = max(counts.get(place.topic, 0), place.partition + 1)
    return counts


def lines(path: Path, progress: Callable[[int], None] | None = None) -> Iterator[bytes]:
    """The lines of a plain, gzip or zstd file, ends included.

    Args:
        path: the file; `-` is standard input.
        progress: called with the number of bytes read from the file so far.

    Raises:
        UsageError: the file cannot be read, or is damaged or cut off.
    """
    with open_log(path, progress) as file:
        try:
            yield from file
        except (OSError, EOFError, zlib.error, zstd.ZstdError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise UsageError(f"cannot read {path}: {reason}") from None


def read(
    path: Path, *, capture: bool, progress: Callable[[int], None] | None = None
) -> Iterator[CapturedMessage]:
    """The messages of one file, in order.

    Args:
        path: a capture or a plain log file.
        capture: which of the two it is.
        progress: called with the number of bytes read from the file so far.

    Raises:
        UsageError: the file cannot be read, or a line of a capture is not one.
    """
    for number, line in enumerate(lines(path, progress)):
        if capture:
            yield _parse(path, number + 1, line)
        elif line.strip():
            yield CapturedMessage(path.name, 0, number, None, None, line.rstrip(b"\r\n"))


def _parse(path: Path, number: int, line: bytes) -> CapturedMessage:
    try:
        parsed = _line_decoder.decode(line)
        if parsed.value_base64 is not None:
            value = base64.b64decode(parsed.value_base64, validate=True)
        else:
            value = (parsed.value or "").encode()
    except (msgspec.DecodeError, UnicodeDecodeError, binascii.Error) as error:
        raise _broken(path, number, error) from None
    key = None if parsed.key is None else parsed.key.encode()
    return CapturedMessage(
        parsed.topic, parsed.partition, parsed.offset, parsed.timestamp, key, value
    )


def _broken(path: Path, number: int, error: Exception) -> UsageError:
    return UsageError(f"{path}, line {number}: not in the capture format: {error}")


class _Counted(io.RawIOBase):
    """A raw reader that tells how far it has come."""

    def __init__(self, raw: BinaryIO, progress: Callable[[int], None] | None) -> None:
        self._raw = raw
        self._progress = progress
        self._read = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # typeshed's buffer type has no name at run time
        data = self._raw.read(len(buffer))
        buffer[: len(data)] = data
        self._read += len(data)
        if self._progress is not None:
            self._progress(self._read)
        return len(data)
