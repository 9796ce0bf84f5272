"""Write `fingerprints.json` anew, after a deliberate change of the fingerprint rules.

A changed rule gives old errors new ids, so it comes with a new `GROUPING_CONFIG`; without one this
refuses. Raise it in `streamwatch/fingerprint/shape.py`, run this file, and read the diff: every
changed template must be one that the change was meant to change.

To add a case, append `{"name": ..., "record": {...}}` to the file and run this: cases without an id
are filled in under the same `GROUPING_CONFIG`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from streamwatch.fingerprint import GROUPING_CONFIG, Shaper
from streamwatch.records import LogRecord

FILE = Path(__file__).with_name("fingerprints.json")
FIELDS = ("id", "kind", "template", "type", "frame")


def main() -> int:
    golden = json.loads(FILE.read_text(encoding="utf-8"))
    shaper = Shaper()
    for case in golden["cases"]:
        shape = shaper.shape(LogRecord(**case["record"]))
        fresh = {field: getattr(shape, field) for field in FIELDS}
        if (
            "id" in case
            and golden["grouping_config"] == GROUPING_CONFIG
            and any(case[field] != value for field, value in fresh.items())
        ):
            sys.stderr.write(f"{case['name']}: changed, but GROUPING_CONFIG did not\n")
            return 1
        case.update(fresh)
    golden["grouping_config"] = GROUPING_CONFIG
    FILE.write_text(json.dumps(golden, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
