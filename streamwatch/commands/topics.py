"""`streamwatch topics create|check`: make streamwatch's topics, or compare them with the config."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

import msgspec
import orjson

from streamwatch.commands.options import add_config_option
from streamwatch.config import load
from streamwatch.kafka import topics
from streamwatch.logs import configure

if TYPE_CHECKING:
    from collections.abc import Iterable


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand to the command line."""
    parser = subparsers.add_parser(
        "topics",
        help="create or check streamwatch's topics",
        description="Create the topics that streamwatch writes, or compare them with the "
        "configuration. Topics that exist are never changed.",
        epilog="examples:\n"
        "  streamwatch topics create              make what is missing; safe to repeat\n"
        "  streamwatch topics create --sources    the log topics too, for development\n"
        "  streamwatch topics check --json        exit code 4 when anything differs\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("action", choices=("create", "check"))
    parser.add_argument("--sources", action="store_true", help="include the log topics")
    parser.add_argument("--json", action="store_true", help="write one JSON object")
    add_config_option(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Create or check the topics; 4 when `check` finds a difference."""
    config = load(args.config)
    configure(config.log_level)
    if args.action == "check":
        differences = topics.check(config, sources=args.sources)
        if args.json:
            _write_json({"differences": differences})
        else:
            _write(_differences(differences) or ["topics are as configured"])
        return 4 if differences else 0
    changes = topics.create(config, sources=args.sources)
    if args.json:
        _write_json({"topics": changes})
        return 0
    for change in changes:
        _write([f"{change.action}  {change.topic}", *_differences(change.differences)])
    return 0


def _differences(differences: Iterable[topics.Difference]) -> list[str]:
    return [
        f"differs  {difference.topic}: {difference.setting} is {difference.actual}, "
        f"configured {difference.expected}"
        for difference in differences
    ]


def _write(lines: Iterable[str]) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)


def _write_json(answer: dict[str, object]) -> None:
    sys.stdout.write(orjson.dumps(msgspec.to_builtins(answer)).decode() + "\n")
