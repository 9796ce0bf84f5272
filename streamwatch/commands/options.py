"""Options that several subcommands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def add_config_option(parser: argparse.ArgumentParser) -> None:
    """Give a subcommand the option that names the configuration file."""
    parser.add_argument(
        "-c",
        "--config",
        type=Path,
        metavar="FILE",
        help="configuration file (default: streamwatch.yaml here, if there is one)",
    )
