"""Counting errors by client: a retry storm is one client failing many times, not many failures."""

from __future__ import annotations

from hashlib import blake2b

import msgspec

from streamwatch.counts import CLIENTS_PER_ROW

#: A client's further errors of the same fingerprint do not count for so long, in seconds.
QUIET_SECONDS = 60

#: Most (release, fingerprint, client) triples remembered for one service.
MAX_REMEMBERED = 20_000

_HASH_SPACE = float(1 << 48)


class RecentClients(msgspec.Struct):
    """Which client made which error within the last minute, in one service.

    Attributes:
        seen: 64-bit hash of (release, fingerprint, client) to the tick it last counted in.
        forgotten: triples dropped for want of room, each of which may count once more.
    """

    seen: dict[int, int] = {}
    forgotten: int = 0

    def count(
        self, tick: int, release: str, group: str, clients: list[int], errors: int
    ) -> tuple[float, bool]:
        """How many of one row's errors are first occurrences.

        Args:
            tick: the row's tick.
            release: the row's release.
            group: the row's fingerprint.
            clients: its smallest client hashes; empty when no client is known.
            errors: its error records.

        Returns:
            The count, and whether it is raw: no client was known, so every record counts. A full
            list of hashes is a k-minimum-values sketch, from which the number of distinct clients
            is estimated (Bar-Yossef et al. 2002).
        """
        if not clients:
            return float(errors), True
        salt = blake2b(f"{release}\0{group}".encode(), digest_size=8).digest()
        base = int.from_bytes(salt)
        fresh = 0
        for client in clients:
            key = base ^ client
            last = self.seen.get(key)
            if last is None or tick - last >= QUIET_SECONDS:
                fresh += 1
                self.seen[key] = tick
        distinct = len(clients)
        if distinct >= CLIENTS_PER_ROW:
            estimate = (CLIENTS_PER_ROW - 1) * _HASH_SPACE / (max(clients) + 1)
            return fresh / distinct * min(max(estimate, distinct), errors), False
        return float(fresh), False

    def expire(self, tick: int) -> None:
        """Forget what is older than a minute, and the oldest beyond the bound."""
        self.seen = {key: last for key, last in self.seen.items() if tick - last < QUIET_SECONDS}
        excess = len(self.seen) - MAX_REMEMBERED
        if excess > 0:
            for key in sorted(self.seen, key=lambda key: (self.seen[key], key))[:excess]:
                del self.seen[key]
            self.forgotten += excess
