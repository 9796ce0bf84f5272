"""Event time: which ticks are complete.

A tick (one second of event time) of a service is evaluated once, when every live partition of the
topics that the service logs to has passed it by the allowed lateness. Until every partition of such
a topic has spoken, no tick is complete: a partition that was never heard of may hold any of them.
Topics are independent: one that lags holds back only the services that log to it.
"""

from __future__ import annotations

import msgspec

from streamwatch.counts import SourceWatermark

#: No tick is complete.
NEVER = -1


class EventClock(msgspec.Struct):
    """The watermark over all partitions of one topic.

    Attributes:
        sources: the last word of each partition.
        closed: greatest complete tick; never goes back.
    """

    sources: dict[int, SourceWatermark] = {}
    closed: int = NEVER

    def hear(self, source: SourceWatermark) -> None:
        """Take in what one partition says."""
        known = self.sources.get(source.partition)
        tick = max(source.watermark, known.watermark if known else NEVER)
        self.sources[source.partition] = msgspec.structs.replace(source, watermark=tick)

    def advance(self, allowed_lateness: int) -> int:
        """Bring `closed` up to date and return it.

        Args:
            allowed_lateness: seconds that a record may be behind the newest of its partition.
        """
        self.closed = max(self.closed, self._complete(allowed_lateness))
        return self.closed

    def silent(self) -> list[int]:
        """Partitions that have not spoken and so hold back every tick."""
        expected = max((source.partitions for source in self.sources.values()), default=0)
        return [
            partition
            for partition in range(expected)
            if partition not in self.sources
            or (self.sources[partition].watermark < 0 and not self.sources[partition].idle)
        ]

    def _complete(self, allowed_lateness: int) -> int:
        if not self.sources or self.silent():
            return NEVER
        live = [source.watermark for source in self.sources.values() if not source.idle]
        if live:
            return min(live) - allowed_lateness - 1
        # Everything was read to its end and nothing is in flight: the last tick is whole too.
        return max(source.watermark for source in self.sources.values())
