"""The demo: captured rollouts through a broker and every stage, and whether that went right."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

import msgspec
import yaml

from streamwatch import config as configuration
from streamwatch.client import subscribe
from streamwatch.commands.run import stages
from streamwatch.commands.show import moment, signal_lines, verdict_line
from streamwatch.detect.verdict import Verdict
from streamwatch.errors import StageFailed, UsageError
from streamwatch.kafka.embedded import EmbeddedBroker, bound_to_this_process
from streamwatch.kafka.produce import produce
from streamwatch.kafka.topics import create
from streamwatch.replay import capture
from streamwatch.signals.envelope import Signal
from streamwatch.supervisor import stop_on_signals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streamwatch.config import Config

    Say = Callable[[str], None]

#: How long the stages may take for both captures.
PATIENCE_SECONDS = 150.0

#: Seconds that a stage may take to stop.
STOP_SECONDS = 10.0

#: A verdict this many seconds before the end of a capture is its last: they are seconds apart.
CLOSE_ENOUGH = 5

#: Partitions of every topic of the demo.
PARTITIONS = 4

CAPTURES = ("sqlalchemy-upgrade", "healthy")


class Truth(msgspec.Struct):
    """What is known of a capture, from the file beside it."""

    capture: str
    story: str
    topic: str
    format: str
    service: str
    environment: str
    baseline: str
    candidate: str
    bad: bool
    records: int
    releases: dict[str, dict[str, Any]]
    culprit: dict[str, Any] | None = None

    @property
    def end(self) -> int:
        """The last tick."""
        return int(max(release["last_record"] for release in self.releases.values()))


class Judged(NamedTuple):
    """What streamwatch said of one capture's candidate."""

    truth: Truth
    signal: Signal | None
    verdict: Verdict | None

    @property
    def finished(self) -> bool:
        """Halted, or judged to the last of the capture."""
        if self.signal is not None:
            return self.verdict is not None and self.verdict.status == "Failed"
        return self.verdict is not None and self.verdict.tick >= self.truth.end - CLOSE_ENOUGH

    @property
    def right(self) -> bool:
        """Halted if bad, passed and never halted if not."""
        if self.truth.bad:
            return self.signal is not None
        passed = self.verdict is not None and self.verdict.status == "Successful"
        return passed and self.signal is None


def play(*, bootstrap: str | None, serve: bool, port: int, say: Say, show: Say) -> int:
    """Play both captures; 0 when both were judged right, else 1.

    Args:
        bootstrap: a broker to use; None starts an embedded one.
        serve: keep running until Ctrl-C.
        port: of the API; 0 for a free one.
        say: takes narration.
        show: takes results.

    Raises:
        StreamwatchError: a broker, a stage or a file failed.
    """
    folder, truths = _captures()
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="streamwatch-demo-")))
        if bootstrap is None:
            bootstrap = stack.enter_context(EmbeddedBroker(home / "broker")).bootstrap
            say(f"embedded broker on {bootstrap}")
        config = _config(bootstrap, truths, port or _free_port())
        create(config, sources=True)
        for truth, source in zip(truths, config.sources, strict=True):
            messages = capture.read(folder / truth.capture, capture=True)
            sent = produce(config.kafka, source.topic, messages)
            say(f"{truth.service}: {sent} messages, {truth.records} records. {truth.story}")
        running = stack.enter_context(contextlib.closing(_Stages(config, home)))
        say("ingest, detect and serve are running")
        judged = _watch(config, truths, running)
        for one in judged:
            for line in _told(one):
                show(line)
        if serve:
            say(f"http://127.0.0.1:{config.serve.port}/v1/verdicts answers until Ctrl-C")
            with stop_on_signals() as stop:
                while not stop.wait(1.0):
                    running.check()
    return 0 if all(one.right for one in judged) else 1


def _captures() -> tuple[Path, list[Truth]]:
    packaged = Path(__file__).parent / "captures"
    checkout = Path(__file__).parents[1] / "benchmarks" / "captures"
    folder = packaged if packaged.is_dir() else checkout
    truths = []
    for name in CAPTURES:
        path = folder / f"{name}.truth.yaml"
        try:
            tree = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise UsageError(f"the demo's capture is missing: {path}: {error.strerror}") from None
        truths.append(msgspec.convert(tree, Truth))
    return folder, truths


def _config(bootstrap: str, truths: list[Truth], port: int) -> Config:
    # On a broker of the user's the demo must meet nothing of theirs, nor of an earlier demo.
    name = f"streamwatch-demo-{uuid4().hex[:8]}"
    return configuration.parse(
        {
            "kafka": {"bootstrap": bootstrap},
            "topics": {"prefix": name, "partitions": PARTITIONS},
            "sources": [
                {"topic": f"{name}.{truth.topic}", "format": truth.format} for truth in truths
            ],
            "ingest": {"group": f"{name}-ingest", "metrics_port": 0, "idle_seconds": 3.0},
            "detect": {"group": f"{name}-detect", "metrics_port": 0},
            "serve": {"port": port},
            "log_level": "warning",
        }
    )


class _Stages:
    """The stages' processes, and what they said."""

    def __init__(self, config: Config, home: Path) -> None:
        file = home / "streamwatch.yaml"
        file.write_text(yaml.safe_dump(msgspec.to_builtins(config)), encoding="utf-8")
        self._logs = {name: home / f"{name}.log" for name in stages(config, file)}
        self._processes = {
            name: subprocess.Popen(  # noqa: S603  # our own commands
                bound_to_this_process(command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._logs[name].open("wb"),
            )
            for name, command in stages(config, file).items()
        }

    def check(self) -> None:
        """Raise StageFailed, with the last it said, when a stage has ended."""
        for name, process in self._processes.items():
            if process.poll() is not None:
                raise StageFailed(f"{name} ended with {process.returncode}: {self.said(name)}")

    def said(self, name: str) -> str:
        """The end of a stage's log, on one line."""
        lines = self._logs[name].read_text(encoding="utf-8", errors="replace").splitlines()
        return " | ".join(lines[-3:]) or "it said nothing"

    def close(self) -> None:
        """Stop all of them."""
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _watch(config: Config, truths: list[Truth], running: _Stages) -> list[Judged]:
    """Wait until both candidates are judged to the end of their captures."""
    signals = _Signals(config)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        running.check()
        judged = [Judged(truth, signals.of(truth), _verdict(config, truth)) for truth in truths]
        if all(one.finished for one in judged) or time.monotonic() > deadline:
            signals.stop()
            return judged
        time.sleep(0.3)


class _Signals:
    """Halt signals, received the way a deployment tool does, in a thread."""

    def __init__(self, config: Config) -> None:
        self._bodies: dict[tuple[str, str], dict[str, Any]] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._receive, args=(config,), daemon=True)
        self._thread.start()

    def of(self, truth: Truth) -> Signal | None:
        """The signal on a capture's candidate, if there was one."""
        body = self._bodies.get((truth.service, truth.candidate))
        return None if body is None else msgspec.convert(body, Signal)

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        self._thread.join(STOP_SECONDS)

    def _receive(self, config: Config) -> None:
        topic = config.topics.name("signals")
        for signal in subscribe(config.kafka.bootstrap, topic=topic, stop=self._stopping.is_set):
            self._bodies[signal.service, signal.release] = signal.body


def _verdict(config: Config, truth: Truth) -> Verdict | None:
    """What the HTTP API says of a candidate; None while it knows nothing."""
    path = f"{truth.environment}/{truth.service}/{truth.candidate}"
    url = f"http://127.0.0.1:{config.serve.port}/v1/verdicts/{path}"
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # our own address
            return msgspec.json.decode(answer.read(), type=Verdict)
    except (urllib.error.URLError, OSError):
        return None


def _told(one: Judged) -> Iterator[str]:
    truth = one.truth
    want = "bad" if truth.bad else "healthy"
    yield ""
    yield f"{truth.service} {truth.baseline} to {truth.candidate} ({want}): {truth.story}"
    if one.verdict is not None:
        yield verdict_line(one.verdict)
    if one.signal is not None:
        yield from signal_lines(one.signal)
        first = (truth.culprit or {}).get("first_bad_tick")
        if first is not None:
            radius = one.signal.blast_radius
            yield (
                f"  halt time     {one.signal.tick - int(first)} s of event time after the first "
                f"bad record at {moment(int(first))}, {radius.records} records of "
                f"{truth.candidate} by then"
            )
    elif one.verdict is None:
        yield "  no verdict was given"
    yield f"  {'as it should be' if one.right else 'WRONG'}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
