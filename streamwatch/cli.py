"""The `streamwatch` command: finds the subcommand, turns errors into one line and an exit code.

Exit codes: 0 successful, 1 failed verdict, 2 usage or configuration, 3 inconclusive,
4 infrastructure.
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from typing import TYPE_CHECKING

import streamwatch
from streamwatch.errors import StreamwatchError

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS = (
    "run",
    "ingest",
    "detect",
    "serve",
    "replay",
    "fingerprint",
    "topics",
    "check_config",
    "demo",
    "version",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand and return the process's exit code."""
    parser = _parser()
    args = parser.parse_args(arguments)
    try:
        return int(args.run(args))
    except StreamwatchError as error:
        print(f"streamwatch: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="streamwatch",
        description=streamwatch.__doc__,
        epilog="examples:\n"
        "  streamwatch demo                          see it halt a bad release\n"
        "  streamwatch replay capture.jsonl.zst      judge a captured stream, no Kafka\n"
        "  streamwatch run --config streamwatch.yaml all stages under one supervisor\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=streamwatch.__version__)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in COMMANDS:
        import_module(f"streamwatch.commands.{name}").add_parser(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
