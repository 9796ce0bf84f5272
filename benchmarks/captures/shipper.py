"""A log shipper: follows the instances' log files and notes each line as one Kafka message."""

from __future__ import annotations

import threading
import time
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

PARTITIONS = 4
POLL_SECONDS = 0.2


class Shipper:
    """Follows every `*.log` file of a folder; a file's stem is the instance that writes it.

    Args:
        folder: where the files appear.
        topic: topic of the messages.
        keyed: whether messages carry the instance as key.
        paths: folders of this machine and what to write instead, so that stack traces name the
            paths of a deployed service.
    """

    def __init__(self, folder: Path, topic: str, *, keyed: bool, paths: dict[str, str]) -> None:
        self.messages: list[dict[str, Any]] = []
        self._folder = folder
        self._topic = topic
        self._keyed = keyed
        self._paths = paths
        self._read: dict[Path, int] = {}
        self._offsets = [0] * PARTITIONS
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def stop(self) -> list[dict[str, Any]]:
        """Read what is left and end; all messages in the order in which they were sent."""
        self._ended.set()
        self._thread.join()
        self._collect()
        return self.messages

    def _follow(self) -> None:
        while not self._ended.wait(POLL_SECONDS):
            self._collect()

    def _collect(self) -> None:
        for path in sorted(self._folder.glob("*.log")):
            with path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                content = file.read()
            whole = content[: content.rfind(b"\n") + 1]
            self._read[path] = self._read.get(path, 0) + len(whole)
            for line in whole.splitlines():
                self._send(path.stem, line.decode("utf-8"))

    def _send(self, instance: str, value: str) -> None:
        for here, there in self._paths.items():
            value = value.replace(here, there)
        # librdkafka's partitioner for keyed messages.
        partition = zlib.crc32(instance.encode()) % PARTITIONS
        self.messages.append(
            {
                "topic": self._topic,
                "partition": partition,
                "offset": self._offsets[partition],
                "timestamp": int(time.time() * 1000),
                "key": instance if self._keyed else None,
                "headers": [],
                "value": value,
            }
        )
        self._offsets[partition] += 1
