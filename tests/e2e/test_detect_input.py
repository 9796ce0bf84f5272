"""What detect takes from the counts topic, and what not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from confluent_kafka import Producer
from pipeline_rig import PARTITIONS, Pipeline, wait_for

from streamwatch.counts import encode
from streamwatch.deadletters import DeadLetter
from streamwatch.detect.verdict import decode_verdict
from streamwatch.kafka.clients import librdkafka
from traffic import START, batch, watermarks

if TYPE_CHECKING:
    from pathlib import Path

    from kafka_cluster.choose import RealKafka


def test_aborted_counts_are_not_judged_and_unreadable_ones_are_dead_letters(
    kafka: RealKafka, topic_prefix: str, tmp_path: Path
) -> None:
    pipeline = Pipeline(kafka.bootstrap, topic_prefix, tmp_path)
    counts = pipeline.config.topics.name("counts")
    settings = {"transactional.id": f"{topic_prefix}-test", "partitioner": "murmur2_random"}
    producer = Producer(librdkafka(pipeline.config.kafka) | settings)
    producer.init_transactions(30)

    def count(service: str) -> None:
        rows = [(tick, "1.0", "a", 10, 10) for tick in (START, START + 40)]
        message = batch(0, 1, rows, service=service)
        producer.produce(counts, encode(message), message.key.encode())
        for partition in range(PARTITIONS):
            producer.produce(counts, encode(watermarks(START + 100)), partition=partition)
        producer.flush(10)

    producer.begin_transaction()
    count("ghost")
    producer.abort_transaction(30)
    producer.begin_transaction()
    producer.produce(counts, b"not counts", b"production|real")
    count("real")
    producer.commit_transaction(30)

    with pipeline.running("detect"):
        wait_for(lambda: bool(pipeline.read("verdicts")), "a verdict")
        wait_for(lambda: bool(pipeline.read("dead-letter")), "a dead letter")
    verdicts = [decode_verdict(message.value()) for message in pipeline.read("verdicts")]
    assert {verdict.service for verdict in verdicts} == {"real"}
    (message,) = pipeline.read("dead-letter")
    letter = msgspec.json.decode(message.value(), type=DeadLetter)
    assert (letter.reason, letter.topic, letter.value) == ("undecodable", counts, "not counts")
