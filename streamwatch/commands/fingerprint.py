"""`streamwatch fingerprint`: how a file's records are grouped."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from streamwatch.config import FieldMapping
from streamwatch.counts import service_key
from streamwatch.errors import InvalidMessage, Reason
from streamwatch.fingerprint import Grouper, Shaper, redact
from streamwatch.formats.json import JsonDecoder
from streamwatch.records import LogRecord
from streamwatch.replay.capture import lines

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamwatch.counts import ShapeDefinition

_JSON_SUFFIXES = (".json", ".jsonl", ".ndjson")
_COMPRESSED_SUFFIXES = (".gz", ".zst")
_NOTHING = "-" * 16


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "fingerprint",
        help="show how the lines of a file are grouped",
        description="Print shape, group and template of every line, in input order, and then the "
        "groups that later merges absorbed. Severity does not matter here. A line that is not a "
        "record is shown with no shape, named on stderr and counted at the end; the exit code is "
        "0 all the same.",
        epilog="examples:\n"
        "  streamwatch fingerprint app.log\n"
        "  streamwatch fingerprint --json records.jsonl.zst | jq -r .group | sort | uniq -c\n"
        "  kubectl logs deploy/shop | streamwatch fingerprint -\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "file",
        metavar="FILE",
        help="lines to read, also gzip (.gz) or zstd (.zst); `-` is standard input",
    )
    parser.add_argument(
        "--format",
        choices=("text", "json"),
        help="what a line is: a message, or a JSON record such as "
        '{"message": ...} (default: json for .json, .jsonl and .ndjson, else text)',
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help='one object a line, {"shape", "group", "template"}, then {"aliases": {old: new}}',
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the fingerprints of a file's lines.

    Raises:
        UsageError: the file cannot be read or decompressed.
    """
    decode = _decode_json() if _format(args) == "json" else _decode_text
    write = _write_json if args.json else _write_text
    shaper = Shaper()
    groupers: dict[str, Grouper] = {}
    invalid = 0
    for number, line in enumerate(lines(Path(args.file)), 1):
        try:
            record = decode(line)
        except InvalidMessage as error:
            invalid += 1
            sys.stderr.write(f"line {number}: {redact(str(error), 200)}\n")
            write(None, "")
            continue
        shape = shaper.shape(record)
        key = service_key(record.environment, record.service)
        write(shape, groupers.setdefault(key, Grouper()).assign(shape))
    aliases: dict[str, str] = {}
    for grouper in groupers.values():
        aliases |= grouper.take_aliases()
    if args.json:
        sys.stdout.write(_encoded({"aliases": aliases}))
    else:
        sys.stdout.writelines(f"alias {old} -> {new}\n" for old, new in aliases.items())
    if invalid:
        sys.stderr.write(f"{invalid} lines are not records\n")
    return 0


def _write_json(shape: ShapeDefinition | None, group: str) -> None:
    if shape is None:
        sys.stdout.write(_encoded({"shape": None, "group": None, "template": None}))
    else:
        sys.stdout.write(_encoded({"shape": shape.id, "group": group, "template": shape.template}))


def _write_text(shape: ShapeDefinition | None, group: str) -> None:
    if shape is None:
        sys.stdout.write(f"{_NOTHING}  {_NOTHING}\n")
    else:
        sys.stdout.write(f"{shape.id}  {group}  {shape.template}\n")


def _encoded(value: object) -> str:
    return f"{orjson.dumps(value).decode()}\n"


def _format(args: argparse.Namespace) -> str:
    if args.format:
        return str(args.format)
    name = Path(args.file)
    if name.suffix in _COMPRESSED_SUFFIXES:
        name = name.with_suffix("")
    return "json" if name.suffix in _JSON_SUFFIXES else "text"


def _decode_text(line: bytes) -> LogRecord:
    return LogRecord(message=line.decode(errors="replace"))


def _decode_json() -> Callable[[bytes], LogRecord]:
    decoder = JsonDecoder(FieldMapping())

    def decode(line: bytes) -> LogRecord:
        records = decoder.decode(line)
        if len(records) != 1:
            raise InvalidMessage(Reason.WRONG_TYPE, f"{len(records)} records in a line")
        return records[0]

    return decode
