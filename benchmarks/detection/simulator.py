"""Rollouts whose truth is known: counts per second of two releases, as the engine is fed them.

Every family is harmless (`bad` is false) or bad; what hits both releases alike is no reason to
halt one of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from streamwatch.counts import (
    CountsBatch,
    Errors,
    Exposure,
    ShapeDefinition,
    SourceRange,
    SourceWatermark,
    Watermarks,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamwatch.counts import EngineInput

START = 1_700_000_000
BASELINE, CANDIDATE = "1.0", "1.1"


@dataclass(frozen=True)
class Family:
    """One kind of rollout.

    Attributes:
        name: what it is called in the table.
        requests: per second, of both releases together.
        errors: error rates per request of each known fingerprint.
        ratio: what the candidate multiplies the known rates with.
        new: rate of a fingerprint that only the candidate has.
        clusters: mean errors per burst; 1 for none.
        arm_noise: standard deviation of the log rate of each release, redrawn every 30 s.
        outage: seconds from the rollout's start in which both fail at `outage_rate`.
        outage_rate: error rate per request in the outage.
        diurnal: amplitude of a slow wave in traffic and error rate.
        onset: seconds after the candidate's start at which it goes bad.
    """

    name: str
    requests: float = 100.0
    errors: tuple[float, ...] = (0.004, 0.003, 0.001)
    ratio: float = 1.0
    new: float = 0.0
    clusters: float = 1.0
    arm_noise: float = 0.0
    outage: tuple[int, int] | None = None
    outage_rate: float = 0.3
    diurnal: float = 0.0
    onset: int = 0

    @property
    def bad(self) -> bool:
        """Whether the candidate is worse than the baseline."""
        return self.ratio > 1 or self.new > 0


NULL = [
    Family("poisson, 10/s", requests=10),
    Family("poisson, 100/s"),
    Family("poisson, 1000/s", requests=1000),
    Family("clustered", clusters=4),
    Family("arm noise", arm_noise=0.2),
    Family("outage", outage=(120, 240)),
    Family("diurnal", diurnal=0.7),
    Family("zero errors", errors=()),
]
BAD = [
    Family("2 times", ratio=2),
    Family("5 times", ratio=5),
    Family("20 times", ratio=20),
    Family("new, 1 %", new=0.01),
    Family("new, 5 %", new=0.05),
    Family("new, 1 %, clustered", new=0.01, clusters=4),
    Family("5 times, outage", ratio=5, outage=(120, 240)),
]

#: Candidate's share of traffic by seconds since its start.
STEPS = ((0, 0.05), (120, 0.25), (300, 0.5))


def candidate_share(second: int, begin: int) -> float:
    """The candidate's share of traffic."""
    share = 0.0
    for since, step in STEPS:
        if second >= begin + since:
            share = step
    return share


def rollout(family: Family, seed: int, seconds: int, begin: int = 120) -> Iterator[EngineInput]:
    """A batch and a watermark for every second; the candidate serves from `begin` on."""
    rng = np.random.default_rng(seed)
    rates = np.array([*family.errors, family.new])
    shapes = [f"{number:016x}" for number in range(len(rates))]
    definitions = [
        ShapeDefinition(id=shape, kind="exception", template=f"E{n}", type=f"E{n}")
        for n, shape in enumerate(shapes)
    ]
    noise = np.ones(2)
    for second in range(seconds):
        if second % 30 == 0:
            noise = np.exp(rng.normal(0, family.arm_noise, 2))
        wave = 1 + family.diurnal * np.sin(second / 200)
        share = candidate_share(second, begin)
        exposure: list[list[int]] = [[], [], [], [], []]
        errors = Errors([], [], [], [], [], [])
        columns = (errors.tick, errors.release, errors.instance, errors.shape, errors.count)
        for arm, part in enumerate((1 - share, share)):
            requests = int(rng.poisson(family.requests * wave * part))
            if part == 0:
                continue
            for values, value in zip(
                exposure, (START + second, arm, arm, requests, requests), strict=True
            ):
                values.append(value)
            arm_rates = rates * noise[arm] * wave * _badness(family, arm, second - begin)
            if family.outage and family.outage[0] <= second - begin < family.outage[1]:
                arm_rates = arm_rates + np.array([family.outage_rate, *[0.0] * (len(rates) - 1)])
            bursts = rng.poisson(requests * np.minimum(arm_rates, 0.95) / family.clusters)
            for shape, count in enumerate(bursts):
                total = int(count) if family.clusters == 1 else _burst(rng, int(count), family)
                if not total:
                    continue
                for values, value in zip(
                    columns, (START + second, arm, arm, shape, total), strict=True
                ):
                    values.append(value)
                smallest = np.sort(rng.integers(0, 2**48, total))[:16]
                errors.clients.append([int(client) for client in smallest])
        yield CountsBatch(
            environment="production",
            service="simulated",
            grouping_config="1",
            sources=[SourceRange("logs", 0, second, second)],
            releases=[BASELINE, CANDIDATE],
            instances=["a", "b"],
            shapes=shapes,
            exposure=Exposure(*exposure),
            errors=errors,
            definitions=definitions if second == 0 else [],
        )
        yield Watermarks([SourceWatermark("logs", 0, 1, START + second)])


def _badness(family: Family, arm: int, since: int) -> np.ndarray:
    known = np.ones(len(family.errors))
    if arm and since >= family.onset:
        return np.array([*(known * family.ratio), 1.0])
    return np.array([*known, 0.0])


def _burst(rng: np.random.Generator, bursts: int, family: Family) -> int:
    return int(rng.geometric(1 / family.clusters, bursts).sum()) if bursts else 0


def at_traffic(family: Family, requests: float) -> Family:
    """The same family at another level of traffic."""
    return replace(family, name=f"{family.name}, {requests:g}/s", requests=requests)
