"""Ingest as processes that are killed, stopped, joined by others and started in vain."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import pytest
from ingest_rig import (
    PARTITIONS,
    Rig,
    assert_ranges_do_not_overlap,
    counted,
    expected,
    log_lines,
    wait_for,
)

from streamwatch.kafka.embedded import EmbeddedBroker

if TYPE_CHECKING:
    from kafka_cluster.choose import RealKafka


def progress(rig: Rig) -> int:
    return sum(max(offset, 0) for offset, _ in rig.committed().values())


def children(pid: int) -> list[int]:
    """Process ids of a process's children that run."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return [child for child in map(int, text.split()) if running(child)]


def running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def moved_on(rig: Rig, begin: int) -> bool:
    return progress(rig) > begin


def test_kill_9_in_the_middle_loses_and_repeats_nothing(
    kafka: RealKafka, topic_prefix: str, tmp_path: Path
) -> None:
    # Small batches and many flushes, so that a kill meets the worker in every state.
    rig = Rig(kafka.bootstrap, topic_prefix, flush_seconds=0.02, batch_messages=200)
    total = 200_000
    rig.produce(log_lines(total))
    moments = random.Random(7)  # noqa: S311  no secret
    killed_at = []
    for _ in range(4):
        process = rig.start(tmp_path, "--worker", "0")
        try:
            begin = progress(rig)
            wait_for(partial(moved_on, rig, begin), "progress")
            time.sleep(moments.uniform(0, 0.3))
        finally:
            process.kill()
            process.wait()
        killed_at.append(progress(rig))
    assert 0 < killed_at[0] < killed_at[-1] < total, "the kills missed the middle"

    process = rig.start(tmp_path, "--worker", "0")
    try:
        wait_for(lambda: progress(rig) == total, "everything", seconds=60)
    finally:
        process.terminate()
    begun = time.monotonic()
    assert process.wait(timeout=15) == 0
    assert time.monotonic() - begun < 10
    batches = rig.batches()
    assert counted(batches) == expected(total)
    assert_ranges_do_not_overlap(batches)


def test_workers_join_and_leave_without_losing_or_repeating(
    kafka: RealKafka, topic_prefix: str
) -> None:
    rig = Rig(kafka.bootstrap, topic_prefix)
    part = 20_000
    rig.produce(log_lines(part))
    with rig.worker(0) as first:
        wait_for(lambda: first.stats.partitions == PARTITIONS, "all partitions")
        rig.produce(log_lines(part, first=part))
        with rig.worker(1) as second:
            rig.produce(log_lines(part, first=2 * part))
            wait_for(lambda: second.stats.partitions == PARTITIONS // 2, "half the partitions")
            assert first.stats.partitions == PARTITIONS // 2
            rig.produce(log_lines(part, first=3 * part))
            wait_for(lambda: progress(rig) == 4 * part, "everything so far")
            assert second.stats.records > 0
            assert second.stop() < 10
        # Its membership is static: the group waits for its return until the session times out.
        wait_for(lambda: first.stats.partitions == PARTITIONS, "the partitions back")
        rig.produce(log_lines(part, first=4 * part))
        wait_for(lambda: progress(rig) == 5 * part, "the rest")
    assert (first.error, second.error) == (None, None)
    batches = rig.batches()
    assert counted(batches) == expected(5 * part)
    assert_ranges_do_not_overlap(batches)


def test_several_workers_under_one_command(
    kafka: RealKafka, topic_prefix: str, tmp_path: Path
) -> None:
    rig = Rig(kafka.bootstrap, topic_prefix)
    total = 40_000
    rig.produce(log_lines(total // 2))
    parent = rig.start(tmp_path, "--workers", "2")
    try:
        wait_for(lambda: progress(rig) == total // 2, "the first half")
        before = children(parent.pid)
        assert len(before) == 2
        os.kill(before[0], signal.SIGKILL)
        rig.produce(log_lines(total // 2, first=total // 2))
        wait_for(lambda: progress(rig) == total, "the second half")
        wait_for(lambda: len(children(parent.pid)) == 2, "the killed worker's successor")
        assert children(parent.pid) != before
    finally:
        parent.terminate()
    assert parent.wait(timeout=12) == 0
    assert counted(rig.batches()) == expected(total)
    assert (tmp_path / "ingest.log").read_text().count("starting it again") == 1


def test_killing_the_parent_leaves_no_orphan(
    kafka: RealKafka, topic_prefix: str, tmp_path: Path
) -> None:
    rig = Rig(kafka.bootstrap, topic_prefix)
    rig.produce(log_lines(1_000))
    parent = rig.start(tmp_path, "--workers", "2")
    wait_for(lambda: len(children(parent.pid)) == 2, "two workers")
    wait_for(lambda: progress(rig) == 1_000, "progress")
    orphans = children(parent.pid)
    parent.kill()
    parent.wait()
    wait_for(lambda: not any(map(running, orphans)), "the workers' end", seconds=10)


def ingest(tmp_path: Path, bootstrap: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    config = tmp_path / "streamwatch.yaml"
    config.write_bytes(
        orjson.dumps(
            {
                "kafka": {"bootstrap": bootstrap, "connect_timeout_seconds": 1},
                "sources": [{"topic": "no-such-logs"}],
                "topics": {"prefix": "no-such-prefix"},
                "ingest": {"metrics_port": 0},
            }
        )
    )
    command = [sys.executable, "-m", "streamwatch.cli", "ingest", "-c", str(config), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize("arguments", [["--worker", "0"], ["--workers", "2"]])
def test_a_missing_broker_is_one_line_and_exit_code_4(tmp_path: Path, arguments: list[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    ended = ingest(tmp_path, address, *arguments)
    assert ended.returncode == 4
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"streamwatch: Kafka at {address} does not answer")


@pytest.mark.parametrize("arguments", [["--worker", "0"], ["--workers", "2"]])
def test_missing_topics_are_one_line_and_exit_code_4(
    kafka: RealKafka, tmp_path: Path, arguments: list[str]
) -> None:
    ended = ingest(tmp_path, kafka.bootstrap, *arguments)
    assert ended.returncode == 4
    (line,) = ended.stderr.splitlines()
    assert "no-such-logs" in line
    assert "no-such-prefix.counts" in line


def test_wrong_calls_are_one_line_and_exit_code_2(tmp_path: Path) -> None:
    for arguments in (["--workers", "0"], ["--worker", "-1"]):
        ended = ingest(tmp_path, "localhost:1", *arguments)
        assert ended.returncode == 2
        assert len(ended.stderr.splitlines()) == 1


def test_a_stop_while_no_broker_answers_ends_in_time(topic_prefix: str, tmp_path: Path) -> None:
    with EmbeddedBroker() as broker:
        rig = Rig(broker.bootstrap, topic_prefix)
        rig.produce(log_lines(1_000))
        process = rig.start(tmp_path, "--worker", "0")
        try:
            wait_for(lambda: progress(rig) == 1_000, "progress")
            os.kill(broker.pid, signal.SIGSTOP)
            time.sleep(1)
            begun = time.monotonic()
            process.terminate()
            process.wait(timeout=20)
            assert time.monotonic() - begun < 10
        finally:
            process.kill()
            os.kill(broker.pid, signal.SIGCONT)
