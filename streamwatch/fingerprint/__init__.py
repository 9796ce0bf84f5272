"""Error fingerprints: a stateless shape per record, and groups of shapes per service.

`Shaper` runs in ingest, one per worker: a record's shape is a pure function of the record and of
`GROUPING_CONFIG`. `Grouper` runs in detect, one per service: it merges shapes that differ only in a
word that varies. `redact` makes text fit to be shown.
"""

from streamwatch.fingerprint.merge import Grouper
from streamwatch.fingerprint.redact import redact
from streamwatch.fingerprint.shape import GROUPING_CONFIG, Shaper

__all__ = ["GROUPING_CONFIG", "Grouper", "Shaper", "redact"]
