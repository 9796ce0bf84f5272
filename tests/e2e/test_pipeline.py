"""Log topics in, halt signal out, on a real Kafka: undisturbed, and with processes killed."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

import msgspec
import pytest
from pipeline_rig import CAPTURES, SOURCES, Pipeline, captured, wait_for, without_examples

from pipelines import replay
from streamwatch.config import Config
from streamwatch.detect.verdict import decode_verdict
from streamwatch.kafka.produce import produce
from streamwatch.signals.envelope import Signal, headers

if TYPE_CHECKING:
    from pathlib import Path

    from kafka_cluster.choose import RealKafka


def replayed(name: str) -> list[Signal]:
    files = [CAPTURES / f"{name}.jsonl.zst"]
    player = replay.prepare(Config(), files)
    outputs = player.play(replay.messages(files, lambda _path, _read: None))
    return [output for output in outputs if isinstance(output, Signal)]


@pytest.fixture
def pipeline(kafka: RealKafka, topic_prefix: str, tmp_path: Path) -> Pipeline:
    return Pipeline(kafka.bootstrap, topic_prefix, tmp_path, idle_seconds=3.0)


def judged_to_the_end(pipeline: Pipeline, service: str, tick: int) -> bool:
    verdicts = [decode_verdict(message.value()) for message in pipeline.read("verdicts")]
    return any(verdict.service == service and verdict.tick >= tick for verdict in verdicts)


def last_tick(name: str) -> int:
    return captured(name)[-1].timestamp // 1000  # type: ignore[operator]  # captures have one


def test_same_signals_through_kafka_and_replay(pipeline: Pipeline) -> None:
    for name in SOURCES:
        produce(pipeline.config.kafka, pipeline.topics[name], iter(captured(name)))
    with pipeline.running("ingest", "detect"):
        wait_for(
            lambda: judged_to_the_end(pipeline, "catalog", last_tick("healthy") - 10),
            "the healthy capture to be judged to its end",
        )
        wait_for(lambda: bool(pipeline.signals()), "the halt signal")
    live = [without_examples(signal) for signal in pipeline.signals()]
    offline = [without_examples(s) for name in SOURCES for s in replayed(name)]
    assert live == offline
    assert [signal["service"] for signal in live] == ["checkout"]
    (message,) = pipeline.read("signals")
    signal = pipeline.signals()[0]
    assert message.headers() == headers(signal)
    assert message.key() == b"production|checkout"


def test_catalogue_describes_what_halted_the_release(pipeline: Pipeline) -> None:
    name = "sqlalchemy-upgrade"
    produce(pipeline.config.kafka, pipeline.topics[name], iter(captured(name)))
    with pipeline.running("ingest", "detect"):
        wait_for(lambda: bool(pipeline.signals()), "the halt signal")
    culprit = pipeline.signals()[0].evidence.fingerprints[0]
    entries = {}
    for message in pipeline.read("fingerprints"):
        entries[message.key().decode()] = msgspec.json.decode(message.value())
    entry = entries[f"production|checkout|{culprit.group}"]
    assert entry["type"] == "sqlalchemy.exc.ArgumentError"
    assert entry["releases"] == ["3.5.0"]
    assert "shop.shipping.rates_for" in entry["frame"]


@pytest.mark.slow
def test_kill_9_of_ingest_and_detect_loses_and_repeats_nothing(
    kafka: RealKafka, topic_prefix: str, tmp_path: Path
) -> None:
    # While a process restarts nothing is read: no partition may be taken for idle meanwhile.
    pipeline = Pipeline(kafka.bootstrap, topic_prefix, tmp_path, idle_seconds=12.0)
    messages = {name: captured(name) for name in SOURCES}
    slices = 20
    with pipeline.running("ingest", "detect") as processes:
        for number in range(slices):
            for name, all_of_it in messages.items():
                size = -(-len(all_of_it) // slices)
                part = all_of_it[number * size : (number + 1) * size]
                produce(pipeline.config.kafka, pipeline.topics[name], iter(part))
            time.sleep(0.5)
            for stage, moments in {"ingest": (5, 11), "detect": (7, 13)}.items():
                if number in moments:
                    processes[stage].kill()
                    processes[stage].wait()
                    processes[stage] = pipeline.start(stage)
        wait_for(
            lambda: judged_to_the_end(pipeline, "catalog", last_tick("healthy") - 10),
            "the healthy capture to be judged to its end",
            120,
        )
        wait_for(lambda: bool(pipeline.signals()), "the halt signal")
    produced = sum((pipeline.produced(name) for name in SOURCES), Counter())
    assert pipeline.counted() == produced
    assert pipeline.read("dead-letter") == []
    by_id = {signal.id: without_examples(signal) for signal in pipeline.signals()}
    undisturbed = {s.id: without_examples(s) for name in SOURCES for s in replayed(name)}
    assert by_id == undisturbed
