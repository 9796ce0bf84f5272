"""What flows from ingest to detect: counts per tick, columnar, mergeable, and watermarks.

These structs are the wire format of the topic `streamwatch.counts` (JSON, schema in
`streamwatch/signals/schemas/counts.json`) and of `streamwatch.deployments`. A `CountsBatch` holds
what one ingest worker counted for one (environment, service) between two flushes; a `Watermarks`
message says how far event time has come in each source partition, and is written to every
partition of the counts topic after the batches of the same flush.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import orjson

from streamwatch.errors import InvalidMessage, Reason

#: Version of the wire formats in this module.
WIRE_VERSION = 1

#: Client hashes kept per error row: the smallest ones, so that rows merge without order mattering.
CLIENTS_PER_ROW = 16


def service_key(environment: str, service: str) -> str:
    """The record key of everything about one service: `environment|service`.

    Bars in the environment's name are escaped, so that no two services share a key.
    """
    return f"{without_bars(environment)}|{service}"


def without_bars(name: str) -> str:
    """The name with its bars escaped, for all but the last part of a key; still one of its kind."""
    return name.replace("%", "%25").replace("|", "%7C") if "|" in name or "%" in name else name


class SourceRange(msgspec.Struct, frozen=True):
    """The consumed offsets, both inclusive, that a batch stands for in one source partition."""

    topic: str
    partition: int
    first_offset: int
    last_offset: int

    @property
    def name(self) -> str:
        """`topic/partition`."""
        return f"{self.topic}/{self.partition}"


class ShapeDefinition(msgspec.Struct, frozen=True):
    """What a shape id means, sent with its first count.

    Attributes:
        id: 16 hex digits.
        kind: `text` or `exception`.
        template: the masked message, or for an exception the canonical chain.
        type: exception type, or empty.
        frame: top in-app frame (`module.function`), or empty.
        example: one redacted message.
    """

    id: str
    kind: Literal["text", "exception"]
    template: str
    type: str = ""
    frame: str = ""
    example: str = ""


class Exposure(msgspec.Struct):
    """Columns; row i says how much release `release[i]` on `instance[i]` served in `tick[i]`.

    `release` and `instance` are indices into the batch's `releases` and `instances`; `records`
    counts log records of any severity, `requests` those that stand for a request.
    """

    tick: list[int]
    release: list[int]
    instance: list[int]
    records: list[int]
    requests: list[int]


class Errors(msgspec.Struct):
    """Columns; row i counts error records of one shape in one tick of one instance.

    `clients[i]` holds the smallest `CLIENTS_PER_ROW` distinct 48-bit hashes of the clients seen;
    a record whose client is not known adds none.
    """

    tick: list[int]
    release: list[int]
    instance: list[int]
    shape: list[int]
    count: list[int]
    clients: list[list[int]]


class Dropped(msgspec.Struct):
    """Columns; row i counts records of this service that were left out, and why.

    `tick[i]` is the record's own tick, except for `late` records: the greatest tick that their
    partition had reached, so that what was lost shows in the verdict it was lost to. Reasons are
    `late` and the values of `errors.Reason`.
    """

    tick: list[int] = []
    reason: list[str] = []
    count: list[int] = []


class CountsBatch(msgspec.Struct, tag="counts", tag_field="type"):
    """Counts of one (environment, service), from one ingest worker, between two flushes.

    Ticks are whole seconds of event time since the epoch.
    """

    environment: str
    service: str
    grouping_config: str
    sources: list[SourceRange]
    releases: list[str]
    instances: list[str]
    shapes: list[str]
    exposure: Exposure
    errors: Errors
    definitions: list[ShapeDefinition]
    dropped: Dropped = msgspec.field(default_factory=Dropped)
    version: int = WIRE_VERSION

    @property
    def key(self) -> str:
        """The record key, `environment|service`."""
        return service_key(self.environment, self.service)


class SourceWatermark(msgspec.Struct, frozen=True):
    """How far event time has come in one source partition.

    Attributes:
        topic: source topic.
        partition: source partition.
        partitions: how many partitions the topic has; a tick closes only when all of them spoke.
        watermark: greatest tick seen in the partition; -1 when it has none yet.
        idle: the partition has no more data for now and must not hold others back.
    """

    topic: str
    partition: int
    partitions: int
    watermark: int
    idle: bool = False

    @property
    def name(self) -> str:
        """`topic/partition`."""
        return f"{self.topic}/{self.partition}"


class Watermarks(msgspec.Struct, tag="watermarks", tag_field="type"):
    """The watermarks of one ingest worker's partitions, sent after the batches of a flush."""

    sources: list[SourceWatermark]
    version: int = WIRE_VERSION


class DeploymentEvent(msgspec.Struct, tag="deployment", tag_field="type"):
    """What a deployment tool says about a rollout.

    Attributes:
        id: unique; a repeated id is ignored.
        kind: what happened.
        tick: when, in seconds of event time.
        environment: where.
        service: of what.
        release: the candidate.
        baseline: the release it is compared with; empty lets streamwatch choose.
        share: the candidate's declared share of traffic, 0 to 1; None when not declared.
    """

    id: str
    kind: Literal["started", "step", "promoted", "aborted", "rolled_back"]
    tick: int
    environment: str
    service: str
    release: str
    baseline: str = ""
    share: float | None = None
    version: int = WIRE_VERSION

    @property
    def key(self) -> str:
        """The record key, `environment|service`."""
        return service_key(self.environment, self.service)


EngineInput = CountsBatch | Watermarks | DeploymentEvent
_decoder = msgspec.json.Decoder(EngineInput)


def encode(message: msgspec.Struct) -> bytes:
    """The JSON bytes of a wire struct; keys in declared order, so equal values give equal bytes."""
    return orjson.dumps(msgspec.to_builtins(message))


def decode(value: bytes) -> EngineInput:
    """Read a message of the counts or deployments topic.

    Raises:
        InvalidMessage: not JSON, not one of the three types, columns of different lengths, an
            index out of range, or a version this code does not know.
    """
    try:
        message: EngineInput = _decoder.decode(value)
    except msgspec.ValidationError as error:
        raise InvalidMessage(Reason.WRONG_TYPE, str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidMessage(Reason.UNDECODABLE, str(error)) from None
    if message.version != WIRE_VERSION:
        raise InvalidMessage(
            Reason.WRONG_TYPE, f"version {message.version}, this process knows {WIRE_VERSION}"
        )
    if isinstance(message, CountsBatch):
        _check_columns(message)
    return message


def _check_columns(batch: CountsBatch) -> None:
    sizes = {"release": len(batch.releases), "instance": len(batch.instances)}
    _check_table("exposure", batch.exposure, sizes)
    _check_table("errors", batch.errors, sizes | {"shape": len(batch.shapes)})
    _check_table("dropped", batch.dropped, {})


def _check_table(name: str, table: Exposure | Errors | Dropped, sizes: dict[str, int]) -> None:
    columns = {field: getattr(table, field) for field in table.__struct_fields__}
    rows = len(columns["tick"])
    for field, column in columns.items():
        if len(column) != rows:
            raise InvalidMessage(
                Reason.WRONG_TYPE, f"{name}.{field} has {len(column)} rows, tick has {rows}"
            )
        size = sizes.get(field)
        if size is not None and rows and not 0 <= min(column) <= max(column) < size:
            raise InvalidMessage(Reason.WRONG_TYPE, f"{name}.{field}: index out of range")
        if field in ("records", "requests", "count") and rows and min(column) < 0:
            raise InvalidMessage(Reason.WRONG_TYPE, f"{name}.{field}: negative count")
