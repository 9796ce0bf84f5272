"""`streamwatch.yaml`: what loads, what is refused, and in which words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from streamwatch.commands.check_config import default_file
from streamwatch.config import Config, load
from streamwatch.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

SHIPPED = Path(__file__).parents[2] / "streamwatch.yaml"


def load_text(folder: Path, text: str, environment: Mapping[str, str] | None = None) -> Config:
    file = folder / "streamwatch.yaml"
    file.write_text(text)
    return load(file, environment or {})


def test_the_shipped_file_is_what_the_code_says() -> None:
    assert SHIPPED.read_text() == default_file(), (
        "run: streamwatch check-config --print-default > streamwatch.yaml"
    )


def test_the_shipped_file_loads_to_the_defaults() -> None:
    assert load(SHIPPED, {}) == Config()


def test_every_key_of_the_shipped_file_is_explained() -> None:
    # The field mapping explains itself: its keys are the record's.
    lines = SHIPPED.read_text().splitlines()
    mapping = range(lines.index("    mapping:") + 1, lines.index("# Settings of the ingest stage."))
    unexplained = [
        line
        for index, line in enumerate(lines)
        if ":" in line
        and index not in mapping
        and not line.lstrip().startswith("#")
        and not lines[index - 1].lstrip().startswith("#")
    ]

    assert unexplained == []


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    assert load_text(tmp_path, "# nothing\n") == Config()


def test_without_a_file_the_defaults_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert load(None, {}) == Config()


def test_the_file_of_this_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "streamwatch.yaml").write_text("ingest: {workers: 3}")
    monkeypatch.chdir(tmp_path)

    assert load(None, {}).ingest.workers == 3


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    environment = {
        "STREAMWATCH_INGEST__FLUSH_SECONDS": "2",
        "STREAMWATCH_KAFKA__SECURITY__PROTOCOL": "SSL",
        "STREAMWATCH_SOURCES": "not a key: no double underscore",
        "STREAMWATCH_TEST_BOOTSTRAP": "nor is this",
        "UNRELATED__KEY": "x",
    }

    config = load_text(tmp_path, "ingest: {flush_seconds: 9, workers: 2}", environment)

    assert config.ingest.flush_seconds == 2.0
    assert config.ingest.workers == 2
    assert config.kafka.security.protocol == "SSL"


@pytest.mark.parametrize(
    ("text", "key", "problem"),
    [
        ("ingest: {flush: 1}", "ingest.flush", "no such key"),
        ("nonsense: 1", "nonsense", "no such key"),
        ("ingest: {workers: many}", "ingest.workers", "expected `int`"),
        ("ingest: {workers: 0}", "ingest.workers", ">= 1"),
        ("serve: {port: 70000}", "serve.port", "<= 65535"),
        ("kafka: {security: {protocol: TLS}}", "kafka.security.protocol", "invalid enum value"),
        ("kafka: {security: {protocol: SASL_SSL}}", "kafka.security.sasl_mechanism", "is missing"),
        ("sources: []", "sources", "is empty"),
        ("sources: [{topic: a}, {topic: a}]", "sources", "twice"),
        ("topics: {min_insync_replicas: 2}", "topics.min_insync_replicas", "above"),
        ("policies: {default: {dry: true}}", "policies.default.dry", "no such key"),
        (
            "policies: {overrides: [{set: {tolerated_ratio: 0.5}}]}",
            "policies.overrides[0].set.tolerated_ratio",
            ">= 1",
        ),
        ("policies: {overrides: [{set: {x: 1}}]}", "policies.overrides[0].set.x", "no such key"),
        ("policies: {overrides: [{set: {no: 1}}]}", "policies.overrides[0].set", "got `bool`"),
        ("[1, 2]", "streamwatch.yaml", "not a mapping"),
        ("a: [", "streamwatch.yaml", "is not YAML"),
    ],
)
def test_a_wrong_key_is_one_line_that_names_it(
    tmp_path: Path, text: str, key: str, problem: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_text(tmp_path, text)

    assert caught.value.key.endswith(key)
    assert problem in caught.value.problem
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_wrong_override_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ingest\.worker: no such key"):
        load_text(tmp_path, "", {"STREAMWATCH_INGEST__WORKER": "2"})


def test_an_override_below_a_value_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="STREAMWATCH_LOG_LEVEL__X"):
        load_text(tmp_path, "log_level: info", {"STREAMWATCH_LOG_LEVEL__X": "2"})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "absent.yaml", {})
