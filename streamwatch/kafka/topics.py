"""streamwatch's own topics, as data, and the two things done with them: create and check.

An existing topic is never changed: what differs from the configuration is reported, and changing a
topic that holds data stays a decision of the people who run it.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import msgspec
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from kafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from streamwatch.errors import InfrastructureError
from streamwatch.kafka.clients import kafka_python, topics_present

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from streamwatch.config import Config

#: Name of detect's Faust table; its changelog topic is named after it.
DETECT_TABLE = "detect-state"

_HOUR_MS = 3_600_000
#: A reader of a compacted topic starts by reading all of it, so it must stay near one record a key:
#: segments roll every ten minutes and are cleaned when a tenth of them is outdated.
_COMPACT = {
    "cleanup.policy": "compact",
    "segment.ms": "600000",
    "segment.bytes": "67108864",
    "min.cleanable.dirty.ratio": "0.1",
    "max.compaction.lag.ms": str(_HOUR_MS),
}

_FOR_EVER = {"cleanup.policy": "delete", "retention.ms": "-1"}

#: A row of detect's table holds all the fingerprints of a service: megabytes when there are many.
LARGEST_ROW = 8_388_608
_LARGE_ROWS = {"max.message.bytes": str(LARGEST_ROW)}


class Topic(msgspec.Struct, frozen=True):
    """A topic as it should be.

    Attributes:
        name: in full.
        partitions: how many.
        replication: copies of every partition.
        settings: Kafka's topic settings that matter here, as Kafka writes them; the others are the
            broker's defaults.
    """

    name: str
    partitions: int
    replication: int
    settings: dict[str, str]


class Difference(msgspec.Struct, frozen=True):
    """One way in which a topic is not as configured.

    Attributes:
        topic: its name.
        setting: `topic` when it is missing, `partitions`, `replication` or a Kafka topic setting.
        expected: what the configuration asks for.
        actual: what is there.
    """

    topic: str
    setting: str
    expected: str
    actual: str


class Change(msgspec.Struct, frozen=True):
    """What `create` did about one topic.

    Attributes:
        topic: its name.
        action: whether it was made now or already there.
        differences: how a topic that was there differs from the configuration.
    """

    topic: str
    action: Literal["created", "exists"]
    differences: tuple[Difference, ...] = ()


def detect_changelog(config: Config) -> str:
    """Name of the changelog topic of detect's Faust table."""
    return f"{config.detect.group}-{DETECT_TABLE}-changelog"


def own_topics(config: Config) -> list[Topic]:
    """Every topic that streamwatch itself writes.

    All have the same number of partitions. Faust needs that of counts, deployments and the
    changelog, and the others follow because their keys are the same.
    """
    topics = config.topics
    return [
        _topic(config, topics.name("counts"), _kept(topics.counts_retention_hours)),
        _topic(config, topics.name("dead-letter"), _kept(topics.dead_letter_retention_hours)),
        _topic(config, topics.name("deployments"), _kept(topics.deployments_retention_hours)),
        _topic(config, topics.name("verdicts"), _COMPACT),
        _topic(config, topics.name("signals"), _kept(topics.signals_retention_hours)),
        _topic(config, topics.name("fingerprints"), _COMPACT),
        _topic(config, detect_changelog(config), _COMPACT | _LARGE_ROWS),
    ]


def source_topics(config: Config) -> list[Topic]:
    """The log topics, as they are made for development; in production they belong to others.

    They keep everything: brokers go by the messages' own timestamps, so that a capture of last
    month would be deleted as soon as it is played.
    """
    return [
        Topic(source.topic, config.topics.partitions, config.topics.replication, _FOR_EVER)
        for source in config.sources
    ]


def create(config: Config, *, sources: bool = False) -> list[Change]:
    """Make the topics that are missing, and report how the others differ. Idempotent.

    Args:
        config: names, sizes, retention and the brokers.
        sources: make missing log topics too; those that exist are not compared.

    Returns:
        One change per topic, in the order of `own_topics` and then `source_topics`.

    Raises:
        BrokerUnreachable: no broker answered in time, or one refused the credentials.
        InfrastructureError: a broker refused to make or to describe a topic.
        ConfigError: a secret or certificate file cannot be used.
    """
    own = own_topics(config)
    wanted = own + (source_topics(config) if sources else [])
    present = topics_present(config.kafka)
    with _admin(config) as admin:
        missing = [topic for topic in wanted if topic.name not in present]
        created = _create(admin, missing)
        differences = _compare(admin, [topic for topic in own if topic.name not in created])
    return [
        Change(topic.name, "created")
        if topic.name in created
        else Change(
            topic.name,
            "exists",
            tuple(difference for difference in differences if difference.topic == topic.name),
        )
        for topic in wanted
    ]


def check(config: Config, *, sources: bool = False) -> list[Difference]:
    """How the topics differ from the configuration; a missing topic is one difference.

    Args:
        config: names, sizes, retention and the brokers.
        sources: report missing log topics too.

    Raises:
        BrokerUnreachable: no broker answered in time, or one refused the credentials.
        InfrastructureError: a broker refused to describe a topic.
        ConfigError: a secret or certificate file cannot be used.
    """
    own = own_topics(config)
    wanted = own + (source_topics(config) if sources else [])
    present = topics_present(config.kafka)
    missing = [
        Difference(topic.name, "topic", "present", "missing")
        for topic in wanted
        if topic.name not in present
    ]
    with _admin(config) as admin:
        return missing + _compare(admin, [topic for topic in own if topic.name in present])


def _topic(config: Config, name: str, settings: dict[str, str]) -> Topic:
    return Topic(
        name,
        config.topics.partitions,
        config.topics.replication,
        settings | {"min.insync.replicas": str(config.topics.min_insync_replicas)},
    )


def _kept(hours: int) -> dict[str, str]:
    return {"cleanup.policy": "delete", "retention.ms": str(hours * _HOUR_MS)}


@contextmanager
def _admin(config: Config) -> Iterator[KafkaAdminClient]:
    try:
        admin = KafkaAdminClient(**kafka_python(config.kafka))
        try:
            yield admin
        finally:
            admin.close()
    except KafkaError as error:
        text = " ".join(str(error).split())
        raise InfrastructureError(f"topics at {config.kafka.bootstrap}: {text}") from None


def _create(admin: KafkaAdminClient, topics: Sequence[Topic]) -> set[str]:
    if not topics:
        return set()
    request = {
        topic.name: {
            "num_partitions": topic.partitions,
            "replication_factor": topic.replication,
            "configs": topic.settings,
        }
        for topic in topics
    }
    answer = admin.create_topics(request, raise_errors=False)
    created = set()
    for topic in answer["topics"]:
        if topic["error_code"] == 0:
            created.add(topic["name"])
        elif topic["error_code"] != TopicAlreadyExistsError.errno:  # another process was first
            reason = topic.get("error_message") or for_code(topic["error_code"]).__name__
            raise InfrastructureError(f"cannot create topic {topic['name']}: {reason}")
    admin.wait_for_topics(sorted(created))
    return created


def _compare(admin: KafkaAdminClient, topics: Sequence[Topic]) -> list[Difference]:
    if not topics:
        return []
    described = {
        topic["name"]: topic["partitions"]
        for topic in admin.describe_topics([topic.name for topic in topics])
    }
    resources = [
        ConfigResource(ConfigResourceType.TOPIC, topic.name, list(topic.settings))
        for topic in topics
    ]
    settings = admin.describe_configs(resources, config_filter="all")["topic"]
    differences = []
    for topic in topics:
        partitions = described[topic.name]
        pairs = [
            ("partitions", str(topic.partitions), str(len(partitions))),
            ("replication", str(topic.replication), str(len(partitions[0]["replica_nodes"]))),
        ]
        pairs += [
            (key, expected, str(settings[topic.name].get(key, {}).get("value")))
            for key, expected in topic.settings.items()
        ]
        differences += [
            Difference(topic.name, setting, expected, actual)
            for setting, expected, actual in pairs
            if expected != actual
        ]
    return differences
