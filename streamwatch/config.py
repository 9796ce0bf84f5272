"""`streamwatch.yaml`: one typed tree of settings, each overridable by environment.

The key `ingest.flush_seconds` is overridden by `STREAMWATCH_INGEST__FLUSH_SECONDS`; the value is
read as YAML. Unknown keys are errors. `streamwatch check-config --print-default` writes the file
with every default and its comment.
"""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import yaml
from msgspec import Meta

from streamwatch.errors import ConfigError
from streamwatch.policy import Policies

if TYPE_CHECKING:
    from collections.abc import Mapping

ENVIRONMENT_PREFIX = "STREAMWATCH_"

Port = Annotated[int, Meta(ge=0, le=65535)]
Positive = Annotated[int, Meta(ge=1)]
PositiveSeconds = Annotated[float, Meta(gt=0)]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of the configuration: immutable, and strict about its keys.

    Subclasses inherit both; they repeat `frozen` for type checkers, which do not know that.
    """


class Security(Section, frozen=True):
    """How to reach the brokers. Secrets are named by file, never written here.

    Attributes:
        protocol: Kafka's security protocol.
        sasl_mechanism: only with a SASL protocol.
        username_file: file whose content is the SASL user name.
        password_file: file whose content is the SASL password.
        ca_file: PEM file of the authorities that sign the brokers' certificates.
        certificate_file: PEM client certificate, for mTLS.
        key_file: PEM client key, for mTLS.
    """

    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    username_file: str | None = None
    password_file: str | None = None
    ca_file: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None


class Kafka(Section, frozen=True):
    """Where Kafka is.

    Attributes:
        bootstrap: `host:port`, several separated by commas.
        connect_timeout_seconds: how long a start-up waits for a broker before it gives up.
        session_timeout_seconds: silence after which the group takes a worker for dead.
        security: protocol and credentials.
    """

    bootstrap: str = "localhost:9092"
    connect_timeout_seconds: PositiveSeconds = 15.0
    session_timeout_seconds: PositiveSeconds = 15.0
    security: Security = Security()


class Topics(Section, frozen=True):
    """streamwatch's own topics: `<prefix>.counts`, `.verdicts`, `.signals` and so on.

    Attributes:
        prefix: first part of every name.
        partitions: of counts, deployments and detect's changelog; the most detect workers.
        replication: copies of every partition.
        min_insync_replicas: copies that must confirm a write.
        counts_retention_hours: how long counts are kept.
        signals_retention_hours: how long signals are kept.
        dead_letter_retention_hours: how long dead letters are kept.
        deployments_retention_hours: how long deployment events are kept.
    """

    prefix: str = "streamwatch"
    partitions: Positive = 8
    replication: Positive = 1
    min_insync_replicas: Positive = 1
    counts_retention_hours: Positive = 24
    signals_retention_hours: Positive = 720
    dead_letter_retention_hours: Positive = 168
    deployments_retention_hours: Positive = 720

    def name(self, topic: str) -> str:
        """The full name of one of streamwatch's topics."""
        return f"{self.prefix}.{topic}"


class FieldMapping(Section, frozen=True):
    """Where a mapped-JSON record keeps what streamwatch reads: dotted paths, the first hit counts.

    A path is tried as one literal key first and then as nested keys, so `service.name` reads both
    `{"service.name": ...}` and `{"service": {"name": ...}}`.
    """

    timestamp: tuple[str, ...] = ("timestamp", "@timestamp", "time", "ts")
    service: tuple[str, ...] = ("service.name", "service")
    environment: tuple[str, ...] = (
        "deployment.environment.name",
        "deployment.environment",
        "environment",
        "env",
    )
    release: tuple[str, ...] = ("service.version", "release", "version")
    instance: tuple[str, ...] = (
        "service.instance.id",
        "k8s.pod.name",
        "host.name",
        "hostname",
        "instance",
    )
    severity: tuple[str, ...] = ("severity_number", "level", "severity", "log.level", "levelname")
    message: tuple[str, ...] = ("message", "msg", "body", "log", "event")
    exception_type: tuple[str, ...] = ("exception.type", "error.type", "exc_type", "exception_type")
    exception_message: tuple[str, ...] = (
        "exception.message",
        "error.message",
        "exc_message",
        "exception_message",
    )
    stacktrace: tuple[str, ...] = (
        "exception.stacktrace",
        "error.stack_trace",
        "stack_trace",
        "stacktrace",
        "exc_info",
        "stack",
    )
    client: tuple[str, ...] = ("enduser.id", "user.id", "session.id", "trace_id", "trace.id")
    request: tuple[str, ...] = ("http.request.method", "http.method")


class SourceTopic(Section, frozen=True):
    """One topic that log records arrive on.

    Attributes:
        topic: its name.
        format: how its messages are encoded.
        mapping: for `json`, where the fields are.
    """

    topic: str
    format: Literal["otlp_json", "json"] = "json"
    mapping: FieldMapping = FieldMapping()


class Ingest(Section, frozen=True):
    """The stage that turns log records into counts.

    Attributes:
        group: consumer group.
        instance: name of this machine among the ingest machines, stable over restarts; two workers
            of one name fence each other off. Empty means the host name.
        workers: processes; one per core.
        batch_messages: messages taken from the consumer at once.
        flush_seconds: time between two transactions.
        flush_records: records after which a transaction is due at once.
        idle_seconds: a source partition that is read to its end and silent for so long no longer
            holds back the others.
        allowed_lateness_seconds: how far a record may lag behind the newest of its partition and
            still count; detect evaluates a tick that much after its end.
        max_future_seconds: how far a record may be ahead of its message's Kafka timestamp.
        max_age_hours: how far a record may be behind its message's Kafka timestamp.
        max_message_bytes: a longer message is a dead letter.
        shape_cache: distinct folded lines whose shape is remembered.
        max_cells: counted (tick, release, instance, shape) combinations a worker holds between two
            flushes; reaching it flushes early.
        metrics_port: of worker 0; worker i listens on the i-th port above. 0: no listener.
    """

    group: str = "streamwatch-ingest"
    instance: str = ""
    workers: Positive = 1
    batch_messages: Positive = 5_000
    flush_seconds: PositiveSeconds = 0.5
    flush_records: Positive = 500_000
    idle_seconds: PositiveSeconds = 5.0
    allowed_lateness_seconds: Annotated[int, Meta(ge=0, le=3600)] = 5
    max_future_seconds: Positive = 300
    max_age_hours: Positive = 168
    max_message_bytes: Positive = 1_048_576
    shape_cache: Positive = 50_000
    max_cells: Positive = 200_000
    metrics_port: Port = 9201

    @property
    def instance_name(self) -> str:
        """`instance`, or the host name."""
        return self.instance or socket.gethostname()


class Detect(Section, frozen=True):
    """The stage that turns counts into verdicts and signals.

    Attributes:
        group: consumer group and Faust application id.
        instance: as in `ingest.instance`; makes group membership static, so that a repaved worker
            gets its partitions back without a rebalance.
        verdict_seconds: event time after which an unchanged verdict is written again.
        commit_seconds: time between two offset commits.
        stall_seconds: the process ends when input waits and none was processed for so long.
        metrics_port: 0: no listener.
    """

    group: str = "streamwatch-detect"
    instance: str = ""
    verdict_seconds: Positive = 5
    commit_seconds: PositiveSeconds = 1.0
    stall_seconds: PositiveSeconds = 60.0
    metrics_port: Port = 9301

    @property
    def instance_name(self) -> str:
        """`instance`, or the host name."""
        return self.instance or socket.gethostname()


class Serve(Section, frozen=True):
    """The HTTP API.

    Attributes:
        host: address to listen on; loopback unless told otherwise.
        port: 0 picks a free one.
        fresh_seconds: a verdict not renewed for so long reads as Inconclusive.
    """

    host: str = "127.0.0.1"
    port: Port = 8080
    fresh_seconds: PositiveSeconds = 30.0


class Config(Section, frozen=True):
    """The whole of `streamwatch.yaml`.

    Attributes:
        kafka: the brokers.
        topics: names, sizes and retention of streamwatch's own topics.
        sources: the topics that logs arrive on.
        ingest: settings of the ingest stage.
        detect: settings of the detect stage.
        serve: settings of the HTTP API.
        policies: what rollouts are judged by.
        log_level: how much streamwatch says of itself.
    """

    kafka: Kafka = Kafka()
    topics: Topics = Topics()
    sources: tuple[SourceTopic, ...] = (SourceTopic(topic="logs"),)
    ingest: Ingest = Ingest()
    detect: Detect = Detect()
    serve: Serve = Serve()
    policies: Policies = Policies()
    log_level: Literal["debug", "info", "warning", "error"] = "info"


def load(path: Path | None, environment: Mapping[str, str] | None = None) -> Config:
    """Read the configuration.

    Args:
        path: the file; None takes `streamwatch.yaml` of this folder if there is one, else defaults.
        environment: variables that override keys; the process's own when None.

    Raises:
        ConfigError: the file cannot be read, or a key has a wrong name, type or value.
    """
    tree = _read(path)
    for name, value in sorted((os.environ if environment is None else environment).items()):
        if name.startswith(ENVIRONMENT_PREFIX) and "__" in name:
            _override(tree, name, value)
    return parse(tree)


def parse(tree: dict[str, Any]) -> Config:
    """Check a tree of settings against the types above.

    Raises:
        ConfigError: a key has a wrong name, type or value.
    """
    try:
        config = msgspec.convert(tree, Config)
    except msgspec.ValidationError as error:
        raise _explain(str(error)) from None
    for index, override in enumerate(config.policies.overrides):
        try:
            msgspec.convert(
                msgspec.to_builtins(config.policies.default) | override.set,
                type(config.policies.default),
            )
        except msgspec.ValidationError as error:
            explained = _explain(str(error))
            key = f"policies.overrides[{index}].set.{explained.key}"
            raise ConfigError(key, explained.problem, explained.fix) from None
    _check(config)
    return config


def json_schema() -> dict[str, Any]:
    """The JSON Schema of `streamwatch.yaml`, for editors."""
    return msgspec.json.schema(Config)


def _read(path: Path | None) -> dict[str, Any]:
    if path is None:
        path = Path("streamwatch.yaml")
        if not path.exists():
            return {}
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            "--config", f"cannot read {path}: {error.strerror}", "name a readable file"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        line = " ".join(str(error).split())
        raise ConfigError(str(path), f"is not YAML: {line}", "correct the syntax") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(str(path), "is not a mapping", "write `key: value` lines")
    return tree


def _override(tree: dict[str, Any], name: str, text: str) -> None:
    keys = name.removeprefix(ENVIRONMENT_PREFIX).lower().split("__")
    node = tree
    for key in keys[:-1]:
        child = node.setdefault(key, {})
        if not isinstance(child, dict):
            raise ConfigError(name, "no such key", "see `streamwatch check-config --print-default`")
        node = child
    try:
        node[keys[-1]] = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(name, "its value is not YAML", "quote it") from None


_AT = re.compile(r"^(?P<problem>.*?)(?: - at (?:`key` in )?`\$\.?(?P<path>[^`]*)`)?$", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<field>[^`]*)`")


def _explain(message: str) -> ConfigError:
    match = _AT.match(message)
    path, problem = (match["path"] or "", match["problem"]) if match else ("", message)
    unknown = _UNKNOWN.search(problem)
    if unknown:
        key = ".".join(part for part in (path, unknown["field"]) if part)
        fix = "remove it or see `streamwatch check-config --print-default` for the known ones"
        return ConfigError(key, "no such key", fix)
    problem = problem[:1].lower() + problem[1:]
    return ConfigError(path or "streamwatch.yaml", problem, "write a value of that kind")


def _check(config: Config) -> None:
    security = config.kafka.security
    if security.protocol.startswith("SASL"):
        for key in ("sasl_mechanism", "username_file", "password_file"):
            if getattr(security, key) is None:
                raise ConfigError(
                    f"kafka.security.{key}", "is missing", f"{security.protocol} needs it"
                )
    if not config.sources:
        raise ConfigError("sources", "is empty", "name at least one topic to read logs from")
    topics = [source.topic for source in config.sources]
    if len(set(topics)) != len(topics):
        raise ConfigError("sources", "names a topic twice", "list each topic once")
    if config.topics.min_insync_replicas > config.topics.replication:
        raise ConfigError(
            "topics.min_insync_replicas", "is above topics.replication", "lower it or add replicas"
        )
