"""`streamwatch check-config` and `streamwatch version`, as a user calls them."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import orjson
import pytest
import yaml
from jsonschema import Draft202012Validator

import streamwatch
from streamwatch.commands import check_config, version
from streamwatch.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def call(module: object, *words: str) -> int:
    parser = argparse.ArgumentParser()
    module.add_parser(parser.add_subparsers())  # type: ignore[attr-defined] # a command module
    args = parser.parse_args(words)
    return int(args.run(args))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "given.yaml"


def test_a_valid_file_is_said_to_be_valid(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text("ingest: {workers: 4}")

    assert call(check_config, "check-config", "-c", str(file)) == 0
    assert capsys.readouterr().out == "the configuration is valid\n"


def test_json_tells_the_settings_in_force(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("ingest: {workers: 4}")
    monkeypatch.setenv("STREAMWATCH_DETECT__GROUP", "other")

    assert call(check_config, "check-config", "--json", "-c", str(file)) == 0
    answer = orjson.loads(capsys.readouterr().out)
    assert answer["valid"] is True
    assert answer["config"]["ingest"]["workers"] == 4
    assert answer["config"]["detect"]["group"] == "other"


def test_json_tells_what_is_wrong(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text("ingest: {worker: 4}")

    with pytest.raises(ConfigError):
        call(check_config, "check-config", "--json", "-c", str(file))

    answer = orjson.loads(capsys.readouterr().out)
    assert answer["valid"] is False
    assert answer["key"] == "ingest.worker"


def test_the_printed_default_satisfies_the_printed_schema(
    capsys: pytest.CaptureFixture[str],
) -> None:
    call(check_config, "check-config", "--schema")
    schema = orjson.loads(capsys.readouterr().out)
    call(check_config, "check-config", "--print-default")
    default = yaml.safe_load(capsys.readouterr().out)

    validator = Draft202012Validator(schema)
    assert list(validator.iter_errors(default)) == []
    default["ingest"]["worker"] = 1
    assert [error.validator for error in validator.iter_errors(default)] == ["additionalProperties"]


def test_version_names_what_a_bug_report_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(version, "version", "--json") == 0
    found = orjson.loads(capsys.readouterr().out)
    assert call(version, "version") == 0
    lines = capsys.readouterr().out.splitlines()

    assert found["streamwatch"] == streamwatch.__version__
    assert {"python", "librdkafka", "faust-streaming", "aiokafka", "kafka-python"} <= set(found)
    assert lines == [f"{name} {number}" for name, number in found.items()]
