"""One small broker of our own, for the demo and for trying things out.

`noida-db` is a single binary that speaks the Kafka protocol. It is started on a free loopback port
with its own data folder and stopped with its context. It is not what production runs on, and
differs from Apache Kafka in three ways that were met:

- It answers a fetch with all it has, whatever limits the client sets. A reader more than 100 MB
  behind gets more than librdkafka accepts (`receive.message.max.bytes`) and never catches up.
- It keeps all data in memory and writes all of it to its folder every few seconds.
- A static group member that returns to a group with a cooperative assignor may be given another
  member's partitions. Static membership with an eager assignor, and cooperative assignment without
  static membership, work.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from streamwatch.config import Kafka
from streamwatch.errors import StageFailed, UsageError
from streamwatch.kafka.clients import Probe

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

_START_SECONDS = 20.0
_STOP_SECONDS = 5.0
_ATTEMPTS = 3
#: The dynamic linker's warning on an older glibc. The binary runs; nobody needs to read it.
_HARMLESS = "weak version"

# Becomes the command after asking the kernel to end it with its parent. Done in a fresh
# interpreter because code between fork and exec is unsafe in a process that has threads.
_LAUNCHER = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the parent has ended")
os.execv(sys.argv[2], sys.argv[2:])
"""


def bound_to_this_process(command: Sequence[str]) -> list[str]:
    """The command line that runs `command` so that it ends when this process does, however it does.

    The kernel watches the thread that starts it: start it from one that lives as long as it should.

    Args:
        command: absolute path of a program, and its arguments.
    """
    return [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), *command]


class EmbeddedBroker:
    """A Kafka-compatible broker in a process of its own, while the context lasts.

    ::

        with EmbeddedBroker() as broker:
            Kafka(bootstrap=broker.bootstrap)

    Args:
        data_dir: where it keeps its data; a temporary folder when None, removed at the end.

    Attributes:
        bootstrap: `host:port`, once entered.
        pid: of the broker's process, once entered.

    Raises:
        UsageError: on entering, when the `embedded` extra is not installed.
        StageFailed: on entering, when the broker ends or does not answer; quotes its log.
    """

    def __init__(self, data_dir: Path | None = None) -> None:
        self.bootstrap = ""
        self.pid = 0
        self._data_dir = data_dir
        self._cleanup = contextlib.ExitStack()

    def __enter__(self) -> Self:
        binary = _binary()
        with contextlib.ExitStack() as cleanup:
            folder = self._data_dir
            if folder is None:
                temporary = tempfile.TemporaryDirectory(
                    prefix="streamwatch-kafka-", ignore_cleanup_errors=True
                )
                folder = Path(cleanup.enter_context(temporary))
            folder.mkdir(parents=True, exist_ok=True)
            self._log = folder / "broker.log"
            # The port is free when it is chosen and may be taken a moment later.
            for attempt in range(1, _ATTEMPTS + 1):
                process, port = self._start(binary, folder, cleanup)
                if self._wait(process, port):
                    break
                if attempt == _ATTEMPTS:
                    raise StageFailed(f"the embedded broker does not start: {self.log()}")
            self.pid = process.pid
            self.bootstrap = f"127.0.0.1:{port}"
            self._cleanup = cleanup.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._cleanup.close()

    def log(self) -> str:
        """The end of what the broker wrote, on one line."""
        text = self._log.read_text(encoding="utf-8", errors="backslashreplace")
        lines = [line.strip() for line in text.splitlines() if _HARMLESS not in line]
        return " | ".join(line for line in lines if line)[-2000:] or "it wrote nothing"

    def _start(
        self, binary: Path, folder: Path, cleanup: contextlib.ExitStack
    ) -> tuple[subprocess.Popen[bytes], int]:
        port = _free_port()
        command = [str(binary), "start", "--data-dir", str(folder), "--only", "kafka"]
        command += ["--kafka-port", str(port), "--host", "127.0.0.1"]
        with self._log.open("wb") as log:
            # A session of its own: Ctrl-C reaches the pipeline first, which still needs the broker.
            process = subprocess.Popen(  # noqa: S603  the command is ours from end to end
                bound_to_this_process(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        cleanup.callback(_stop, process)
        return process, port

    def _wait(self, process: subprocess.Popen[bytes], port: int) -> bool:
        probe = Probe(Kafka(bootstrap=f"127.0.0.1:{port}"))
        deadline = time.monotonic() + _START_SECONDS
        while process.poll() is None:
            if probe.ask(0.2) is not None:
                # Something else may hold the port: it is ours only if ours is still alive.
                return process.poll() is None
            if time.monotonic() > deadline:
                raise StageFailed(
                    f"the embedded broker does not answer within {_START_SECONDS:.0f} s "
                    f"({probe.reason}): {self.log()}"
                )
        return False


def _binary() -> Path:
    package = importlib.util.find_spec("noida_db")
    if package is None or package.origin is None:
        raise UsageError(
            "the embedded broker is not installed: pip install 'streamwatch[embedded]'"
        )
    return Path(package.origin).with_name("noida-db")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _stop(process: subprocess.Popen[bytes]) -> None:
    for request in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, request)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_SECONDS)
            return
