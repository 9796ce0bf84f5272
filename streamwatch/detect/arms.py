"""What one release did in one tick, as the judge sees it."""

from __future__ import annotations

import msgspec


class ArmTick(msgspec.Struct):
    """One release in one tick, over all instances.

    Attributes:
        records: log records.
        requests: those that stand for a request.
        mature_records: records of instances past their warm-up.
        mature_requests: requests of instances past their warm-up.
        mature_errors: error records of instances past their warm-up, every repeat.
        errors: error records by fingerprint.
        counted: errors by fingerprint that enter the test: first occurrences per client, of
            instances past their warm-up.
        raw: fingerprints of `counted` of which no client was known.
        clients: by fingerprint, hashes of the clients that met it, as far as the counts tell;
            None stands for errors that named no client.
    """

    records: int = 0
    requests: int = 0
    mature_records: int = 0
    mature_requests: int = 0
    mature_errors: int = 0
    errors: dict[str, int] = {}
    counted: dict[str, float] = {}
    raw: set[str] = set()
    clients: dict[str, set[int | None]] = {}

    def worst(self) -> str | None:
        """The most frequent fingerprint; None without errors."""
        return min(self.errors, key=lambda group: (-self.errors[group], group), default=None)

    def failing(self) -> int:
        """At least so many units of exposure failed: the errors of the most frequent fingerprint.

        One failing request may log several errors, so their sum would count it several times.
        """
        return max(self.errors.values(), default=0)
