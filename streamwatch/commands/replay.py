"""`streamwatch replay`: judge captured streams without Kafka."""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import orjson
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

from streamwatch.commands.options import add_config_option
from streamwatch.commands.show import signal_lines, verdict_line
from streamwatch.config import load
from streamwatch.signals.envelope import Signal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streamwatch.detect.verdict import Status, Verdict
    from streamwatch.replay.player import Report

EXIT_FAILED = 1


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "replay",
        help="judge captured logs, without Kafka",
        description="Play captures or plain log files (also gzip or zstd) through the same stages "
        "as live and print each change of verdict and each signal. Several files are parts of one "
        "stream, in order. Exit code 1 when a release was halted.",
        epilog="examples:\n"
        "  streamwatch replay capture.jsonl.zst\n"
        "  streamwatch replay --json app.log.1.gz app.log | jq .\n"
        "  streamwatch replay --format otlp_json otlp.jsonl\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config_option(parser)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="`-` is standard input")
    parser.add_argument(
        "--format",
        default="",
        choices=("otlp_json", "json"),
        help="how messages are encoded (default: as `sources` says, else by each topic's first)",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="one object a line: every verdict and signal, then the report",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Play the files; 1 when a release was halted, else 0."""
    # Imported here because every command's module is imported for `streamwatch --help`.
    from pipelines import replay  # noqa: PLC0415

    player = replay.prepare(load(args.config), args.files, args.format)
    printed = _Printer(as_json=args.json)
    with _progress(args.files) as progress:
        for output in player.play(replay.messages(args.files, progress)):
            printed.show(output)
    printed.finish(player.report)
    return EXIT_FAILED if player.report.signals else 0


class _Printer:
    """Prints every output as JSON, or only what changes as lines for a person."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._last: dict[str, Status] = {}

    def show(self, output: Verdict | Signal) -> None:
        if self._as_json:
            kind = "signal" if isinstance(output, Signal) else "verdict"
            _write_json({kind: msgspec.to_builtins(output)})
        elif isinstance(output, Signal):
            _write("\n".join(signal_lines(output)))
        elif self._last.get(output.key) != output.status:
            self._last[output.key] = output.status
            _write(verdict_line(output))

    def finish(self, report: Report) -> None:
        if self._as_json:
            _write_json({"report": msgspec.to_builtins(report)})
            return
        print(
            f"{report.messages} messages, {report.records} records, {report.verdicts} verdicts, "
            f"{report.signals} signals",
            file=sys.stderr,
        )
        for reason, count in sorted(report.rejected.items()):
            first = next(detail for detail in report.details if detail.reason == reason)
            place = f"{first.topic}/{first.partition} offset {first.offset}"
            print(f"{count} rejected: {reason}, first at {place}", file=sys.stderr)


@contextlib.contextmanager
def _progress(files: list[Path]) -> Iterator[Callable[[Path, int], None]]:
    """A progress bar over the files' bytes on a terminal, nothing elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _path, _read: None
        return
    columns: tuple[Any, ...] = (
        "{task.description}",
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        tasks = {
            path: bar.add_task(path.name, total=path.stat().st_size if path.is_file() else None)
            for path in files
        }
        yield lambda path, read: bar.update(tasks[path], completed=read)


def _write_json(value: object) -> None:
    _write(orjson.dumps(value).decode())


def _write(text: str) -> None:
    print(text, flush=True)
