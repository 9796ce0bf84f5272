"""Builds one release of a service: its code, patched, in a virtual environment of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Build:
    """One release on disk.

    Attributes:
        name: `service-release`.
        folder: holds `app/` and `venv/`.
    """

    name: str
    folder: Path

    @property
    def app(self) -> Path:
        """The folder that `shop` is imported from."""
        return self.folder / "app"

    @property
    def python(self) -> Path:
        """The interpreter that sees the release's dependencies."""
        return self.folder / "venv" / "bin" / "python"

    @property
    def requirements(self) -> list[str]:
        """The pinned dependencies, `name==version`."""
        file = HERE / "releases" / self.name / "requirements.txt"
        return file.read_text(encoding="utf-8").split()


def build(service: str, release: str, root: Path) -> Build:
    """Copy the code, apply the release's patch if it has one, install its dependencies."""
    made = Build(f"{service}-{release}", root / f"{service}-{release}")
    source = HERE / "releases" / made.name
    shutil.rmtree(made.app, ignore_errors=True)
    shutil.copytree(HERE / "shop", made.app / "shop", ignore=shutil.ignore_patterns("__pycache__"))
    changes = source / "changes.patch"
    if changes.exists():
        with changes.open("rb") as file:
            subprocess.run(["patch", "--strip=1", "--quiet"], cwd=made.app, stdin=file, check=True)
    if not made.python.exists():
        print(f"installing {made.name}", file=sys.stderr)
        venv.create(made.folder / "venv", with_pip=True)
    pip: list[str | Path] = [made.python, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--no-deps", "-r", source / "requirements.txt"], check=True)
    subprocess.run([*pip, "check"], check=True, stdout=subprocess.DEVNULL)
    return made
