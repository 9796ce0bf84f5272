"""`streamwatch demo`: a bad and a healthy rollout of real software through the whole pipeline."""

from __future__ import annotations

import argparse
import sys

from streamwatch import logs


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "demo",
        help="see a bad release halted and a healthy one passed",
        description="Start a small broker on a free loopback port, play two captured rollouts of a "
        "real web service into it, run ingest, detect and serve against it, and show what they "
        "decide. Ends by itself: 0 when the bad release was halted and the healthy one passed, 1 "
        "when not, 4 when something broke.",
        epilog="examples:\n"
        "  streamwatch demo                          about half a minute\n"
        "  streamwatch demo --serve                  keep it running, with the API up\n"
        "  streamwatch demo --bootstrap kafka:9092   on a broker of yours\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--bootstrap", metavar="HOST:PORT", help="use this broker, not an embedded one"
    )
    parser.add_argument(
        "--serve", action="store_true", help="keep running until Ctrl-C, with the API up"
    )
    parser.add_argument("--port", type=int, default=0, help="of the API (default: a free one)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Play the demo."""
    # Imported here because every command's module is imported for `streamwatch --help`.
    from streamwatch import demo  # noqa: PLC0415

    logs.configure("warning")
    return demo.play(
        bootstrap=args.bootstrap,
        serve=args.serve,
        port=args.port,
        say=lambda line: print(line, file=sys.stderr, flush=True),
        show=lambda line: print(line, flush=True),
    )
