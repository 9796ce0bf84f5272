"""The published schemas describe what is really written, and nothing else."""

from __future__ import annotations

import json
from runpy import run_module
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from jsonschema import Draft202012Validator

from streamwatch.api.board import Board, Identity, Moment
from streamwatch.config import Config
from streamwatch.counts import encode
from streamwatch.detect.verdict import Status, encode_verdict
from streamwatch.signals import schemas
from streamwatch.signals.envelope import encode_signal
from wire_examples import (
    COUNTS,
    DEAD_LETTER,
    DEPLOYMENT,
    SIGNAL,
    VERDICT,
    WATERMARKS,
    verdict,
)

if TYPE_CHECKING:
    from pathlib import Path

WRITTEN = {
    "counts": encode(COUNTS),
    "watermarks": encode(WATERMARKS),
    "deployment": encode(DEPLOYMENT),
    "verdict": encode_verdict(VERDICT),
    "signal": encode_signal(SIGNAL),
    "dead-letter": encode(DEAD_LETTER),
    "config": msgspec.json.encode(Config()),
}


def published(name: str) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(schemas.path(name).read_text(encoding="utf-8"))
    return schema


def validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(published(name))


def altered(name: str, path: str, value: Any) -> Any:
    """The example with the value at a dotted path replaced, or removed for `...`."""
    example = json.loads(WRITTEN[name])
    *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    node = example
    for part in way:
        node = node[part]
    if value is ...:
        del node[last]
    else:
        assert last not in node or node[last] != value
        node[last] = value
    return example


@pytest.mark.parametrize("name", schemas.FORMATS)
class TestEverySchema:
    def test_the_published_file_is_what_the_code_says(self, name: str) -> None:
        assert schemas.path(name).read_text(encoding="utf-8") == schemas.text(name), (
            "run `python -m streamwatch.signals.schemas`"
        )

    def test_it_is_a_schema_with_a_name_of_its_own(self, name: str) -> None:
        schema = published(name)
        Draft202012Validator.check_schema(schema)
        assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
        assert schema["$id"] == f"urn:streamwatch:schema:{name}:1"
        assert schema["title"]
        assert schema["description"]

    def test_what_is_written_is_valid(self, name: str) -> None:
        validator(name).validate(json.loads(WRITTEN[name]))

    def test_every_field_that_is_written_is_described_by_the_schema(self, name: str) -> None:
        schema = published(name)
        top = schema["$defs"][schemas.FORMATS[name].__name__]
        assert set(json.loads(WRITTEN[name])) == set(top["properties"])

    def test_docstrings_do_not_leak_their_form(self, name: str) -> None:
        for definition in published(name)["$defs"].values():
            assert "Attributes:" not in definition.get("description", "")


@pytest.mark.parametrize("name", ["verdict", "signal", "deployment", "dead-letter"])
def test_every_field_of_a_flat_format_says_what_it_means(name: str) -> None:
    schema = published(name)
    top = schema["$defs"][schemas.FORMATS[name].__name__]
    undescribed = [key for key, value in top["properties"].items() if "description" not in value]
    assert [key for key in undescribed if key != "type"] in ([], ["version"])


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [
        ("counts", "type", "watermarks"),
        ("counts", "version", 2),
        ("counts", "service", None),
        ("counts", "sources.0.last_offset", "199"),
        ("counts", "exposure.records", ...),
        ("counts", "errors.clients", [17]),
        ("counts", "definitions.0.kind", "binary"),
        ("watermarks", "sources", {}),
        ("watermarks", "sources.0.watermark", 1.5),
        ("deployment", "id", ...),
        ("deployment", "kind", "exploded"),
        ("deployment", "share", "half"),
        ("verdict", "status", "successful"),
        ("verdict", "action", "rollback"),
        ("verdict", "mode", "guess"),
        ("verdict", "version", 2),
        ("verdict", "evidence", None),
        ("verdict", "evidence.e_value", "4321"),
        ("verdict", "evidence.fingerprints.0.new", "yes"),
        ("verdict", "health.problems", ...),
        ("verdict", "missing", {}),
        ("signal", "kind", "stop"),
        ("signal", "sequence", ...),
        ("signal", "blast_radius", []),
        ("signal", "version", 0),
        ("dead-letter", "offset", "4711"),
        ("dead-letter", "reason", ...),
        ("config", "kafka.bootstrup", "localhost:9092"),
        ("config", "serve.port", 65536),
        ("config", "policies.default.tolerated_ratio", 0.5),
        ("config", "sources.0.topic", ...),
    ],
)
def test_what_is_altered_is_not_valid(name: str, path: str, value: object) -> None:
    assert not validator(name).is_valid(altered(name, path, value))


def test_what_the_api_serves_is_a_verdict() -> None:
    board = Board()
    for each in (verdict("1"), verdict("2", status=Status.INCONCLUSIVE)):
        board.put(each.key.encode(), encode_verdict(each), 0.0, 0.0)
    for release in ("1", "2"):
        identity = Identity("production", "checkout", release)
        stale = board.get(identity, Moment(1000.0, 30.0, 0.0))
        assert stale is not None
        validator("verdict").validate(stale.as_dict())


def test_the_command_writes_every_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(schemas, "path", lambda name: tmp_path / f"{name}.json")
    run_module("streamwatch.signals.schemas", run_name="__main__")
    written = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    assert written == {f"{name}.json": schemas.text(name) for name in schemas.FORMATS}


def test_a_docstring_that_describes_what_is_not_there_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Wrong(msgspec.Struct):
        """Something.

        Attributes:
            there: is there.
            gone: is not.
        """

        there: int

    monkeypatch.setitem(schemas.FORMATS, "wrong", Wrong)
    with pytest.raises(ValueError, match=r"Wrong.*gone"):
        schemas.schema("wrong")
