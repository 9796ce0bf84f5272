"""False halts, misses and delay per family of simulated rollouts, of us and of what others use.

    python benchmarks/detection/table.py --rollouts 200 --processes 2

All detectors see the same streams. Each rollout is judged every second for fifteen minutes; a
harmless one that is ever halted counts as a false halt (with its Clopper-Pearson upper limit), a
bad one that never is as missed. Another detector is one class in `detectors.py`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import orjson
from scipy import stats

sys.path.insert(0, str(Path(__file__).parent))
from detectors import DETECTORS
from simulator import BAD, NULL, Family, rollout

SECONDS = 900
BEGIN = 120
CONFIDENCE = 0.95
COLUMNS = ("family", "detector", "halted", "passed", "limit", "mean s", "p95 s")
FORMAT = "{:<22}{:<14}{:>10}{:>8}{:>9}{:>8}{:>8}"


@dataclass(frozen=True)
class Row:
    """One line of the table; delays in seconds since the candidate went bad."""

    detector: str
    family: str
    bad: bool
    rollouts: int
    halted: int
    passed: int
    upper_limit: float
    mean_delay: float | None
    p95_delay: float | None


def play(detector: str, family: Family, seed: int) -> tuple[float | None, bool]:
    """Delay of the halt, if there was one, and whether the candidate was ever passed."""
    judge = DETECTORS[detector]()
    passed = False
    for second, message in enumerate(rollout(family, seed, SECONDS, BEGIN)):
        halted, good = judge.feed(message)
        passed = passed or good
        if halted:
            return second // 2 - BEGIN - family.onset, passed
    return None, passed


def judge(
    detector: str,
    family: Family,
    rollouts: int,
    first_seed: int,
    pool: multiprocessing.pool.Pool,
) -> Row:
    """All rollouts of one family."""
    seeds = range(first_seed, first_seed + rollouts)
    results = pool.map(partial(play, detector, family), seeds, chunksize=4)
    delays = [delay for delay, _ in results if delay is not None]
    halted = len(delays)
    limit = 1.0
    if halted < rollouts:
        limit = float(stats.beta.ppf(CONFIDENCE, halted + 1, rollouts - halted))
    return Row(
        detector=detector,
        family=family.name,
        bad=family.bad,
        rollouts=rollouts,
        halted=halted,
        passed=sum(passed for _, passed in results),
        upper_limit=round(limit, 5),
        mean_delay=round(float(np.mean(delays)), 1) if delays else None,
        p95_delay=round(float(np.quantile(delays, 0.95)), 1) if delays else None,
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rollouts", type=int, default=200, help="per family")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--detectors", nargs="+", default=list(DETECTORS), choices=list(DETECTORS))
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if not args.json:
        print(FORMAT.format(*COLUMNS))
    with multiprocessing.get_context("spawn").Pool(args.processes) as pool:
        for family in [*NULL, *BAD]:
            for detector in args.detectors:
                row = judge(detector, family, args.rollouts, args.seed, pool)
                text = orjson.dumps(asdict(row)).decode() if args.json else line(row)
                print(text, flush=True)


def line(row: Row) -> str:
    """One line of the table for a person."""
    halted = f"{row.halted}/{row.rollouts}"
    limit = "" if row.bad else f"{row.upper_limit:.4f}"
    mean = "" if row.mean_delay is None else row.mean_delay
    p95 = "" if row.p95_delay is None else row.p95_delay
    return FORMAT.format(row.family, row.detector, halted, row.passed, limit, mean, p95)


if __name__ == "__main__":
    main()
