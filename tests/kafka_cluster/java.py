"""Apache Kafka on this machine's Java: fetched once with Maven, started per cluster.

KRaft in combined mode, one to three brokers on free loopback ports, and the failures that tests
need: a broker may be killed, paused, stopped and started again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self
from uuid import uuid4

from streamwatch.config import Kafka
from streamwatch.kafka.clients import Probe
from streamwatch.kafka.embedded import bound_to_this_process

if TYPE_CHECKING:
    from types import TracebackType

HERE = Path(__file__).parent
POM = HERE / "pom.xml"
KAFKA_VERSION = re.findall(r"<kafka\.version>(.+)</kafka\.version>", POM.read_text())[0]
#: Kafka 4 brokers need it.
LEAST_JAVA = 17
_FETCH_SECONDS = 240
_START_SECONDS = 60
_STOP_SECONDS = 20


class ClusterError(Exception):
    """Kafka could not be fetched or started; the message carries the logs."""


def why_not() -> str:
    """What this machine lacks for it, or an empty string."""
    java, maven = shutil.which("java"), shutil.which("mvn")
    if java is None or maven is None:
        return "no java" if java is None else "no mvn"
    answer = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)
    version = re.search(r'version "(\d+)', answer.stderr)
    if version is None or int(version[1]) < LEAST_JAVA:
        return f"java is older than {LEAST_JAVA}: {answer.stderr.splitlines()[:1]}"
    return ""


def libraries() -> Path:
    """The folder with Kafka's jar files, fetched on first use.

    Raises:
        ClusterError: Maven cannot fetch them.
    """
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "streamwatch"
    digest = hashlib.sha256(POM.read_bytes()).hexdigest()[:12]
    folder = caches / f"kafka-{KAFKA_VERSION}-{digest}"
    if folder.exists():
        return folder
    caches.mkdir(parents=True, exist_ok=True)
    sys.stderr.write(f"fetching Apache Kafka {KAFKA_VERSION} with Maven\n")
    # Fetched beside its place and moved, so that an interrupted or parallel fetch leaves no half.
    with tempfile.TemporaryDirectory(dir=caches, ignore_cleanup_errors=True) as scratch:
        jars = Path(scratch) / "jars"
        command = ["mvn", "-q", "-B", "-f", str(POM), "dependency:copy-dependencies"]
        command += [f"-DoutputDirectory={jars}"]
        try:
            answer = subprocess.run(
                command,
                capture_output=True,
                text=True,
                check=False,
                stdin=subprocess.DEVNULL,
                timeout=_FETCH_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise ClusterError(f"Maven did not fetch Kafka in {_FETCH_SECONDS} s") from None
        if answer.returncode != 0:
            raise ClusterError(f"Maven cannot fetch Kafka:\n{answer.stdout}{answer.stderr}")
        with contextlib.suppress(OSError):  # another process was first
            jars.rename(folder)
    return folder


class Broker:
    """One broker of a `JavaCluster`.

    Attributes:
        node: its id, from 1.
        address: `host:port` for clients; the same after a restart.
        secured_port: of the SASL_SSL listener, if the cluster has one.
    """

    def __init__(
        self, node: int, address: str, secured_port: int, settings: Path, log: Path
    ) -> None:
        self.node = node
        self.address = address
        self.secured_port = secured_port
        self._settings = settings
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; returns before it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                bound_to_this_process(_java("kafka.Kafka", str(self._settings))),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self) -> None:
        """End it like a power cut."""
        self._signal(signal.SIGKILL)
        self._end()

    def pause(self) -> None:
        """Freeze it: connections stay open, nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused broker go on."""
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """Shut it down in order; kills it if it does not obey."""
        self._signal(signal.SIGCONT)
        self._signal(signal.SIGTERM)
        try:
            self._end()
        except subprocess.TimeoutExpired:
            self.kill()

    @property
    def running(self) -> bool:
        """Whether its process exists."""
        return self._process is not None and self._process.poll() is None

    def log(self) -> str:
        """The end of its log."""
        text = self._log.read_text(errors="backslashreplace") if self._log.exists() else ""
        return text[-8000:]

    def _signal(self, number: int) -> None:
        if self.running and self._process is not None:
            self._process.send_signal(number)

    def _end(self) -> None:
        if self._process is not None:
            self._process.wait(_STOP_SECONDS)


class Secured(NamedTuple):
    """What a SASL_SSL listener needs.

    Attributes:
        pem: file with a private key (PKCS 8, no password) and its certificate, for `localhost`.
        users: names and passwords.
    """

    pem: Path
    users: dict[str, str]

    def add_listener(self, settings: dict[str, str], port: int) -> None:
        """Extend a broker's settings."""
        listener = f"SASL_SSL://localhost:{port}"
        settings["listeners"] += f",{listener}"
        settings["advertised.listeners"] += f",{listener}"
        settings["listener.security.protocol.map"] += ",SASL_SSL:SASL_SSL"
        users = " ".join(f'user_{name}="{password}"' for name, password in self.users.items())
        module = "org.apache.kafka.common.security.plain.PlainLoginModule"
        prefix = "listener.name.sasl_ssl"
        settings[f"{prefix}.sasl.enabled.mechanisms"] = "PLAIN"
        settings[f"{prefix}.plain.sasl.jaas.config"] = f"{module} required {users};"
        settings[f"{prefix}.ssl.keystore.type"] = "PEM"
        settings[f"{prefix}.ssl.keystore.location"] = str(self.pem)


class JavaCluster:
    """Apache Kafka with its own data folder, while the context lasts.

    Args:
        brokers: 1 to 3.
        secured: also listen with SASL_SSL, mechanism PLAIN, for these users.

    Attributes:
        version: Kafka's.
        brokers: each with `kill`, `pause`, `resume`, `stop`, `start`.

    Raises:
        ClusterError: on entering, when it cannot be fetched or does not answer in time.
    """

    version = KAFKA_VERSION

    def __init__(self, brokers: int = 1, secured: Secured | None = None) -> None:
        self._count = brokers
        self._secured = secured
        self.brokers: list[Broker] = []
        self._cleanup = contextlib.ExitStack()

    @property
    def bootstrap(self) -> str:
        """The addresses of all brokers."""
        return ",".join(broker.address for broker in self.brokers)

    @property
    def secured_bootstrap(self) -> str:
        """The addresses of the SASL_SSL listeners."""
        return ",".join(f"localhost:{broker.secured_port}" for broker in self.brokers)

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as cleanup:
            folder = Path(
                cleanup.enter_context(
                    tempfile.TemporaryDirectory(prefix="kafka-", ignore_cleanup_errors=True)
                )
            )
            self.brokers = self._format(folder)
            for broker in self.brokers:
                cleanup.callback(broker.kill)  # its data goes with it: no need for order
                broker.start()
            self.wait()
            self._cleanup = cleanup.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._cleanup.close()

    def wait(self) -> None:
        """Return once every broker answers clients.

        Raises:
            ClusterError: one ended, or did not answer in time.
        """
        deadline = time.monotonic() + _START_SECONDS
        for broker in self.brokers:
            probe = Probe(Kafka(bootstrap=broker.address))
            while probe.ask(0.5) is None:
                if not broker.running or time.monotonic() > deadline:
                    state = "does not answer" if broker.running else "ended"
                    raise ClusterError(f"broker {broker.node} {state}; its log:\n{broker.log()}")

    def _format(self, folder: Path) -> list[Broker]:
        """Write each broker's settings and format its storage."""
        nodes = range(1, self._count + 1)
        ports = _free_ports(3 * self._count)
        clients, controllers, secured = (
            dict(zip(nodes, ports[each::3], strict=True)) for each in range(3)
        )
        voters = ",".join(f"{node}@127.0.0.1:{port}" for node, port in controllers.items())
        # Kafka's own form: 16 bytes in URL-safe base64.
        cluster_id = "streamwatch" + uuid4().hex[:11]
        brokers = []
        for node in nodes:
            settings = folder / f"broker-{node}.properties"
            lines = _settings(node, clients[node], controllers[node], voters, self._count)
            if self._secured is not None:
                self._secured.add_listener(lines, secured[node])
            lines["log.dirs"] = str(folder / f"data-{node}")
            settings.write_text("".join(f"{key}={value}\n" for key, value in lines.items()))
            command = _java("kafka.tools.StorageTool", "format", "-t", cluster_id)
            answer = subprocess.run(
                [*command, "-c", str(settings)], capture_output=True, text=True, check=False
            )
            if answer.returncode != 0:
                raise ClusterError(f"storage format failed:\n{answer.stdout}{answer.stderr}")
            address = f"127.0.0.1:{clients[node]}"
            log = folder / f"broker-{node}.log"
            brokers.append(Broker(node, address, secured[node], settings, log))
        return brokers


def _settings(node: int, port: int, controller: int, voters: str, brokers: int) -> dict[str, str]:
    return {
        "process.roles": "broker,controller",
        "node.id": str(node),
        "controller.quorum.voters": voters,
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "offsets.topic.replication.factor": str(brokers),
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": str(brokers),
        "transaction.state.log.min.isr": str(min(brokers, 2)),
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": str(brokers),
        "share.coordinator.state.topic.min.isr": str(min(brokers, 2)),
        # Tests start groups all the time and must not wait for members that never come.
        "group.initial.rebalance.delay.ms": "0",
        # A topic that nobody created is a bug that tests must see.
        "auto.create.topics.enable": "false",
        "log.cleaner.dedupe.buffer.size": "10485760",
    }


def _java(main: str, *arguments: str) -> list[str]:
    java = shutil.which("java")
    if java is None:
        raise ClusterError("no java")
    return [
        java,
        "-Xms128m",
        "-Xmx512m",
        "-XX:+UseSerialGC",
        "-Djava.awt.headless=true",
        f"-Dlog4j2.configurationFile={HERE / 'log4j2.properties'}",
        "-cp",
        f"{libraries()}/*",
        main,
        *arguments,
    ]


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
