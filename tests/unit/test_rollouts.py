"""Releases and rollouts: what opens one, what ends it, and who is the baseline afterwards."""

from __future__ import annotations

from typing import Literal

import pytest

from streamwatch.counts import DeploymentEvent
from streamwatch.policy import Policy
from streamwatch.rollouts import (
    MAX_RELEASES,
    MAX_ROLLOUTS,
    SETTLE_SECONDS,
    Closing,
    ReleaseTracker,
    Rollout,
)

POLICY = Policy(idle_close_seconds=60, max_rollout_seconds=600)
Kind = Literal["started", "step", "promoted", "aborted", "rolled_back"]


def event(kind: Kind, release: str, tick: int, baseline: str = "") -> DeploymentEvent:
    return DeploymentEvent(
        f"{kind}-{release}-{tick}", kind, tick, "production", "shop", release, baseline
    )


class Service:
    """A tracker whose ticks follow each other."""

    def __init__(self) -> None:
        self.tracker = ReleaseTracker("production", "shop")
        self.tick = 1_000
        self.ended: list[Rollout] = []

    def serve(self, seconds: int, **records: int) -> None:
        """Each release logs so much in each second; `v2=5` is release 2."""
        named = {name.removeprefix("v"): count for name, count in records.items()}
        for _ in range(seconds):
            self.tick += 1
            self.ended += self.tracker.observe(self.tick, named, POLICY)

    def tell(self, kind: Kind, release: str, baseline: str = "") -> None:
        self.ended += self.tracker.apply(event(kind, release, self.tick, baseline))

    @property
    def open(self) -> dict[str, str]:
        """Candidate to baseline."""
        return {name: each.baseline for name, each in self.tracker.rollouts.items()}

    @property
    def closed(self) -> list[tuple[str, Closing | None]]:
        return [(each.candidate, each.closing) for each in self.ended]


@pytest.fixture
def service() -> Service:
    """Release 1 has settled as the baseline."""
    made = Service()
    made.serve(SETTLE_SECONDS + 1, v1=10)
    return made


def test_nothing_opens_before_the_service_was_watched_for_a_while() -> None:
    service = Service()
    service.serve(SETTLE_SECONDS, v1=10, v2=3)
    assert (service.tracker.baseline, service.open) == ("", {})


def test_of_two_releases_at_start_the_busier_one_is_the_baseline() -> None:
    service = Service()
    service.serve(1, v2=10)
    service.serve(SETTLE_SECONDS, v1=10, v2=3)
    assert (service.tracker.baseline, service.open) == ("1", {"2": "1"})


def test_release_beside_the_baseline_opens_one_rollout(service: Service) -> None:
    service.serve(5, v1=10, v2=1)
    first = service.tracker.rollouts["2"]
    service.serve(5, v1=10, v2=1)
    assert service.tracker.rollouts["2"] is first
    assert (first.opened, first.announced) == (1_000 + SETTLE_SECONDS + 2, False)


def test_two_candidates_are_judged_each_beside_the_baseline(service: Service) -> None:
    service.serve(5, v1=10, v2=1, v3=1)
    assert service.open == {"2": "1", "3": "1"}
    assert len({rollout.id for rollout in service.tracker.rollouts.values()}) == 2


def test_silent_candidate_is_withdrawn_and_opens_anew_when_it_comes_back(service: Service) -> None:
    service.serve(5, v1=10, v2=1)
    first = service.tracker.rollouts["2"].id
    service.serve(POLICY.idle_close_seconds, v1=10)
    assert service.closed == [("2", Closing.WITHDRAWN)]
    service.serve(1, v1=10, v2=1)
    assert service.tracker.rollouts["2"].id != first


def test_candidate_that_flaps_stays_in_one_rollout(service: Service) -> None:
    for _ in range(5):
        service.serve(20, v1=10, v2=1)
        service.serve(20, v1=10)
    assert service.open == {"2": "1"}
    assert service.closed == []


def test_candidate_is_promoted_when_the_baseline_falls_silent(service: Service) -> None:
    service.serve(5, v1=10, v2=1)
    service.serve(POLICY.idle_close_seconds, v2=10)
    assert service.closed == [("2", Closing.PROMOTED)]
    assert (service.tracker.baseline, service.open) == ("2", {})


def test_halted_candidate_is_never_promoted_by_silence(service: Service) -> None:
    service.serve(5, v1=10, v2=1)
    service.tracker.rollouts["2"].halted = True
    service.serve(2 * POLICY.idle_close_seconds, v2=10)
    assert service.tracker.baseline == "1"
    assert service.closed == []


def test_rollout_ends_at_its_greatest_age_and_does_not_open_anew(service: Service) -> None:
    service.serve(POLICY.max_rollout_seconds + 10, v1=10, v2=1)
    assert service.closed == [("2", Closing.TOO_OLD)]
    assert service.open == {}


def test_stragglers_of_a_withdrawn_release_open_nothing(service: Service) -> None:
    service.serve(5, v1=10, v2=1)
    service.tell("aborted", "2")
    service.serve(30, v1=10, v2=1)
    assert service.open == {}


def test_stragglers_of_the_old_baseline_open_nothing(service: Service) -> None:
    service.serve(5, v1=10, v2=1)
    service.tell("promoted", "2")
    service.serve(30, v1=1, v2=10)
    assert (service.tracker.baseline, service.open) == ("2", {})


def test_announced_rollout_has_the_baseline_it_names(service: Service) -> None:
    service.serve(5, v1=10, v0=10)
    service.tell("started", "2", baseline="0")
    assert service.open["2"] == "0"
    assert service.tracker.rollouts["2"].announced


def test_promotion_that_is_said_twice_leaves_the_next_rollout_open(service: Service) -> None:
    service.serve(5, v1=10, v2=1)
    service.tell("promoted", "2")
    service.serve(5, v2=10, v3=1)
    service.tell("promoted", "2")
    service.serve(5, v2=10, v3=1)
    assert service.open == {"3": "2"}
    assert service.closed == [("2", Closing.PROMOTED)]


def test_younger_candidate_is_judged_beside_the_promoted_one(service: Service) -> None:
    service.serve(5, v1=10, v2=1)
    service.serve(5, v1=10, v2=1, v3=1)
    service.tell("promoted", "2")
    service.serve(1, v2=10, v3=1)
    assert service.closed == [("2", Closing.PROMOTED), ("3", Closing.SUPERSEDED)]
    assert service.open == {"3": "2"}


def test_older_candidate_that_was_overtaken_is_a_straggler(service: Service) -> None:
    service.serve(5, v1=10, v2=1)
    service.serve(5, v1=10, v2=1, v3=1)
    service.tell("promoted", "3")
    service.serve(5, v2=1, v3=10)
    assert service.open == {}


def test_halted_candidate_is_not_judged_anew_when_it_is_superseded(service: Service) -> None:
    service.serve(5, v1=10, v2=1)
    service.serve(5, v1=10, v2=1, v3=1)
    service.tracker.rollouts["3"].halted = True
    service.tell("promoted", "2")
    service.serve(5, v2=10, v3=1)
    assert service.open == {}


@pytest.mark.parametrize("named", ["1", ""])
def test_rolled_back_baseline_gives_way_to_the_one_before(service: Service, named: str) -> None:
    service.serve(5, v1=10, v2=1)
    service.tell("promoted", "2")
    service.serve(10, v2=10)
    service.tell("rolled_back", "2", baseline=named)
    service.serve(10, v1=10, v2=1)
    assert (service.tracker.baseline, service.open) == ("1", {})
    service.serve(5, v1=10, v3=1)
    assert service.open == {"3": "1"}


def test_release_that_came_back_unannounced_follows_a_baseline_that_is_gone(
    service: Service,
) -> None:
    service.serve(5, v1=10, v2=1)
    service.tell("promoted", "2")
    service.serve(10, v2=10)
    service.serve(POLICY.idle_close_seconds, v1=10)
    assert service.tracker.baseline == "1"
    service.serve(5, v1=10, v3=1)
    assert service.open == {"3": "1"}


def test_records_of_releases_beyond_the_bound_are_counted(service: Service) -> None:
    many = {f"v{number}": 1 for number in range(2, 2 + MAX_ROLLOUTS + 3)}
    service.serve(1, v1=10, **many)
    assert len(service.open) == MAX_ROLLOUTS
    assert service.tracker.ignored_records == 3


def test_releases_are_bounded_and_the_baseline_is_kept(service: Service) -> None:
    for number in range(10 * MAX_RELEASES):
        service.serve(1, **{f"v{100 + number}": 1})
    assert len(service.tracker.releases) == MAX_RELEASES
    assert "1" in service.tracker.releases
