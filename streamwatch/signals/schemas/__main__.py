"""Write the published schemas: `python -m streamwatch.signals.schemas`."""

from __future__ import annotations

from streamwatch.signals import schemas

if __name__ == "__main__":
    for name in schemas.FORMATS:
        schemas.path(name).write_text(schemas.text(name), encoding="utf-8")
