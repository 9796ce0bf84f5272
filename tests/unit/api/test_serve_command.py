"""What `streamwatch serve` makes of its options."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import pytest

from pipelines import serve as pipeline
from streamwatch import logs
from streamwatch.commands import serve
from streamwatch.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from streamwatch.config import Config, Serve


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Serve]:
    """Runs the command over a file with a port of its own; returns what would be served."""
    configs: list[Config] = []
    monkeypatch.setattr(pipeline, "run", configs.append)
    monkeypatch.setattr(logs, "configure", lambda _level: None)
    file = tmp_path / "streamwatch.yaml"
    file.write_text("serve: {port: 8123, fresh_seconds: 7}\n")

    def run(*options: str) -> Serve:
        parser = argparse.ArgumentParser()
        serve.add_parser(parser.add_subparsers())
        args = parser.parse_args(["serve", "--config", str(file), *options])
        assert args.run(args) == 0
        return configs.pop().serve

    return run


def test_the_file_counts_where_no_option_does(served: Callable[..., Serve]) -> None:
    config = served()
    assert (config.host, config.port, config.fresh_seconds) == ("127.0.0.1", 8123, 7)


def test_options_win_over_the_file(served: Callable[..., Serve]) -> None:
    config = served("--host", "::1", "--port", "0")
    assert (config.host, config.port, config.fresh_seconds) == ("::1", 0, 7)


@pytest.mark.parametrize("port", ["-1", "65536"])
def test_an_impossible_port_is_a_usage_error(served: Callable[..., Serve], port: str) -> None:
    with pytest.raises(UsageError, match="--port"):
        served("--port", port)
