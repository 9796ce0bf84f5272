"""`streamwatch version`: what is installed, for a bug report."""

from __future__ import annotations

import argparse
import platform
import sys
from importlib.metadata import PackageNotFoundError, version

import confluent_kafka
import orjson

import streamwatch

#: Distributions whose version changes what streamwatch does.
LIBRARIES = (
    "aiohttp",
    "aiokafka",
    "confluent-kafka",
    "faust-streaming",
    "kafka-python",
    "msgspec",
    "noida-db",
    "numpy",
    "orjson",
    "prometheus-client",
    "river",
)


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand to the command line."""
    parser = subparsers.add_parser(
        "version",
        help="print the versions of streamwatch, Python and the main libraries",
        description="Print the versions of streamwatch, Python and the main libraries.",
        epilog="examples:\n  streamwatch version --json    for a bug report\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="write one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the versions; an optional library that is absent is left out."""
    found: dict[str, str] = {
        "streamwatch": streamwatch.__version__,
        "python": platform.python_version(),
        "librdkafka": confluent_kafka.libversion()[0],
    }
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    if args.json:
        sys.stdout.write(orjson.dumps(found).decode() + "\n")
    else:
        sys.stdout.writelines(f"{name} {number}\n" for name, number in found.items())
    return 0
