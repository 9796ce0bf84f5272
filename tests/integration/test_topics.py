"""Topic administration on a real Kafka."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import orjson
import pytest
from kafka.admin import ConfigResource, KafkaAdminClient

from streamwatch.commands import topics as command
from streamwatch.config import Config, Detect, Kafka, SourceTopic, Topics
from streamwatch.errors import InfrastructureError, TopicMissing
from streamwatch.kafka import topics
from streamwatch.kafka.clients import kafka_python, require_topics, topics_present

if TYPE_CHECKING:
    from pathlib import Path

    from kafka_cluster.choose import RealKafka


@pytest.fixture
def config(kafka: RealKafka, topic_prefix: str) -> Config:
    return Config(
        kafka=Kafka(bootstrap=kafka.bootstrap),
        topics=Topics(prefix=topic_prefix, partitions=3),
        detect=Detect(group=f"{topic_prefix}-detect"),
        sources=(SourceTopic(topic=f"{topic_prefix}-logs"),),
    )


def arguments(config: Config, folder: Path, action: str, *, json: bool) -> argparse.Namespace:
    file = folder / "streamwatch.yaml"
    tree = {
        "kafka": {"bootstrap": config.kafka.bootstrap},
        "topics": {"prefix": config.topics.prefix, "partitions": config.topics.partitions},
        "detect": {"group": config.detect.group},
        "sources": [{"topic": source.topic} for source in config.sources],
    }
    file.write_bytes(orjson.dumps(tree))  # JSON is YAML
    return argparse.Namespace(action=action, sources=False, json=json, config=file)


def test_create_makes_every_topic_as_configured_and_is_idempotent(config: Config) -> None:
    wanted = topics.own_topics(config)

    first = topics.create(config)
    second = topics.create(config)

    assert [(change.topic, change.action) for change in first] == [
        (topic.name, "created") for topic in wanted
    ]
    assert [(change.topic, change.action) for change in second] == [
        (topic.name, "exists") for topic in wanted
    ]
    assert all(change.differences == () for change in second)
    assert topics.check(config) == []
    present = topics_present(config.kafka)
    assert {present[topic.name] for topic in wanted} == {3}
    assert config.sources[0].topic not in present


def test_settings_reach_the_broker(config: Config) -> None:
    topics.create(config)

    with KafkaAdminClient(**kafka_python(config.kafka)) as admin:
        names = [f"{config.topics.prefix}.verdicts", f"{config.topics.prefix}.counts"]
        answer = admin.describe_configs(
            [ConfigResource("TOPIC", name) for name in names], config_filter="all"
        )["topic"]

    assert answer[names[0]]["cleanup.policy"]["value"] == "compact"
    assert answer[names[1]]["cleanup.policy"]["value"] == "delete"
    assert answer[names[1]]["retention.ms"]["value"] == str(24 * 3600 * 1000)


def test_an_existing_topic_is_left_alone_and_its_differences_are_reported(config: Config) -> None:
    name = f"{config.topics.prefix}.verdicts"
    with KafkaAdminClient(**kafka_python(config.kafka)) as admin:
        admin.create_topics({name: {"num_partitions": 1, "replication_factor": 1}})

    change = next(change for change in topics.create(config) if change.topic == name)

    found = {
        difference.setting: (difference.expected, difference.actual)
        for difference in change.differences
    }
    assert change.action == "exists"
    assert found["partitions"] == ("3", "1")
    assert found["cleanup.policy"] == ("compact", "delete")
    assert topics_present(config.kafka)[name] == 1
    assert set(topics.check(config)) == set(change.differences)


def test_check_reports_missing_topics(config: Config) -> None:
    missing = topics.check(config, sources=True)

    assert {difference.topic for difference in missing} == {
        topic.name for topic in topics.own_topics(config) + topics.source_topics(config)
    }
    assert {difference.setting for difference in missing} == {"topic"}


def test_sources_are_created_only_when_asked(config: Config) -> None:
    topics.create(config, sources=True)

    assert topics_present(config.kafka)[config.sources[0].topic] == 3
    assert topics.check(config, sources=True) == []


def test_more_copies_than_brokers_is_one_clear_error(config: Config) -> None:
    too_many = Config(
        kafka=config.kafka,
        topics=Topics(prefix=config.topics.prefix, replication=9),
        detect=config.detect,
    )

    with pytest.raises(InfrastructureError, match=r"cannot create topic .*replication") as caught:
        topics.create(too_many)

    assert "\n" not in str(caught.value)


def test_require_topics_tells_the_fix(config: Config) -> None:
    counts, logs = f"{config.topics.prefix}.counts", config.sources[0].topic

    with pytest.raises(TopicMissing, match="streamwatch topics create") as own:
        require_topics(config, [counts])
    with pytest.raises(TopicMissing, match="correct `sources`") as source:
        require_topics(config, [logs])
    topics.create(config)

    assert counts in str(own.value)
    assert "topics create" not in str(source.value)
    assert require_topics(config, [counts]) == {counts: 3}


def test_the_command_creates_then_checks(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.run(arguments(config, tmp_path, "check", json=True)) == 4
    before = orjson.loads(capsys.readouterr().out)
    assert command.run(arguments(config, tmp_path, "create", json=True)) == 0
    created = orjson.loads(capsys.readouterr().out)
    assert command.run(arguments(config, tmp_path, "check", json=False)) == 0
    after = capsys.readouterr().out

    assert len(before["differences"]) == len(created["topics"]) == 7
    assert {topic["action"] for topic in created["topics"]} == {"created"}
    assert after == "topics are as configured\n"
