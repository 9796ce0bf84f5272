"""Keeps child processes running, and ends all of them together.

A child that ends is started again after a wait that doubles with each quick failure. A child that
says its configuration is wrong (exit code 2) ends everything, since no restart can cure that. The
children end with the supervisor, however it ends.
"""

from __future__ import annotations

import logging
import signal
import subprocess
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from streamwatch.errors import ConfigError, InfrastructureError
from streamwatch.kafka.embedded import bound_to_this_process

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

log = logging.getLogger(__name__)

#: What is left of ten seconds when the children have been told to stop.
STOP_SECONDS = 9.0

#: First and longest wait before a child is started again.
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0

#: A child that ran for so long is started again without a long wait.
HEALTHY_SECONDS = 60.0

_LOOK_SECONDS = 0.1


class _Child:
    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name = name
        self.command = command
        self.process: subprocess.Popen[bytes] | None = None
        self.started = 0.0
        self.due = 0.0
        self.wait = FIRST_WAIT

    def start(self) -> None:
        self.started = time.monotonic()
        self.process = subprocess.Popen(  # noqa: S603  the commands are ours
            bound_to_this_process(self.command), stdin=subprocess.DEVNULL
        )


class Supervisor:
    """Runs commands as child processes. Call `run` from the main thread.

    Args:
        children: command line of each child, by name; each begins with a program's absolute path.

    Attributes:
        pids: process id of each child that runs at the moment.
    """

    def __init__(self, children: Mapping[str, Sequence[str]]) -> None:
        self._children = [_Child(name, command) for name, command in children.items()]

    @property
    def pids(self) -> dict[str, int]:
        """Process id of each child that runs at the moment."""
        running = [(child.name, child.process) for child in self._children]
        return {
            name: process.pid
            for name, process in running
            if process is not None and process.poll() is None
        }

    def run(self, stop: threading.Event) -> int:
        """Start all children and keep them running until `stop` is set.

        Returns:
            0 when all ended in time after the stop; 2 when a child refused its configuration; 4
            when a child had to be killed.
        """
        refused = 0
        try:
            for child in self._children:
                child.start()
            while not stop.wait(_LOOK_SECONDS):
                if any(self._look_after(child) for child in self._children):
                    refused = ConfigError.exit_code
                    break
        finally:
            killed = self._stop_all()
        return refused or (InfrastructureError.exit_code if killed else 0)

    def _look_after(self, child: _Child) -> bool:
        """Start a child again when that is due; True when its configuration is wrong."""
        now = time.monotonic()
        if child.process is None:
            if now >= child.due:
                child.start()
            return False
        code = child.process.poll()
        if code is None:
            return False
        if code == ConfigError.exit_code:
            return True
        if now - child.started >= HEALTHY_SECONDS:
            child.wait = FIRST_WAIT
        log.error("%s ended with %s; starting it again in %.1f s", child.name, code, child.wait)
        child.process = None
        child.due = now + child.wait
        child.wait = min(child.wait * 2, LONGEST_WAIT)
        return False

    def _stop_all(self) -> bool:
        """End every child; True when one had to be killed."""
        running = [child for child in self._children if child.process is not None]
        for child in running:
            if child.process is not None:
                child.process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        killed = False
        for child in running:
            if child.process is None:
                continue
            try:
                child.process.wait(max(deadline - time.monotonic(), 0.01))
            except subprocess.TimeoutExpired:
                log.error("%s did not stop within %.0f s and was killed", child.name, STOP_SECONDS)
                child.process.kill()
                child.process.wait()
                killed = True
        return killed


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set; the earlier handlers come back afterwards."""
    stop = threading.Event()
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda *_: stop.set()) for number in numbers]
    try:
        yield stop
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
