"""Ids that are out in topics and dashboards must not change by accident."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from streamwatch.fingerprint import GROUPING_CONFIG, Shaper
from streamwatch.records import LogRecord

GOLDEN = json.loads(
    (Path(__file__).parents[2] / "golden" / "fingerprints.json").read_text(encoding="utf-8")
)


def test_golden_file_is_of_this_grouping_config() -> None:
    assert GOLDEN["grouping_config"] == GROUPING_CONFIG, (
        "rules were versioned: run tests/golden/fingerprints_regenerate.py and read the diff"
    )


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: case["name"])
def test_shape_is_as_published(case: dict[str, Any]) -> None:
    shape = Shaper().shape(LogRecord(**case["record"]))
    published = {field: case[field] for field in ("id", "kind", "template", "type", "frame")}
    assert {field: getattr(shape, field) for field in published} == published, (
        "a rule changed: if on purpose, raise GROUPING_CONFIG and run "
        "tests/golden/fingerprints_regenerate.py"
    )
    assert shape.example == ""
