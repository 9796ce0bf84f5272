"""`streamwatch serve`: the HTTP API over verdicts and signals."""

from __future__ import annotations

import argparse

from msgspec.structs import replace

from streamwatch import logs
from streamwatch.commands.options import add_config_option
from streamwatch.config import load
from streamwatch.errors import UsageError


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "serve",
        help="answer questions about releases over HTTP",
        description="Read all verdicts and signals from Kafka and serve them over HTTP, until "
        "SIGTERM or Ctrl-C.",
        epilog="examples:\n"
        "  streamwatch serve                       on the address of streamwatch.yaml\n"
        "  streamwatch serve --port 0              on a free port, which is printed\n"
        "  curl localhost:8080/v1/verdicts?open=true\n"
        "  curl localhost:8080/v1/verdicts/production/checkout/2.4.1\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config_option(parser)
    parser.add_argument("--host", help="address to listen on (default: serve.host, 127.0.0.1)")
    parser.add_argument(
        "--port", type=int, help="port to listen on, 0 for a free one (default: serve.port, 8080)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until told to stop."""
    # Imported here because every command's module is imported for `streamwatch --help`.
    from pipelines import serve  # noqa: PLC0415

    config = load(args.config)
    if args.port is not None and not 0 <= args.port <= 65535:
        raise UsageError(f"--port {args.port}: must be from 0 to 65535")
    given = {name: getattr(args, name) for name in ("host", "port")}
    changes = {name: value for name, value in given.items() if value is not None}
    config = replace(config, serve=replace(config.serve, **changes))
    logs.configure(config.log_level)
    serve.run(config)
    return 0
