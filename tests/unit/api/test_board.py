"""What a verdict reads as, at every age and in every state of the connection."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from streamwatch.api.board import Board, Filter, Identity, Moment
from streamwatch.detect.verdict import Status, Verdict, encode_verdict
from streamwatch.errors import InvalidMessage, Reason
from wire_examples import verdict

NOW = 1_763_800_100.0
FRESH = Moment(NOW, 30.0, 0.5)
EVERYTHING = Filter()


def board_of(*verdicts: Verdict, written_at: float = NOW, capacity: int = 100) -> Board:
    board = Board(capacity)
    for each in verdicts:
        board.put(each.key.encode(), encode_verdict(each), written_at, written_at)
    return board


def identity(of: Verdict) -> Identity:
    return Identity(of.environment, of.service, of.release)


def listed(board: Board, only: Filter = EVERYTHING, moment: Moment = FRESH) -> list[str]:
    return [reading.verdict.release for reading in board.page(only, None, 100, moment).readings]


class TestReading:
    def test_a_fresh_verdict_is_served_as_it_was_written(self) -> None:
        written = verdict()
        reading = board_of(written, written_at=NOW - 12.5).get(identity(written), FRESH)
        assert reading is not None
        assert reading.verdict == written
        assert (reading.written_at, reading.age_seconds) == (NOW - 12.5, 12.5)
        assert reading.stale is False

    @pytest.mark.parametrize(
        ("age", "status"), [(30.0, Status.SUCCESSFUL), (30.001, Status.INCONCLUSIVE)]
    )
    def test_an_open_success_is_believed_for_fresh_seconds(
        self, age: float, status: Status
    ) -> None:
        reading = board_of(verdict(), written_at=NOW - age).get(identity(verdict()), FRESH)
        assert reading is not None
        assert reading.verdict.status is status

    def test_a_stale_success_says_how_old_it_is_and_holds(self) -> None:
        reading = board_of(verdict(), written_at=NOW - 45).get(identity(verdict()), FRESH)
        assert reading is not None
        assert reading.stale is True
        assert reading.verdict.status is Status.INCONCLUSIVE
        assert reading.verdict.action == "hold"
        assert "45 s old" in reading.verdict.reason
        assert "detector may be stalled" in reading.verdict.reason
        assert "2.4.1 is Successful" in reading.verdict.reason
        assert "45 s old" in reading.verdict.health.problems[0]

    def test_a_stale_failure_stays_a_failure(self) -> None:
        failed = verdict(status=Status.FAILED)
        reading = board_of(failed, written_at=NOW - 4500).get(identity(failed), FRESH)
        assert reading is not None
        assert reading.stale is True
        assert (reading.verdict.status, reading.verdict.action) == (Status.FAILED, "halt")
        assert reading.verdict.reason == failed.reason

    def test_a_stale_inconclusive_that_may_proceed_holds(self) -> None:
        lenient = verdict(status=Status.INCONCLUSIVE, action="proceed")
        reading = board_of(lenient, written_at=NOW - 45).get(identity(lenient), FRESH)
        assert reading is not None
        assert (reading.verdict.status, reading.verdict.action) == (Status.INCONCLUSIVE, "hold")

    def test_a_closed_success_does_not_age(self) -> None:
        closed = verdict(open=False)
        reading = board_of(closed, written_at=NOW - 86_400).get(identity(closed), FRESH)
        assert reading is not None
        assert reading.verdict == closed
        assert reading.stale is False

    @pytest.mark.parametrize(
        ("out_of_step", "reason"), [(None, "not yet read all"), (31.0, "out of step with Kafka")]
    )
    @pytest.mark.parametrize("is_open", [True, False])
    def test_no_success_is_believed_while_out_of_step(
        self, out_of_step: float | None, reason: str, is_open: bool
    ) -> None:
        written = verdict(open=is_open)
        moment = Moment(NOW, 30.0, out_of_step)
        reading = board_of(written).get(identity(written), moment)
        assert reading is not None
        assert reading.verdict.status is Status.INCONCLUSIVE
        assert reason in reading.verdict.reason

    def test_a_detector_whose_clock_runs_ahead_goes_stale_all_the_same(self) -> None:
        board = Board()
        ahead = verdict()
        board.put(ahead.key.encode(), encode_verdict(ahead), NOW + 3600, NOW)
        fresh = board.get(identity(ahead), FRESH)
        later = board.get(identity(ahead), replace(FRESH, now=NOW + 31))
        assert fresh is not None
        assert later is not None
        assert (fresh.verdict.status, fresh.age_seconds) == (Status.SUCCESSFUL, 0.0)
        assert (later.verdict.status, later.age_seconds) == (Status.INCONCLUSIVE, 31.0)

    def test_the_served_object_is_the_verdict_and_three_fields_more(self) -> None:
        written = verdict()
        reading = board_of(written, written_at=NOW - 1).get(identity(written), FRESH)
        assert reading is not None
        served = reading.as_dict()
        assert {key: served.pop(key) for key in ("written_at", "age_seconds", "stale")} == {
            "written_at": NOW - 1,
            "age_seconds": 1.0,
            "stale": False,
        }
        assert list(served) == list(Verdict.__struct_fields__)


class TestRecords:
    def test_the_newest_of_a_key_counts(self) -> None:
        board = board_of(verdict(), verdict(status=Status.FAILED))
        reading = board.get(identity(verdict()), FRESH)
        assert reading is not None
        assert reading.verdict.status is Status.FAILED
        assert len(board) == 1

    def test_a_tombstone_removes_and_a_second_one_does_no_harm(self) -> None:
        board = board_of(verdict("1"), verdict("2"))
        for _ in range(2):
            board.put(verdict("1").key.encode(), None, NOW, NOW)
        assert board.get(identity(verdict("1")), FRESH) is None
        assert listed(board) == ["2"]

    @pytest.mark.parametrize(
        ("value", "reason"),
        [
            (b"\xff\xfe", Reason.UNDECODABLE),
            (b"{", Reason.UNDECODABLE),
            (b"{}", Reason.WRONG_TYPE),
            (encode_verdict(verdict(version=2)), Reason.WRONG_TYPE),
            (encode_verdict(verdict("another")), Reason.WRONG_TYPE),
        ],
    )
    def test_an_unreadable_successor_takes_the_success_back(
        self, value: bytes, reason: Reason
    ) -> None:
        board = board_of(verdict())
        with pytest.raises(InvalidMessage) as caught:
            board.put(verdict().key.encode(), value, NOW, NOW)
        assert caught.value.reason is reason
        reading = board.get(identity(verdict()), FRESH)
        assert reading is not None
        assert reading.verdict.status is Status.INCONCLUSIVE
        assert listed(board, Filter(status=Status.SUCCESSFUL)) == []
        # and a readable one gives it again
        board.put(verdict().key.encode(), encode_verdict(verdict()), NOW, NOW)
        assert listed(board, Filter(status=Status.SUCCESSFUL)) == ["2.4.1"]

    def test_an_unreadable_record_of_an_unknown_release_leaves_it_unknown(self) -> None:
        board = Board()
        with pytest.raises(InvalidMessage):
            board.put(verdict().key.encode(), b"{}", NOW, NOW)
        assert board.get(identity(verdict()), FRESH) is None

    @pytest.mark.parametrize("other", [("a", "b|c"), ("a%7Cb", "c"), ("a", "%7Cb|c")])
    def test_names_with_bars_do_not_share_a_key(self, other: tuple[str, str]) -> None:
        one, another = verdict("c", service="a|b"), verdict(other[1], service=other[0])
        assert one.key != another.key
        board = board_of(one, another)
        assert board.get(identity(one), FRESH) is not None
        assert board.get(identity(another), FRESH) is not None

    def test_beyond_its_capacity_it_lets_go_of_what_was_not_written_for_longest(self) -> None:
        board = board_of(verdict("1"), verdict("2"), verdict("1"), verdict("3"), capacity=2)
        assert listed(board) == ["1", "3"]
        assert board.evicted == 1


class TestLists:
    def test_filters_restrict_one_by_one_and_together(self) -> None:
        board = board_of(
            verdict("1", environment="", service="a"),
            verdict("2", environment="prod", service="a", status=Status.FAILED),
            verdict("3", environment="prod", service="b", open=False),
        )
        assert listed(board) == ["1", "2", "3"]
        assert listed(board, Filter(environment="")) == ["1"]
        assert listed(board, Filter(environment="prod")) == ["2", "3"]
        assert listed(board, Filter(service="a")) == ["1", "2"]
        assert listed(board, Filter(status=Status.FAILED)) == ["2"]
        assert listed(board, Filter(open=False)) == ["3"]
        assert listed(board, Filter(environment="prod", open=True)) == ["2"]
        assert listed(board, Filter(service="c")) == []

    def test_status_is_filtered_by_how_it_reads_now(self) -> None:
        board = board_of(verdict(), written_at=NOW - 45)
        assert listed(board, Filter(status=Status.SUCCESSFUL)) == []
        assert listed(board, Filter(status=Status.INCONCLUSIVE)) == ["2.4.1"]

    def test_the_last_page_has_no_next(self) -> None:
        board = board_of(verdict("1"), verdict("2"))
        assert board.page(EVERYTHING, None, 2, FRESH).next is None
        assert board.page(EVERYTHING, None, 1, FRESH).next == identity(verdict("1"))

    @given(
        names=st.lists(
            st.tuples(st.sampled_from(["", "p", "q"]), st.text(max_size=3), st.text(max_size=3)),
            max_size=30,
            unique_by="|".join,
        ),
        removed=st.sets(st.integers(0, 29)),
        limit=st.integers(1, 7),
    )
    def test_pages_together_are_the_whole_list_in_order(
        self, names: list[tuple[str, str, str]], removed: set[int], limit: int
    ) -> None:
        verdicts = [verdict(r, environment=e, service=s) for e, s, r in names]
        board = board_of(*verdicts)
        for index in removed:
            if index < len(verdicts):
                board.put(verdicts[index].key.encode(), None, NOW, NOW)
        expected = sorted(names[i] for i in range(len(names)) if i not in removed)
        found: list[Identity] = []
        after = None
        while True:
            page = board.page(EVERYTHING, after, limit, FRESH)
            assert len(page.readings) <= limit
            found += [identity(reading.verdict) for reading in page.readings]
            after = page.next
            if after is None:
                break
        assert found == expected
