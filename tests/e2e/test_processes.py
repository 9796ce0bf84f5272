"""The commands as processes: one supervisor for all, clean stops, clear last words."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Consumer, TopicPartition
from pipeline_rig import PARTITIONS, Pipeline, captured, wait_for

from streamwatch.client import subscribe
from streamwatch.kafka.produce import produce

if TYPE_CHECKING:
    from pathlib import Path

    from kafka_cluster.choose import RealKafka

NAME = "sqlalchemy-upgrade"


@pytest.fixture
def pipeline(kafka: RealKafka, topic_prefix: str, tmp_path: Path) -> Pipeline:
    return Pipeline(kafka.bootstrap, topic_prefix, tmp_path, idle_seconds=3.0)


def behind(pipeline: Pipeline) -> int:
    """Messages of the counts topic that detect has not committed."""
    consumer = Consumer(
        {
            "bootstrap.servers": pipeline.config.kafka.bootstrap,
            "group.id": pipeline.config.detect.group,
        }
    )
    topic = pipeline.config.topics.name("counts")
    places = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]
    left = 0
    for entry in consumer.committed(places, timeout=10):
        _, end = consumer.get_watermark_offsets(entry, timeout=10)
        # A transaction's end marker takes an offset of its own, which no consumer ever sees.
        left += max(0, end - 1 - max(entry.offset, 0))
    consumer.close()
    return left


def stop(process: subprocess.Popen[bytes]) -> float:
    begin = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == 0
    return time.monotonic() - begin


def test_all_stages_under_one_supervisor(pipeline: Pipeline) -> None:
    produce(pipeline.config.kafka, pipeline.topics[NAME], iter(captured(NAME)))
    with pipeline.running("run") as processes:
        wait_for(lambda: bool(pipeline.signals()), "the halt signal")
        assert "serving on http://127.0.0.1:" in pipeline.said("run")
        assert stop(processes["run"]) < 10
    left = subprocess.run(["pgrep", "-f", str(pipeline.file)], capture_output=True, check=False)
    assert left.stdout == b""


def test_detect_stops_with_everything_committed(pipeline: Pipeline) -> None:
    produce(pipeline.config.kafka, pipeline.topics[NAME], iter(captured(NAME)))
    with pipeline.running("ingest", "detect") as processes:
        wait_for(lambda: bool(pipeline.signals()), "the halt signal")
        assert stop(processes["ingest"]) < 10
        time.sleep(2)
        assert stop(processes["detect"]) < 10
    assert behind(pipeline) == 0


def test_subscriber_gets_each_signal_once(pipeline: Pipeline) -> None:
    produce(pipeline.config.kafka, pipeline.topics[NAME], iter(captured(NAME)))
    with pipeline.running("ingest", "detect"):
        wait_for(lambda: bool(pipeline.signals()), "the halt signal")
    bootstrap, topic = pipeline.config.kafka.bootstrap, pipeline.config.topics.name("signals")

    def received(group: str | None) -> list[str]:
        deadline = time.monotonic() + 8
        signals = subscribe(
            bootstrap, topic=topic, group=group, stop=lambda: time.monotonic() > deadline
        )
        return [f"{signal.kind} {signal.service} {signal.release}" for signal in signals]

    assert received(None) == ["halt checkout 3.5.0"]
    assert received(f"{topic}-deployer") == ["halt checkout 3.5.0"]
    assert received(f"{topic}-deployer") == []  # its group has it already


@pytest.mark.parametrize("stage", ["detect", "serve", "run"])
def test_missing_topics_are_one_line_and_exit_code_4(
    kafka: RealKafka, tmp_path: Path, stage: str
) -> None:
    file = tmp_path / "streamwatch.yaml"
    file.write_text(f"kafka: {{bootstrap: '{kafka.bootstrap}'}}\ntopics: {{prefix: nowhere}}\n")
    command = [sys.executable, "-m", "streamwatch.cli", stage, "--config", str(file)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 4
    assert ended.stderr.count("\n") == 1
    assert "nowhere." in ended.stderr
    assert "streamwatch topics create" in ended.stderr


def test_demo_halts_the_bad_release_and_passes_the_healthy_one() -> None:
    command = [sys.executable, "-m", "streamwatch.cli", "demo"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "HALT" in ended.stdout
    assert "blast radius" in ended.stdout
    assert "Successful    catalog 1.13.0" in ended.stdout
    assert "WRONG" not in ended.stdout
    assert "GLIBC" not in ended.stderr
