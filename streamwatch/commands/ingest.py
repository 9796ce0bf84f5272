"""`streamwatch ingest`: log records to counts."""

from __future__ import annotations

import argparse

from streamwatch import logs
from streamwatch.commands.options import add_config_option
from streamwatch.config import load
from streamwatch.errors import UsageError


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "ingest",
        help="count log records: log topics in, counts out",
        description="Run the ingest workers of this machine, until SIGTERM or Ctrl-C. Several "
        "workers are processes of their own, started again when they die.",
        epilog="examples:\n"
        "  streamwatch ingest                      as many workers as ingest.workers says\n"
        "  streamwatch ingest --workers 4          four workers under one command\n"
        "  streamwatch ingest --worker 2           only worker 2, in this process\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config_option(parser)
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--workers", type=int, metavar="N", help="how many workers (default: ingest.workers, 1)"
    )
    which.add_argument(
        "--worker", type=int, metavar="I", help="run only worker I, from 0, in this process"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run until told to stop."""
    # Imported here because every command's module is imported for `streamwatch --help`.
    from pipelines import ingest  # noqa: PLC0415

    if args.workers is not None and args.workers < 1:
        raise UsageError(f"--workers {args.workers}: must be 1 or more")
    if args.worker is not None and args.worker < 0:
        raise UsageError(f"--worker {args.worker}: must be 0 or more")
    config = load(args.config)
    logs.configure(config.log_level)
    workers = config.ingest.workers if args.workers is None else args.workers
    if args.worker is None and workers > 1:
        return ingest.run_many(config, args.config, workers)
    ingest.run(config, args.worker or 0)
    return 0
