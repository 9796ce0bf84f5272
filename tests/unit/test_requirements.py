"""The pinned requirements: whole, current, and free of addresses."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
LOCKS = {"run": (), "demo": ("embedded",), "dev": ("embedded", "dev")}
PIN = re.compile(r"^(?P<name>[\w.-]+)==(?P<version>[^\s;]+)(?P<rest>.*)$")


def pins(name: str) -> dict[str, list[Version]]:
    """Every pinned name; a name may have one version per Python."""
    found: dict[str, list[Version]] = {}
    for line in (ROOT / "requirements" / f"{name}.txt").read_text().splitlines():
        match = PIN.match(line)
        if match:
            found.setdefault(canonicalize_name(match["name"]), []).append(Version(match["version"]))
    return found


@pytest.mark.parametrize(("name", "extras"), LOCKS.items())
def test_the_lock_satisfies_pyproject(name: str, extras: tuple[str, ...]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [Requirement(text) for text in project["dependencies"]]
    for extra in extras:
        wanted += map(Requirement, project["optional-dependencies"][extra])
    pinned = pins(name)

    unmet = [
        str(need)
        for need in wanted
        if need.name != project["name"]
        and not any(version in need.specifier for version in pinned.get(need.name.lower(), []))
    ]

    assert unmet == [], "run: make lock"


def test_every_lock_pins_the_same_versions() -> None:
    dev = pins("dev")
    for name in ("run", "demo"):
        assert pins(name).items() <= dev.items()


@pytest.mark.parametrize("name", LOCKS)
def test_every_line_is_a_pin_a_hash_or_a_comment(name: str) -> None:
    lines = (ROOT / "requirements" / f"{name}.txt").read_text().splitlines()
    allowed = re.compile(r"^(\s*#.*|[\w.-]+==\S+( ; .+)? \\|    --hash=sha256:[0-9a-f]{64}( \\)?)$")

    assert [line for line in lines if not allowed.match(line)] == []
    assert not any("://" in line for line in lines)
