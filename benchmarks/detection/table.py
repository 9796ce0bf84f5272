"""False halts, misses and delay of the engine, per family of simulated rollouts.

    python benchmarks/detection/table.py --rollouts 200 --processes 2

Each rollout is judged every second for fifteen minutes; a harmless one that is ever halted counts
as a false halt (with its Clopper-Pearson upper limit), a bad one that never is as missed.
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
from simulator import BAD, NULL, START, Family, rollout

from streamwatch.detect.verdict import Verdict
from streamwatch.engine import Engine
from streamwatch.signals.envelope import Signal

SECONDS = 900
BEGIN = 120
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Row:
    """One line of the table; delays in seconds since the candidate went bad."""

    family: str
    bad: bool
    rollouts: int
    halted: int
    passed: int
    upper_limit: float
    mean_delay: float | None
    p95_delay: float | None


def play(family: Family, seed: int) -> tuple[float | None, bool]:
    """Delay of the halt, if there was one, and whether the candidate was ever passed."""
    engine = Engine()
    passed = False
    for message in rollout(family, seed, SECONDS, BEGIN):
        for output in engine.feed(message):
            if isinstance(output, Signal):
                return output.tick - (START + BEGIN + family.onset), passed
            if isinstance(output, Verdict):
                passed = passed or output.status == "Successful"
    return None, passed


def judge(family: Family, rollouts: int, first_seed: int, pool: multiprocessing.pool.Pool) -> Row:
    """All rollouts of one family."""
    seeds = range(first_seed, first_seed + rollouts)
    results = pool.map(partial(play, family), seeds, chunksize=4)
    delays = [delay for delay, _ in results if delay is not None]
    halted = len(delays)
    limit = 1.0
    if halted < rollouts:
        limit = float(stats.beta.ppf(CONFIDENCE, halted + 1, rollouts - halted))
    return Row(
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
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if not args.json:
        print(f"{'family':<24}{'halted':>12}{'passed':>8}{'limit':>9}{'mean s':>8}{'p95 s':>8}")
    with multiprocessing.get_context("spawn").Pool(args.processes) as pool:
        for family in [*NULL, *BAD]:
            row = judge(family, args.rollouts, args.seed, pool)
            if args.json:
                print(orjson.dumps(asdict(row)).decode(), flush=True)
                continue
            halted = f"{row.halted}/{row.rollouts}"
            limit = "" if row.bad else f"{row.upper_limit:.4f}"
            mean, p95 = row.mean_delay or "", row.p95_delay or ""
            print(
                f"{row.family:<24}{halted:>12}{row.passed:>8}{limit:>9}{mean:>8}{p95:>8}",
                flush=True,
            )


if __name__ == "__main__":
    main()
