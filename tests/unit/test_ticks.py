from __future__ import annotations

from streamwatch.counts import SourceWatermark
from streamwatch.ticks import NEVER, EventClock


def clock(*said: tuple[int, int, bool], partitions: int = 2) -> EventClock:
    made = EventClock()
    for partition, watermark, idle in said:
        made.hear(SourceWatermark("logs", partition, partitions, watermark, idle))
    return made


def test_slowest_live_partition_decides() -> None:
    assert clock((0, 100, False), (1, 80, False)).advance(5) == 74


def test_partition_never_heard_of_holds_everything_back() -> None:
    silent = clock((0, 100, False))
    assert silent.advance(5) == NEVER
    assert silent.silent() == [1]


def test_partition_that_has_no_data_yet_holds_everything_back_until_idle() -> None:
    made = clock((0, 100, False), (1, -1, False))
    assert made.advance(5) == NEVER
    made.hear(SourceWatermark("logs", 1, 2, -1, idle=True))
    assert made.advance(5) == 94


def test_idle_partition_holds_nothing_back() -> None:
    assert clock((0, 100, False), (1, 20, True)).advance(5) == 94


def test_when_all_are_idle_the_last_tick_is_complete() -> None:
    assert clock((0, 100, True), (1, 20, True)).advance(5) == 100


def test_time_never_goes_back() -> None:
    made = clock((0, 100, False), (1, 100, False))
    assert made.advance(5) == 94
    made.hear(SourceWatermark("logs", 0, 2, 50))
    assert made.advance(5) == 94
    assert made.sources[0].watermark == 100


def test_partition_added_to_the_topic_is_waited_for() -> None:
    made = clock((0, 100, False), (1, 100, False))
    made.advance(5)
    made.hear(SourceWatermark("logs", 0, 3, 200))
    made.hear(SourceWatermark("logs", 1, 3, 200))
    assert made.advance(5) == 94
    made.hear(SourceWatermark("logs", 2, 3, 150))
    assert made.advance(5) == 144
