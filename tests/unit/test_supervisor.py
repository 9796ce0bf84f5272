from __future__ import annotations

import os
import signal
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from streamwatch import supervisor
from streamwatch.supervisor import Supervisor, stop_on_signals

if TYPE_CHECKING:
    import pytest


def shell(script: str) -> list[str]:
    return ["/bin/sh", "-c", script]


class Watched:
    """A supervisor in a thread."""

    def __init__(self, **scripts: str) -> None:
        self.stop = threading.Event()
        self.supervisor = Supervisor({name: shell(script) for name, script in scripts.items()})
        self.code: int | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self.code = self.supervisor.run(self.stop)

    def end(self) -> int | None:
        self._thread.join(15)
        return self.code


def wait_for_file(path: Path, lines: int) -> None:
    deadline = time.monotonic() + 15
    while not path.exists() or len(path.read_text().splitlines()) < lines:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_child_that_dies_is_started_again_with_growing_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "FIRST_WAIT", 0.05)
    starts = tmp_path / "starts"
    watched = Watched(flaky=f"date +%s.%N >> {starts}; exit 4", steady="exec sleep 60")
    wait_for_file(starts, 4)
    steady = watched.supervisor.pids["steady"]
    watched.stop.set()
    assert watched.end() == 0
    times = [float(line) for line in starts.read_text().splitlines()]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert gaps[2] > gaps[0]
    assert not Path(f"/proc/{steady}").exists()


def test_a_wrong_configuration_ends_everything_with_its_code() -> None:
    watched = Watched(wrong="exit 2", steady="exec sleep 60")
    assert watched.end() == 2
    assert watched.supervisor.pids == {}


def test_a_child_that_will_not_stop_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "STOP_SECONDS", 0.3)
    ready = tmp_path / "ready"
    watched = Watched(deaf=f"trap '' TERM; echo > {ready}; while :; do sleep 0.1; done")
    wait_for_file(ready, 1)
    watched.stop.set()
    assert watched.end() == 4
    assert watched.supervisor.pids == {}


def test_signals_set_the_event_and_the_old_handlers_return() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stop_on_signals() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.wait(5)
    assert signal.getsignal(signal.SIGTERM) is before
