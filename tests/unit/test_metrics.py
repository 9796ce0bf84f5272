"""The metrics as Prometheus sees them."""

from __future__ import annotations

import re
import socket
import urllib.error
import urllib.request
from collections import Counter
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from streamwatch import __version__, metrics
from streamwatch.errors import ConfigError, Reason
from streamwatch.kafka.ingest import IngestStats

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric


def families(stage: metrics.Stage | None = None) -> dict[str, Metric]:
    text = metrics.exposition(stage).decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def value(family: Metric, **labels: str) -> float:
    return next(s.value for s in family.samples if s.labels == labels)


@pytest.fixture
def ingest(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    counts = SimpleNamespace(
        messages=10,
        message_bytes=2048,
        records=100,
        failed=3,
        dead_letters=Counter({"undecodable": 2}),
        late=4,
        long_names=5,
        batches=6,
        flushes=7,
        flush_seconds=0.5,
        aborts=8,
        offset_resets=9,
        partitions=2,
        watermark=1_763_800_000,
        lag_p96=1.5,
    )
    monkeypatch.setattr(metrics._INGEST, "counts", None)
    metrics.watch_ingest(counts)
    return counts


@pytest.mark.usefixtures("ingest")
def test_every_described_metric_is_shown_and_every_shown_one_is_described() -> None:
    described = {(each.name.removesuffix("_total"), each.type) for each in metrics.describe()}
    shown = {
        (name, family.type)
        for name, family in families().items()
        if name.startswith("streamwatch_")
    }
    # in this format an info metric is a gauge
    described = {(name, "gauge" if kind == "info" else kind) for name, kind in described}
    assert shown == described


def test_names_labels_and_help_follow_the_conventions() -> None:
    names = [each.name for each in metrics.describe()]
    assert names == sorted(set(names))
    for each in metrics.describe():
        assert re.fullmatch(r"streamwatch_[a-z_]+", each.name)
        assert each.name.endswith("_total") == (each.type == "counter")
        assert not re.search(r"_(ms|millis|minutes|hours|kb|mb|percent)(_|$)", each.name)
        assert set(each.labels) <= {
            "reason",
            "status",
            "kind",
            "topic",
            "route",
            "code",
            "version",
            "python",
        }
        assert each.help.endswith(".")


@pytest.mark.usefixtures("ingest")
def test_a_stage_shows_its_own_metrics_and_the_process() -> None:
    for stage in ("ingest", "detect", "serve"):
        prefixes = {
            name.split("_")[1] for name in families(stage) if name.startswith("streamwatch_")
        }
        own = {"serve", "api"} if stage == "serve" else {stage}
        assert prefixes == {"build"} | own
        assert "process_cpu_seconds" in families(stage)


def test_the_build_says_its_version() -> None:
    (sample,) = families("serve")["streamwatch_build_info"].samples
    assert sample.labels["version"] == __version__


def test_closed_label_sets_start_at_zero() -> None:
    detect = families("detect")
    statuses = {s.labels["status"] for s in detect["streamwatch_detect_verdicts"].samples}
    assert statuses == {"Successful", "Failed", "Inconclusive", "Error"}
    kinds = {s.labels["kind"] for s in detect["streamwatch_detect_signals"].samples}
    assert kinds == {"halt", "resume"}


def test_no_series_has_a_start_time_beside_it() -> None:
    assert "_created" not in metrics.exposition().decode()


class TestIngest:
    def test_it_shows_what_the_worker_counted_at_that_moment(self, ingest: SimpleNamespace) -> None:
        before = families("ingest")
        assert value(before["streamwatch_ingest_messages"]) == 10
        assert value(before["streamwatch_ingest_late_records"]) == 4
        assert value(before["streamwatch_ingest_watermark_timestamp_seconds"]) == 1_763_800_000
        ingest.messages += 1
        assert value(families("ingest")["streamwatch_ingest_messages"]) == 11

    @pytest.mark.usefixtures("ingest")
    def test_a_flush_is_a_count_and_a_sum(self) -> None:
        samples = families("ingest")["streamwatch_ingest_flush_seconds"].samples
        assert {s.name.rsplit("_", 1)[1]: s.value for s in samples} == {"count": 7, "sum": 0.5}

    def test_dead_letters_by_every_reason_and_no_other(self, ingest: SimpleNamespace) -> None:
        ingest.dead_letters["log text"] = 1
        samples = families("ingest")["streamwatch_ingest_dead_letters"].samples
        found = {s.labels["reason"]: s.value for s in samples}
        assert found == {reason.value: 0 for reason in Reason} | {"undecodable": 2}

    def test_lag_of_the_log_once_it_is_known(self, ingest: SimpleNamespace) -> None:
        assert value(families("ingest")["streamwatch_ingest_log_lag_seconds"]) == 1.5
        ingest.lag_p96 = None
        assert "streamwatch_ingest_log_lag_seconds" not in families("ingest")

    def test_no_watermark_is_no_sample(self, ingest: SimpleNamespace) -> None:
        ingest.watermark = -1
        assert "streamwatch_ingest_watermark_timestamp_seconds" not in families("ingest")

    def test_without_a_worker_there_is_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(metrics._INGEST, "counts", None)
        assert not [name for name in families() if name.startswith("streamwatch_ingest_")]

    def test_the_real_counters_fit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        stats = IngestStats()
        monkeypatch.setattr(metrics._INGEST, "counts", None)
        metrics.watch_ingest(stats)
        assert value(families("ingest")["streamwatch_ingest_messages"]) == 0


class TestPort:
    def free_port(self) -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        return port

    def test_it_shows_one_stage_until_it_is_stopped(self) -> None:
        port = self.free_port()
        listener = metrics.start(port, stage="detect")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        assert "streamwatch_detect_messages_total" in text
        assert "streamwatch_serve_" not in text
        listener.stop()
        with pytest.raises(urllib.error.URLError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5)

    def test_zero_opens_none(self) -> None:
        listener = metrics.start(0, stage="detect")
        assert listener.port == 0
        listener.stop()

    @pytest.mark.parametrize("stage", ["ingest", "detect"])
    def test_a_taken_port_is_one_clear_line(self, stage: metrics.Stage) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            with pytest.raises(ConfigError) as caught:
                metrics.start(port, stage=stage)
        assert caught.value.exit_code == 2
        assert str(caught.value) == (
            f"config: {stage}.metrics_port: port {port} is taken; choose another one, or 0 for none"
        )
