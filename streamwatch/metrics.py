"""Every metric of every stage, in one place, and the port that shows them.

Names follow Prometheus' conventions: prefix `streamwatch_`, base units, counters end in `_total`.
Labels come from closed sets; log text, fingerprints, releases and offsets never become one. A
process shows the metrics of its own stage only: a counter that stands at zero because its stage
runs elsewhere would mislead every alert that looks for silence.
"""

from __future__ import annotations

import errno
import platform
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
    start_http_server,
)
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

import streamwatch
from streamwatch.detect.verdict import Status
from streamwatch.errors import ConfigError, Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from prometheus_client.core import Metric


#: Of what `exposition` returns.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Stage = Literal["ingest", "detect", "serve"]

# Every series twice, for a start time that nobody asks for, is a doubled bill.
disable_created_metrics()  # type: ignore[no-untyped-call]  # not annotated by the library

_PROCESS = CollectorRegistry()
_STAGES: dict[Stage, CollectorRegistry] = {
    "ingest": CollectorRegistry(),
    "detect": CollectorRegistry(),
    "serve": CollectorRegistry(),
}

ProcessCollector(registry=_PROCESS)
GCCollector(registry=_PROCESS)
_BUILD_HELP = "Version of streamwatch and of Python; the value is 1."
_BUILD = Info("streamwatch_build", _BUILD_HELP, registry=_PROCESS)
_BUILD.info({"version": streamwatch.__version__, "python": platform.python_version()})

#: From under a millisecond to the ten seconds after which an orderly stop gives up.
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Description(NamedTuple):
    """One metric, as the documentation lists it."""

    name: str
    type: str
    labels: tuple[str, ...]
    help: str


_DESCRIBED: list[Description] = []


def _described(name: str, kind: str, text: str, labels: tuple[str, ...] = ()) -> tuple[str, str]:
    _DESCRIBED.append(Description(name, kind, labels, text))
    return name, text


def _counter(stage: Stage, name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
    _DESCRIBED.append(Description(name, "counter", labels, text))
    return Counter(name, text, labels, registry=_STAGES[stage])


def _gauge(stage: Stage, name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
    _DESCRIBED.append(Description(name, "gauge", labels, text))
    return Gauge(name, text, labels, registry=_STAGES[stage])


def _histogram(stage: Stage, name: str, text: str, labels: tuple[str, ...] = ()) -> Histogram:
    _DESCRIBED.append(Description(name, "histogram", labels, text))
    return Histogram(name, text, labels, registry=_STAGES[stage], buckets=_SECONDS)


# --- ingest -----------------------------------------------------------------------------------


class IngestCounts(Protocol):
    """What a worker keeps of its own progress: `streamwatch.kafka.ingest.IngestStats`."""

    messages: int
    message_bytes: int
    records: int
    failed: int
    late: int
    long_names: int
    batches: int
    flushes: int
    flush_seconds: float
    aborts: int
    offset_resets: int
    partitions: int
    watermark: int

    @property
    def lag_p96(self) -> float | None:
        """Seconds that 96 % of the records are behind the newest of their partition, at most."""
        ...

    @property
    def dead_letters(self) -> Mapping[str, int]:
        """Dead letters by reason."""
        ...


#: Attribute → metric. All of it is committed: what a transaction took back is not in it.
_INGEST_COUNTERS = {
    "messages": ("streamwatch_ingest_messages_total", "Messages taken from the log topics."),
    "message_bytes": ("streamwatch_ingest_message_bytes_total", "Size of those messages."),
    "records": ("streamwatch_ingest_records_total", "Log records decoded from them."),
    "failed": (
        "streamwatch_ingest_failed_total",
        "Messages that could not be decoded and records that could not be counted.",
    ),
    "late": ("streamwatch_ingest_late_records_total", "Records left out because they came late."),
    "long_names": ("streamwatch_ingest_long_names_total", "Records with a name that was cut."),
    "batches": ("streamwatch_ingest_batches_total", "Messages written to the counts topic."),
    "aborts": (
        "streamwatch_ingest_aborts_total",
        "Transactions aborted, after which their input was read again.",
    ),
    "offset_resets": (
        "streamwatch_ingest_offset_resets_total",
        "Times that a committed offset was gone from a log topic: records were lost unread.",
    ),
}
_INGEST_DEAD_LETTERS = _described(
    "streamwatch_ingest_dead_letters_total", "counter", "Dead letters, by reason.", ("reason",)
)
_INGEST_FLUSH = _described(
    "streamwatch_ingest_flush_seconds", "summary", "Time to write and commit one transaction."
)
_INGEST_PARTITIONS = _described(
    "streamwatch_ingest_partitions", "gauge", "Partitions of log topics that this worker reads."
)
_INGEST_WATERMARK = _described(
    "streamwatch_ingest_watermark_timestamp_seconds",
    "gauge",
    "Greatest event time counted; absent until there is one.",
)
_INGEST_LAG = _described(
    "streamwatch_ingest_log_lag_seconds",
    "gauge",
    "Event time that 96 % of sampled records are behind the newest of their partition, at most: "
    "ingest.allowed_lateness_seconds should be above it.",
)
for _name, _text in _INGEST_COUNTERS.values():
    _described(_name, "counter", _text)


class _IngestCollector(Collector):
    """Reads a worker's counters when they are asked for, so that counting costs nothing more."""

    counts: IngestCounts | None = None

    def collect(self) -> Iterator[Metric]:
        counts = self.counts
        if counts is None:
            return
        for attribute, (name, text) in _INGEST_COUNTERS.items():
            yield CounterMetricFamily(name, text, value=getattr(counts, attribute))
        dead = CounterMetricFamily(*_INGEST_DEAD_LETTERS, labels=("reason",))
        for reason in Reason:
            dead.add_metric([reason.value], counts.dead_letters.get(reason.value, 0))
        yield dead
        yield SummaryMetricFamily(
            *_INGEST_FLUSH, count_value=counts.flushes, sum_value=counts.flush_seconds
        )
        yield GaugeMetricFamily(*_INGEST_PARTITIONS, value=counts.partitions)
        if counts.lag_p96 is not None:
            yield GaugeMetricFamily(*_INGEST_LAG, value=counts.lag_p96)
        if counts.watermark >= 0:
            yield GaugeMetricFamily(*_INGEST_WATERMARK, value=counts.watermark)


_INGEST = _IngestCollector()
_STAGES["ingest"].register(_INGEST)


def watch_ingest(counts: IngestCounts) -> None:
    """Show the counters of this process's ingest worker from now on."""
    _INGEST.counts = counts


# --- detect -----------------------------------------------------------------------------------

DETECT_MESSAGES = _counter(
    "detect",
    "streamwatch_detect_messages_total",
    "Messages taken from the counts and deployments topics.",
)
DETECT_FAILED = _counter(
    "detect",
    "streamwatch_detect_failed_total",
    "Messages that detect could not use, by reason; each became a dead letter.",
    ("reason",),
)
DETECT_VERDICTS = _counter(
    "detect",
    "streamwatch_detect_verdicts_total",
    "Verdicts written, by status.",
    ("status",),
)
DETECT_SIGNALS = _counter(
    "detect",
    "streamwatch_detect_signals_total",
    "Signals written, by kind.",
    ("kind",),
)
DETECT_OPEN_ROLLOUTS = _gauge(
    "detect",
    "streamwatch_detect_open_rollouts",
    "Rollouts that this worker is judging.",
)
DETECT_WATERMARK = _gauge(
    "detect",
    "streamwatch_detect_watermark_timestamp_seconds",
    "Event time up to which this worker has judged.",
)
DETECT_STATE = _gauge(
    "detect",
    "streamwatch_detect_state_bytes",
    "Encoded size of the state of this worker's services.",
)
DETECT_FEED = _histogram(
    "detect", "streamwatch_detect_feed_seconds", "Time to apply one message: decode, judge, encode."
)
DETECT_RECOVERED = _gauge(
    "detect",
    "streamwatch_detect_recovered",
    "1 once the tables are rebuilt from their changelog, else 0.",
)

# --- serve ------------------------------------------------------------------------------------

SERVE_MESSAGES = _counter(
    "serve",
    "streamwatch_serve_messages_total",
    "Records read, by topic.",
    ("topic",),
)
SERVE_FAILED = _counter(
    "serve",
    "streamwatch_serve_failed_total",
    "Records that serve could not read, by topic and reason.",
    ("topic", "reason"),
)
SERVE_VERDICTS = _gauge(
    "serve",
    "streamwatch_serve_verdicts",
    "Verdicts held.",
)
SERVE_EVICTED = _gauge(
    "serve",
    "streamwatch_serve_evicted",
    "Verdicts and rollouts that were let go of because serve holds only so many.",
)
SERVE_IN_STEP = _gauge(
    "serve",
    "streamwatch_serve_in_step_timestamp_seconds",
    "When serve last held everything that Kafka held; 0 for never.",
)
SERVE_RECONNECTS = _counter(
    "serve",
    "streamwatch_serve_reconnects_total",
    "Times that the connection to Kafka was given up and made anew.",
)
API_REQUESTS = _counter(
    "serve",
    "streamwatch_api_requests_total",
    "HTTP requests answered, by route template and status code.",
    ("route", "code"),
)
API_SECONDS = _histogram(
    "serve",
    "streamwatch_api_request_duration_seconds",
    "Time to answer an HTTP request, by route template.",
    ("route",),
)


for _reason in Reason:
    DETECT_FAILED.labels(_reason.value)
for _status in Status:
    DETECT_VERDICTS.labels(_status.value)
for _kind in ("halt", "resume"):
    DETECT_SIGNALS.labels(_kind)
for _topic in ("verdicts", "signals"):
    SERVE_MESSAGES.labels(_topic)


def exposition(stage: Stage | None = None) -> bytes:
    """The metrics of one stage and of the process, in Prometheus' text format; None for all."""
    return generate_latest(_registry(stage))


def describe() -> list[Description]:
    """Every metric of streamwatch, in order of name; those of Python and the process aside."""
    build = Description("streamwatch_build_info", "info", ("version", "python"), _BUILD_HELP)
    return sorted([build, *_DESCRIBED])


class Listener:
    """An open metrics port.

    Attributes:
        port: where it listens; 0 for nowhere.
    """

    def __init__(self, port: int, stop: Callable[[], None]) -> None:
        self.port = port
        self._stop = stop

    def stop(self) -> None:
        """Close the port."""
        self._stop()


def start(port: int, host: str = "127.0.0.1", *, stage: Stage | None = None) -> Listener:
    """Show metrics under `/metrics` on a port, from a thread of its own.

    Args:
        port: 0 opens none.
        host: address to listen on.
        stage: whose metrics; None for those of all stages, when they share a process.

    Raises:
        ConfigError: the port cannot be had.
    """
    if port == 0:
        return Listener(0, lambda: None)
    try:
        server, thread = start_http_server(port, host, _registry(stage))
    except OSError as error:
        problem = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be had: {error}"
        raise ConfigError(
            f"{stage or 'ingest'}.metrics_port",
            f"port {port} {problem}",
            "choose another one, or 0 for none",
        ) from None

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return Listener(port, stop)


def _registry(stage: Stage | None) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(_PROCESS)
    for name, of_stage in _STAGES.items():
        if stage in (None, name):
            registry.register(of_stage)
    return registry
