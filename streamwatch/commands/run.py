"""`streamwatch run`: all stages under one supervisor."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from streamwatch import logs
from streamwatch.commands.options import add_config_option
from streamwatch.config import load

if TYPE_CHECKING:
    from pathlib import Path

    from streamwatch.config import Config


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "run",
        help="run ingest, detect and serve under one supervisor",
        description="Run every stage as a process of its own on this machine, until SIGTERM or "
        "Ctrl-C. A stage that ends is started again.",
        epilog="examples:\n  streamwatch topics create && streamwatch run\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config_option(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run until told to stop."""
    # Imported here because every command's module is imported for `streamwatch --help`.
    from streamwatch.kafka.clients import require_topics  # noqa: PLC0415
    from streamwatch.kafka.topics import own_topics  # noqa: PLC0415
    from streamwatch.supervisor import Supervisor, stop_on_signals  # noqa: PLC0415

    config = load(args.config)
    logs.configure(config.log_level)
    names = [topic.name for topic in own_topics(config)]
    require_topics(config, [*names, *(source.topic for source in config.sources)])
    with stop_on_signals() as stop:
        return Supervisor(stages(config, args.config)).run(stop)


def stages(config: Config, config_file: Path | None) -> dict[str, list[str]]:
    """The command line of every stage's process, by name."""
    option = [] if config_file is None else ["--config", str(config_file)]

    def command(name: str, *more: str) -> list[str]:
        return [sys.executable, "-m", "streamwatch.cli", name, *option, *more]

    workers = {
        f"ingest-{worker}": command("ingest", "--worker", str(worker))
        for worker in range(config.ingest.workers)
    }
    return workers | {"detect": command("detect"), "serve": command("serve")}
