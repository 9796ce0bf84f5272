"""`streamwatch detect`: counts to verdicts and signals."""

from __future__ import annotations

import argparse

from streamwatch import logs
from streamwatch.commands.options import add_config_option
from streamwatch.config import load


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "detect",
        help="judge releases: counts in, verdicts and signals out",
        description="Run one detect worker, until SIGTERM or Ctrl-C. Start as many as you like, up "
        "to the number of partitions of the counts topic; give each its own detect.instance.",
        epilog="examples:\n  streamwatch detect -c streamwatch.yaml\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config_option(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run until told to stop."""
    # Imported here because every command's module is imported for `streamwatch --help`.
    from pipelines import detect  # noqa: PLC0415

    config = load(args.config)
    logs.configure(config.log_level)
    detect.run(config)
    return 0
