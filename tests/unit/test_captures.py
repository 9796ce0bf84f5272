"""The committed captures are what their truth files say, read with the decoders that ship."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from backports import zstd

from streamwatch.config import SourceTopic
from streamwatch.formats.registry import decoder_for

if TYPE_CHECKING:
    from streamwatch.records import LogRecord

FOLDER = Path(__file__).parents[2] / "benchmarks" / "captures"
PARTITIONS = 4
MAX_BYTES = 1_500_000
MAX_SHIPPING_MS = 4_000
SECRET_WORDS = (
    *("password", "passwd", "secret", "api_key", "apikey", "authorization", "access_token"),
    *("bearer ", "-----begin", "akia"),
)
JSON_WEB_TOKEN = re.compile(r"eyJ[\w-]{10,}\.")
MACHINE_PATHS = re.compile(r"/(root|home|tmp|work|Users|private)/")
EMAIL_HOST = re.compile(r"(?<=\w)@([\w-]+(?:\.[\w-]+)+)")


class Capture:
    def __init__(self, name: str) -> None:
        self.truth: dict[str, Any] = yaml.safe_load(
            (FOLDER / f"{name}.truth.yaml").read_text(encoding="utf-8")
        )
        packed = (FOLDER / self.truth["capture"]).read_bytes()
        self.size = len(packed)
        self.text = zstd.decompress(packed).decode("utf-8")
        self.messages = [json.loads(line) for line in self.text.splitlines()]
        source = SourceTopic(topic=self.truth["topic"], format=self.truth["format"])
        decoder = decoder_for(source)
        self.shipped = [
            (message["timestamp"], record)
            for message in self.messages
            for record in decoder.decode(message["value"].encode())
        ]
        self.records = [record for _, record in self.shipped]

    def errors(self, release: str) -> list[LogRecord]:
        return [r for r in self.records if r.release == release and r.is_error]


@pytest.fixture(scope="module")
def captures() -> dict[str, Capture]:
    return {name: Capture(name) for name in ("sqlalchemy-upgrade", "healthy")}


@pytest.fixture(params=["sqlalchemy-upgrade", "healthy"])
def capture(request: pytest.FixtureRequest, captures: dict[str, Capture]) -> Capture:
    name: str = request.param
    return captures[name]


def test_is_small(capture: Capture) -> None:
    assert capture.size < MAX_BYTES


def test_lines_are_messages_with_consecutive_offsets_in_every_partition(capture: Capture) -> None:
    offsets: dict[int, list[int]] = {partition: [] for partition in range(PARTITIONS)}
    for message in capture.messages:
        assert set(message) == {
            *("topic", "partition", "offset", "timestamp", "key", "headers", "value")
        }
        assert message["topic"] == capture.truth["topic"]
        offsets[message["partition"]].append(message["offset"])
    for found in offsets.values():
        assert found
        assert found == list(range(len(found)))
    assert len(capture.messages) == capture.truth["messages"]


def test_messages_are_in_the_order_of_sending(capture: Capture) -> None:
    sent = [message["timestamp"] for message in capture.messages]
    assert sent == sorted(sent)


def test_messages_were_sent_soon_after_their_records(capture: Capture) -> None:
    delays = [sent - record.timestamp_ns / 1e6 for sent, record in capture.shipped]
    # Milliseconds are cut off in the one and not in the other.
    assert min(delays) > -1
    assert max(delays) < MAX_SHIPPING_MS


def test_every_record_is_complete(capture: Capture) -> None:
    releases = {capture.truth["baseline"], capture.truth["candidate"]}
    for record in capture.records:
        assert record.service == capture.truth["service"]
        assert record.environment == capture.truth["environment"]
        assert record.release in releases
        assert record.instance in capture.truth["instances"]
        assert record.message
    assert all(record.client for record in capture.records if record.request)
    assert all(record.client for record in capture.records if record.is_error)
    assert any(record.stacktrace for record in capture.records if record.is_error)


def test_totals_are_those_of_the_truth(capture: Capture) -> None:
    assert len(capture.records) == capture.truth["records"]
    for release, truth in capture.truth["releases"].items():
        own = [record for record in capture.records if record.release == release]
        assert len(own) == truth["records"]
        assert sum(record.request for record in own) == truth["request_records"]
        assert len(capture.errors(release)) == truth["error_records"]
        assert sum(truth["error_records_by_kind"].values()) == truth["error_records"]
    for instance, truth in capture.truth["instances"].items():
        own = [record for record in capture.records if record.instance == instance]
        assert len(own) == truth["records"]
        assert {record.release for record in own} == {truth["release"]}


def test_an_error_is_not_also_a_request(capture: Capture) -> None:
    assert not any(record.request and record.is_error for record in capture.records)


def test_lasts_long_enough_to_judge_the_candidate(capture: Capture) -> None:
    baseline, candidate = capture.truth["baseline"], capture.truth["candidate"]
    releases = capture.truth["releases"]
    alone = capture.truth["candidate_first_record"] - releases[baseline]["first_record"]
    together = releases[candidate]["last_record"] - capture.truth["candidate_first_record"]
    assert alone >= 85
    assert together >= 240


def test_traffic_was_shared_as_meant(capture: Capture) -> None:
    for step in capture.truth["steps"]:
        assert step["measured_share"] == pytest.approx(step["share"], abs=0.02)


def test_baseline_makes_ordinary_errors(capture: Capture) -> None:
    baseline = capture.truth["baseline"]
    requests = capture.truth["releases"][baseline]["request_records"]
    assert 0.004 < len(capture.errors(baseline)) / requests < 0.02
    assert len({record.exception_type for record in capture.errors(baseline)}) >= 3


def test_the_bad_release_fails_by_its_culprit_alone(captures: dict[str, Capture]) -> None:
    capture = captures["sqlalchemy-upgrade"]
    truth, culprit = capture.truth, capture.truth["culprit"]
    assert truth["bad"]
    function = culprit["frame"].rsplit(".", 1)[1]
    bad = [r for r in capture.records if r.exception_type == culprit["exception"]]
    assert len(bad) == culprit["bad_records"]
    assert {record.release for record in bad} == {truth["candidate"]}
    assert all(f"in {function}\n" in record.stacktrace for record in bad)
    assert all(culprit["endpoint"] in record.message for record in bad)
    assert min(r.timestamp_ns for r in bad) // 10**9 == culprit["first_bad_tick"]
    assert 0.05 < culprit["share_of_candidate_requests"] < 0.15
    others = [
        r for r in capture.errors(truth["candidate"]) if r.exception_type != culprit["exception"]
    ]
    requests = truth["releases"][truth["candidate"]]["request_records"]
    assert 0.004 < len(others) / requests < 0.02


def test_the_healthy_release_makes_the_errors_of_its_baseline(captures: dict[str, Capture]) -> None:
    capture = captures["healthy"]
    truth = capture.truth
    assert not truth["bad"]
    assert truth["culprit"] is None
    rates = {
        release: truth["releases"][release]["error_records"]
        / truth["releases"][release]["request_records"]
        for release in (truth["baseline"], truth["candidate"])
    }
    assert 0.67 < rates[truth["candidate"]] / rates[truth["baseline"]] < 1.5
    kinds = {
        release: Counter(r.exception_type for r in capture.errors(release)) for release in rates
    }
    assert set(kinds[truth["candidate"]]) == set(kinds[truth["baseline"]])


def test_the_healthy_release_rewords_an_error(captures: dict[str, Capture]) -> None:
    capture = captures["healthy"]
    texts = {
        release: {
            re.sub(r"\d+", "0", r.message) for r in capture.errors(release) if not r.exception_type
        }
        for release in (capture.truth["baseline"], capture.truth["candidate"])
    }
    assert texts[capture.truth["baseline"]]
    assert texts[capture.truth["baseline"]].isdisjoint(texts[capture.truth["candidate"]])


def test_holds_no_secrets_and_no_trace_of_the_machine(capture: Capture) -> None:
    lowered = capture.text.lower()
    assert [word for word in SECRET_WORDS if word in lowered] == []
    assert not JSON_WEB_TOKEN.findall(capture.text)
    assert not MACHINE_PATHS.findall(capture.text)
    assert set(EMAIL_HOST.findall(capture.text)) <= {"example.com"}
