"""Replay: the same stages as live, in one process, over files.

files → messages → records → counts → verdicts and signals
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamwatch.replay import capture
from streamwatch.replay.player import Replay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from streamwatch.config import Config
    from streamwatch.replay.capture import CapturedMessage


def prepare(config: Config, files: list[Path], formats: str = "") -> Replay:
    """A replay that knows the files' partitions."""
    partitions: dict[str, int] = {}
    for path in files:
        if capture.is_capture(path):
            for topic, count in capture.partitions(path).items():
                partitions[topic] = max(partitions.get(topic, 0), count)
    return Replay(config, formats, partitions)


def messages(files: list[Path], progress: Callable[[Path, int], None]) -> Iterator[CapturedMessage]:
    """The messages of all files, in the order given: parts of one stream."""
    for path in files:

        def told(read: int, path: Path = path) -> None:
            progress(path, read)

        yield from capture.read(path, capture=capture.is_capture(path), progress=told)
