"""The HTTP layer over a source whose clock and connection the test holds."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given, settings
from hypothesis import strategies as st
from yarl import URL

from streamwatch.api.app import LARGEST_TARGET, make_app
from streamwatch.api.board import Board, Moment
from streamwatch.api.feed import View
from streamwatch.api.halts import Halts
from streamwatch.detect.verdict import Status, Verdict, encode_verdict
from streamwatch.signals.envelope import encode_signal
from wire_examples import SIGNAL, verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

NOW = 1_763_800_100.0


class Held:
    """A source that stands still."""

    def __init__(
        self, *verdicts: Verdict, age: float = 1.0, out_of_step: float | None = 0.2
    ) -> None:
        self.view = View(Board(), Halts())
        self.problem = ""
        self.out_of_step = out_of_step
        for each in verdicts:
            self.view.board.put(each.key.encode(), encode_verdict(each), NOW - age, NOW - age)

    def moment(self) -> Moment:
        return Moment(NOW, 30.0, self.out_of_step)


class Answer:
    def __init__(self, code: int, headers: Mapping[str, str], body: bytes) -> None:
        self.code = code
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(source: Any, *targets: str, method: str = "GET") -> list[Answer]:
    async def run() -> list[Answer]:
        async with TestClient(TestServer(make_app(source))) as client:
            answers = []
            for target in targets:
                async with client.request(method, URL(target, encoded=True)) as response:
                    answers.append(Answer(response.status, response.headers, await response.read()))
            return answers

    return asyncio.run(run())


def get(source: Any, target: str) -> Answer:
    return ask(source, target)[0]


class TestOneVerdict:
    def test_it_is_served_with_its_age(self) -> None:
        answer = get(Held(verdict()), "/v1/verdicts/production/checkout/2.4.1")
        assert answer.code == 200
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.json["status"] == "Successful"
        assert answer.json["evidence"]["e_value"] == 4321.5
        assert (answer.json["age_seconds"], answer.json["stale"]) == (1.0, False)

    def test_a_stale_success_is_inconclusive(self) -> None:
        source = Held(verdict(), age=60)
        answer = get(source, "/v1/verdicts/production/checkout/2.4.1")
        assert (answer.code, answer.json["status"]) == (200, "Inconclusive")
        assert answer.json["stale"] is True
        assert "60 s old" in answer.json["reason"]

    def test_an_unknown_release_is_404_and_never_a_pass(self) -> None:
        answer = get(Held(verdict()), "/v1/verdicts/production/checkout/9")
        assert answer.code == 404
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.json == {
            "environment": "production",
            "service": "checkout",
            "release": "9",
            "status": "Inconclusive",
            "action": "hold",
            "reason": "unknown release",
        }

    def test_an_unknown_release_is_503_while_serve_cannot_know(self) -> None:
        answer = get(Held(out_of_step=None), "/v1/verdicts/production/checkout/2.4.1")
        assert (answer.code, answer.json["status"]) == (503, "Inconclusive")
        assert "not yet read all" in answer.json["reason"]

    @pytest.mark.parametrize(
        "name", ["a/b", "a b", "a%b", "a%2Fb", "a?b#c", "ü", "a|b", "v1+build.5", "'\"<>&"]
    )
    def test_names_are_url_encoded(self, name: str) -> None:
        source = Held(verdict(name, environment=name, service=name))
        target = "/v1/verdicts/" + "/".join([quote(name, safe="")] * 3)
        answer = get(source, target)
        assert answer.code == 200
        assert [answer.json[key] for key in ("environment", "service", "release")] == [name] * 3

    def test_the_empty_environment_is_a_dash(self) -> None:
        source = Held(verdict("1", environment=""), verdict("2"))
        assert get(source, "/v1/verdicts/-/checkout/1").json["environment"] == ""
        for query in ("environment=-", "environment="):
            listed = get(source, f"/v1/verdicts?{query}").json["verdicts"]
            assert [each["release"] for each in listed] == ["1"]


class TestLists:
    def test_all_filters_in_one_query(self) -> None:
        source = Held(
            verdict("1"),
            verdict("2", status=Status.FAILED),
            verdict("3", status=Status.FAILED, open=False),
            verdict("4", status=Status.FAILED, service="pay"),
        )
        query = "environment=production&service=checkout&status=Failed&open=true"
        answer = get(source, f"/v1/verdicts?{query}").json
        assert [each["release"] for each in answer["verdicts"]] == ["2"]
        assert (answer["next"], answer["in_step"]) == (None, True)

    def test_a_list_out_of_step_says_so(self) -> None:
        assert get(Held(out_of_step=99), "/v1/verdicts").json["in_step"] is False
        assert get(Held(out_of_step=99), "/v1/halts").json["in_step"] is False

    def test_next_leads_through_the_whole_list(self) -> None:
        releases = [f"{n:03}/ü" for n in range(7)]
        source = Held(*(verdict(release) for release in releases))
        found, target = [], "/v1/verdicts?limit=3"
        while target:
            answer = get(source, target).json
            assert len(answer["verdicts"]) <= 3
            found += [each["release"] for each in answer["verdicts"]]
            cursor = answer["next"]
            target = cursor and f"/v1/verdicts?limit=3&cursor={cursor}"
        assert found == releases

    def test_without_a_limit_a_hundred_are_listed(self) -> None:
        source = Held(*(verdict(str(n)) for n in range(101)))
        answer = get(source, "/v1/verdicts").json
        assert len(answer["verdicts"]) == 100
        assert answer["next"] is not None

    def test_halts(self) -> None:
        source = Held()
        source.view.halts.put(encode_signal(SIGNAL))
        answer = get(source, "/v1/halts?environment=production&service=checkout").json
        assert [halt["id"] for halt in answer["halts"]] == [SIGNAL.id]
        assert get(source, "/v1/halts?service=pay").json["halts"] == []

    @pytest.mark.parametrize(
        "query",
        [
            "enviroment=production",
            "status=successful",
            "open=yes",
            "limit=0",
            "limit=1001",
            "limit=-1",
            "limit=%D9%A1",
            "limit=1&limit=2",
            "service=a&service=b",
            "cursor=",
            "cursor=%21",
            "cursor=" + base64.urlsafe_b64encode(b'["a","b"]').decode(),
            "cursor=" + base64.urlsafe_b64encode(b'{"a":1}').decode(),
        ],
    )
    def test_a_query_that_means_nothing_is_refused(self, query: str) -> None:
        answer = get(Held(verdict()), f"/v1/verdicts?{query}")
        assert answer.code == 400
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert (answer.json["status"], answer.json["title"]) == (400, "Bad Request")
        assert answer.json["detail"]


class TestProbes:
    def test_live_whatever_kafka_does(self) -> None:
        assert get(Held(out_of_step=None), "/livez").code == 200

    def test_ready_while_in_step(self) -> None:
        answer = get(Held(out_of_step=30.0), "/readyz")
        assert (answer.code, answer.json) == (200, {"ready": True, "reasons": []})

    def test_not_ready_with_reasons(self) -> None:
        source = Held(out_of_step=31.0)
        source.problem = "no answer from Kafka"
        answer = get(source, "/readyz")
        assert answer.code == 503
        assert answer.json["ready"] is False
        assert "31 s" in answer.json["reasons"][0]
        assert answer.json["reasons"][1] == "no answer from Kafka"

    def test_metrics_count_requests_by_route_template(self) -> None:
        source = Held(verdict())
        *_, answer = ask(
            source,
            "/v1/verdicts/production/checkout/2.4.1",
            "/v1/verdicts/production/checkout/secret-release",
            "/secret-path",
            "/metrics",
        )
        text = answer.body.decode()
        route = "/v1/verdicts/{environment}/{service}/{release}"
        assert f'streamwatch_api_requests_total{{code="404",route="{route}"}}' in text
        assert 'streamwatch_api_requests_total{code="404",route="unmatched"}' in text
        assert "streamwatch_api_request_duration_seconds_bucket" in text
        assert "secret" not in text
        assert "streamwatch_detect_" not in text
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"


class TestEnvelope:
    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
    def test_only_get_is_answered(self, method: str) -> None:
        for target in ("/v1/verdicts", "/v1/verdicts/a/b/c", "/livez", "/metrics"):
            (answer,) = ask(Held(), target, method=method)
            assert answer.code == 405
            assert answer.headers["Allow"] == "GET,HEAD"
            assert answer.json["status"] == 405

    @pytest.mark.parametrize(
        "target",
        ["/v1/verdicts", "/v1/verdicts/a/b/c", "/v1/verdicts?x=1", "/nope", "/readyz", "/metrics"],
    )
    def test_every_answer_has_the_security_headers(self, target: str) -> None:
        headers = get(Held(), target).headers
        assert headers["Server"] == "streamwatch"
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert not [name for name in headers if name.lower().startswith("access-control")]

    def test_bytes_that_are_no_http_learn_no_versions(self) -> None:
        async def run() -> bytes:
            async with TestServer(make_app(Held())) as server:
                reader, writer = await asyncio.open_connection(server.host, server.port)
                writer.write(b"GARBAGE\r\n\r\n")
                answer = await reader.read()
                writer.close()
                return answer

        answer = asyncio.run(run())
        assert answer.startswith(b"HTTP/1.0 400 ")
        assert b"Server: streamwatch\r\n" in answer
        assert b"aiohttp" not in answer

    def test_an_endless_path_is_refused(self) -> None:
        answer = get(Held(), "/v1/verdicts/a/b/" + "c" * LARGEST_TARGET)
        assert (answer.code, answer.json["status"]) == (414, 414)
        assert get(Held(), "/v1/verdicts?service=" + "c" * LARGEST_TARGET).code == 414

    def test_a_defect_of_ours_is_a_problem_without_a_traceback(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        source = Held(verdict())
        monkeypatch.setattr(source, "view", None)
        answer = get(source, "/v1/verdicts")
        assert answer.code == 500
        assert answer.json["title"] == "Internal Server Error"
        assert b"Traceback" not in answer.body
        assert "cannot answer a request" in caplog.text


ENCODED = st.binary(max_size=12).map(lambda raw: quote(raw, safe=""))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(ENCODED, ENCODED, ENCODED), min_size=20, max_size=20))
def test_no_path_or_query_is_an_internal_error(parts: list[tuple[str, str, str]]) -> None:
    targets = [f"/v1/verdicts/{a}/{b}/{c}" for a, b, c in parts]
    targets += [f"/v1/verdicts?environment={a}&cursor={b}&limit={c}" for a, b, c in parts]
    for answer in ask(Held(verdict()), *targets):
        assert answer.code in (200, 400, 404)
        assert answer.json["status"] != "Successful"
