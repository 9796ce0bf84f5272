"""Runs a real rollout of a real service and records its logs: `python make.py bad --out DIR`.

Builds both releases, starts the baseline's instances, lets customers loose on them, replaces
instances by ones of the candidate step by step, and ships everybody's logs into one capture:
JSON lines, one per Kafka message, compressed. Takes as long as the rollout does.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import platform
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import truth
import yaml
from backports import zstd
from build import HERE, Build, build
from shipper import Shipper

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = HERE.parents[1]
INSTANCES = 5
BASELINE_SECONDS = 90.0
STEP_SECONDS = (100.0, 160.0)
DRAIN_SECONDS = 2.0
START_SECONDS = 30.0
# So chosen that the baselines' instances meet all partitions.
NAME_SEED = 32
NAME_LETTERS = "bcdfghjklmnpqrstvwxz2456789"


@dataclass(frozen=True)
class Scenario:
    """One rollout to record."""

    file: str
    service: str
    baseline: str
    candidate: str
    bad: bool
    format: str
    topic: str
    story: str


SCENARIOS = {
    "bad": Scenario(
        file="sqlalchemy-upgrade",
        service="checkout",
        baseline="3.4.1",
        candidate="3.5.0",
        bad=True,
        format="otlp_json",
        topic="otlp_logs",
        story="SQLAlchemy 1.4 to 2.0, the same code: a raw SQL string is no longer executed.",
    ),
    "healthy": Scenario(
        file="healthy",
        service="catalog",
        baseline="1.12.0",
        candidate="1.13.0",
        bad=False,
        format="json",
        topic="logs",
        story="A small feature, reworded messages (one of them an error), two dependency updates.",
    ),
}


class Rollout:
    """The running system: instances behind a members file, third parties, customers."""

    def __init__(self, scenario: Scenario, run: Path, builds: dict[str, Build]) -> None:
        self.scenario = scenario
        self.run = run
        self.builds = builds
        self.logs = run / "logs"
        self.members = run / "members.json"
        self.database = run / "shop.sqlite"
        self.third_party_port = _free_port()
        self._instances: dict[str, tuple[subprocess.Popen[bytes], int]] = {}
        self._helpers: list[subprocess.Popen[bytes]] = []

    def prepare(self) -> None:
        """Database and third parties."""
        self.logs.mkdir(parents=True)
        builder = self.builds[self.scenario.baseline]
        self._python(builder, "shop.models", str(self.database)).wait()
        server = self._python(builder, "shop.third_party_server", str(self.third_party_port))
        self._helpers.append(server)
        _wait_for(self.third_party_port, server)

    def start(self, release: str, number: int) -> str:
        """Start one instance and wait until it answers; its name."""
        name = _pod_name(self.scenario.service, release, number)
        port = _free_port()
        process = self._python(
            self.builds[release],
            *("shop.serve", self.scenario.service, "--release", release, "--instance", name),
            *("--port", str(port), "--database", str(self.database)),
            *("--log", str(self.logs / f"{name}.log")),
        )
        self._instances[name] = (process, port)
        _wait_for(port, process)
        return name

    def publish(self, names: list[str]) -> None:
        """Tell the customers' load balancer where to send requests."""
        urls = [f"http://127.0.0.1:{self._instances[name][1]}" for name in names]
        draft = self.members.with_suffix(".new")
        draft.write_text(json.dumps(urls), encoding="utf-8")
        draft.replace(self.members)

    def open_doors(self) -> None:
        """Let the customers in."""
        visitors = str(HERE / "visitors.py")
        command = [sys.executable, visitors, self.scenario.service]
        self._helpers.append(subprocess.Popen([*command, "--members", str(self.members)]))

    def retire(self, name: str) -> None:
        """Stop one instance that gets no more requests."""
        process, _ = self._instances.pop(name)
        process.terminate()
        process.wait(timeout=START_SECONDS)

    def close(self) -> None:
        """Stop everything, the customers first."""
        for process in reversed(self._helpers):
            process.terminate()
            process.wait(timeout=START_SECONDS)
        for name in list(self._instances):
            self.retire(name)

    def _python(self, made: Build, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(made.app),
            "PYTHONUNBUFFERED": "1",
            "THIRD_PARTY_PORT": str(self.third_party_port),
        }
        return subprocess.Popen([made.python, "-m", module, *arguments], env=environment)


@contextlib.contextmanager
def rollout(scenario: Scenario, run: Path, builds: dict[str, Build]) -> Iterator[Rollout]:
    """A prepared rollout that leaves nothing running."""
    running = Rollout(scenario, run, builds)
    try:
        running.prepare()
        yield running
    finally:
        running.close()


def record(
    scenario: Scenario, cache: Path, scale: float
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Run the rollout; its messages, and its steps: when which share began."""
    releases = (scenario.baseline, scenario.candidate)
    builds = {release: build(scenario.service, release, cache) for release in releases}
    run = cache / f"run-{scenario.file}"
    shutil.rmtree(run, ignore_errors=True)
    shipper = Shipper(
        run / "logs",
        scenario.topic,
        keyed=scenario.format == "json",
        paths={str(cache): "/opt", sys.base_prefix: "/usr/local"},
    )
    steps: list[dict[str, Any]] = []
    with rollout(scenario, run, builds) as running:
        shipper.start()
        serving = [running.start(scenario.baseline, number) for number in range(INSTANCES)]
        running.publish(serving)
        running.open_doors()
        _narrate(f"{scenario.service} {scenario.baseline} serves")
        time.sleep(BASELINE_SECONDS * scale)
        for number, seconds in enumerate(STEP_SECONDS):
            started = running.start(scenario.candidate, number)
            leaving, serving = serving[0], [*serving[1:], started]
            running.publish(serving)
            steps.append({"at": round(time.time(), 3), "share": (number + 1) / INSTANCES})
            _narrate(f"{scenario.candidate} at {steps[-1]['share']:.0%}")
            time.sleep(DRAIN_SECONDS)
            running.retire(leaving)
            time.sleep(seconds * scale)
    return shipper.stop(), steps


def describe(
    scenario: Scenario, messages: list[dict[str, Any]], steps: list[dict[str, Any]]
) -> dict[str, Any]:
    """The ground truth of a capture."""
    found = list(truth.entries(messages))
    releases = truth.per_release(found)
    ends = [step["at"] for step in steps[1:]] + [max(entry.seconds for entry in found)]
    for step, end in zip(steps, ends, strict=True):
        step["measured_share"] = truth.share(found, scenario.candidate, step["at"], end)
    bad = truth.culprit(found, scenario.baseline, scenario.candidate) if scenario.bad else None
    return {
        "capture": f"{scenario.file}.jsonl.zst",
        "story": scenario.story,
        "format": scenario.format,
        "topic": scenario.topic,
        "service": scenario.service,
        "environment": "production",
        "baseline": scenario.baseline,
        "candidate": scenario.candidate,
        "bad": scenario.bad,
        "culprit": bad,
        "candidate_first_record": releases[scenario.candidate]["first_record"],
        "steps": steps,
        "messages": len(messages),
        "records": len(found),
        "releases": releases,
        "instances": truth.per_instance(found),
        "dependencies": _dependencies(scenario),
        "made_with": {
            "command": f"python benchmarks/captures/make.py {'bad' if scenario.bad else 'healthy'}",
            "python": platform.python_version(),
            "sqlite": sqlite3.sqlite_version,
        },
    }


def _dependencies(scenario: Scenario) -> dict[str, Any]:
    cache = Path()
    base, candidate = (
        Build(f"{scenario.service}-{release}", cache).requirements
        for release in (scenario.baseline, scenario.candidate)
    )
    return {
        "same": [pin for pin in base if pin in candidate],
        scenario.baseline: [pin for pin in base if pin not in candidate],
        scenario.candidate: [pin for pin in candidate if pin not in base],
    }


def _pod_name(service: str, release: str, number: int) -> str:
    def letters(text: str, length: int) -> str:
        digest = hashlib.sha256(f"{NAME_SEED}{text}".encode()).digest()
        return "".join(NAME_LETTERS[byte % len(NAME_LETTERS)] for byte in digest[:length])

    replica_set = letters(f"{service}{release}", 10)
    return f"{service}-{replica_set}-{letters(f'{service}{release}{number}', 5)}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"nothing listens on port {port}: {process.args!r}")


def _narrate(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Make one capture and its ground truth."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scenario", choices=SCENARIOS)
    parser.add_argument("--out", type=Path, default=HERE, help="folder that gets the two files")
    parser.add_argument("--cache", type=Path, default=REPOSITORY / ".cache" / "captures")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="factor on the length of every step, to try it"
    )
    arguments = parser.parse_args()
    scenario = SCENARIOS[arguments.scenario]
    arguments.out.mkdir(parents=True, exist_ok=True)
    messages, steps = record(scenario, arguments.cache.resolve(), arguments.scale)
    facts = describe(scenario, messages, steps)
    text = "".join(json.dumps(message, ensure_ascii=False) + "\n" for message in messages)
    capture = arguments.out / f"{scenario.file}.jsonl.zst"
    capture.write_bytes(zstd.compress(text.encode("utf-8"), 19))
    (arguments.out / f"{scenario.file}.truth.yaml").write_text(
        yaml.safe_dump(facts, sort_keys=False, allow_unicode=True), encoding="utf-8"
    )
    print(
        f"{capture.name}: {len(messages)} messages, {facts['records']} records,"
        f" {capture.stat().st_size} bytes"
    )


if __name__ == "__main__":
    main()
