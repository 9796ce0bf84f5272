"""Grouping accuracy and speed on Loghub-2k, beside Drain3, in one run.

    python benchmarks/grouping/loghub.py PATH/loghub2k.json.xz

The file holds, per set, `content` (2,000 lines) and the true groups twice: `orig.gid` as published,
`corrected.gid` as revised by later work. It has a research licence and is not part of this project.

Everything is measured on arrival: one pass over each set in its order, one configuration for all
sets, and the id that a line is given when it arrives is what counts. `shape` is the stateless id,
`group` the id of the service's group at that moment, `merged` the same after following the aliases
that later merges published.

GA: share of lines whose predicted group, as a set of lines, equals their true group.
FGA: F1 of exactly right groups. Wrong: share of lines in a group whose majority is another event.

Speed is lines per second of processor time on one core. `warm`: lines that the cache has seen up to
the values of digits. `new`: every line is new to the cache: `ids` with a random UUID and a random
hexadecimal path, `words` with two random words.

Needs `pip install -r benchmarks/requirements.txt` for Drain3; without it only ours is measured.
"""

from __future__ import annotations

import argparse
import json
import lzma
import random
import statistics
import sys
import time
import uuid
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamwatch.fingerprint import GROUPING_CONFIG, Grouper, Shaper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

try:
    from drain3 import TemplateMiner
    from drain3.masking import MaskingInstruction
    from drain3.template_miner_config import TemplateMinerConfig
except ImportError:
    TemplateMiner = None

#: GA, FGA and the share of lines in a group of other events.
Scores = tuple[float, float, float]

LABELS = ("corrected", "orig")
NEW_LINES = 100_000
WARM_ROUNDS = 10

#: Masks for Drain3 that its users commonly write: addresses, identifiers, numbers. They are ours,
#: not its own; Drain3 without masks is measured beside them.
DRAIN_MASKS = (
    (r"\b\d+\.\d+\.\d+\.\d+(?::\d+)?\b", "IP"),
    (r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b", "UUID"),
    (r"\b0x[0-9a-fA-F]+\b", "HEX"),
    (r"(?<![A-Za-z0-9])[-+]?\d+(?![A-Za-z0-9])", "NUM"),
)


def accuracy(predicted: Sequence[object], true: Sequence[object]) -> Scores:
    """The scores of predicted groups against the true ones, line by line."""
    mine: dict[object, set[int]] = defaultdict(set)
    theirs: dict[object, set[int]] = defaultdict(set)
    for line, (guess, truth) in enumerate(zip(predicted, true, strict=True)):
        mine[guess].add(line)
        theirs[truth].add(line)
    exact = {frozenset(lines) for lines in theirs.values()}
    right = [lines for lines in mine.values() if frozenset(lines) in exact]
    wrong = sum(
        len(lines) - Counter(true[line] for line in lines).most_common(1)[0][1]
        for lines in mine.values()
    )
    return (
        sum(map(len, right)) / len(predicted),
        2 * len(right) / (len(mine) + len(theirs)),
        wrong / len(predicted),
    )


def mean_of(rows: Iterable[Scores]) -> Scores:
    """The mean of every score."""
    ga, fga, wrong = (statistics.fmean(column) for column in zip(*rows, strict=True))
    return ga, fga, wrong


def ours(lines: Sequence[str]) -> dict[str, list[str]]:
    """The ids that our lines get."""
    shaper, grouper = Shaper(), Grouper()
    shapes = [shaper.shape_text(line) for line in lines]
    groups = [grouper.assign(shape) for shape in shapes]
    return {
        "shape": [shape.id for shape in shapes],
        "group": groups,
        "merged": [grouper.group_of(group) for group in groups],
    }


def drain(*, masked: bool) -> Callable[[str], object]:
    """A fresh Drain3 that says a line's cluster on arrival."""
    config = TemplateMinerConfig()
    if masked:
        config.masking_instructions = [MaskingInstruction(*mask) for mask in DRAIN_MASKS]
    miner = TemplateMiner(config=config)
    return lambda line: miner.add_log_message(line)["cluster_id"]


def methods(lines: Sequence[str]) -> dict[str, list[object]]:
    """Every method's ids of a set's lines."""
    ids: dict[str, list[object]] = {name: list(given) for name, given in ours(lines).items()}
    if TemplateMiner is not None:
        for name, masked in (("drain3", False), ("drain3+masks", True)):
            ids[name] = list(map(drain(masked=masked), lines))
    return ids


def print_accuracy(sets: dict[str, dict[str, Any]], labels: str) -> None:
    """A table of GA, FGA and wrong merges per set and method, and their means."""
    rows: dict[str, dict[str, Scores]] = {}
    for name, data in sets.items():
        true = data[labels]["gid"]
        rows[name] = {
            method: accuracy(ids, true) for method, ids in methods(data["content"]).items()
        }
    names = list(next(iter(rows.values())))
    rows["mean"] = {method: mean_of(row[method] for row in rows.values()) for method in names}
    print(f"\n{labels} labels: GA / FGA / wrong, ids on arrival")
    print(f"{'':12}" + "".join(f"{method:>22}" for method in names))
    for name, row in rows.items():
        cells = ("/".join(f"{value:.3f}" for value in row[method]) for method in names)
        print(f"{name:12}" + "".join(f"{cell:>22}" for cell in cells))


def rate(call: Callable[[str], object], lines: Iterable[str], count: int) -> float:
    """Calls per second of processor time."""
    start = time.process_time()
    for line in lines:
        call(line)
    return count / (time.process_time() - start)


def new_lines() -> dict[str, list[str]]:
    """Lines of which none folds to the bytes of another."""
    rng = random.Random(1)

    def word() -> str:
        return "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=9))

    return {
        "ids": [
            f"request {uuid.UUID(int=rng.getrandbits(128))} to"
            f" /api/v1/{rng.getrandbits(64):x}/items failed with status {rng.randrange(400, 600)}"
            for _ in range(NEW_LINES)
        ],
        "words": [
            f"user {word()} could not log in from host {word()}: no such account"
            for _ in range(NEW_LINES)
        ],
    }


def print_speed(lines: list[str]) -> None:
    """Lines per second, ours and Drain3's, on the same lines."""
    print("\nlines/s of processor time, one core")
    shaper = Shaper()
    print(f"{'ours':14}{'loghub, cold':20}{rate(shaper.shape_text, lines, len(lines)):12,.0f}")
    warm = [rate(shaper.shape_text, lines, len(lines)) for _ in range(WARM_ROUNDS)]
    print(f"{'ours':14}{'loghub, warm':20}{statistics.median(warm):12,.0f}")
    fresh = new_lines()
    for kind, those in fresh.items():
        shaper = Shaper()
        speed = rate(shaper.shape_text, those, len(those))
        print(f"{'ours':14}{f'new {kind}':20}{speed:12,.0f}   hits {shaper.hits}")
    if TemplateMiner is None:
        return
    for name, masked in (("drain3", False), ("drain3+masks", True)):
        miner = drain(masked=masked)
        print(f"{name:14}{'loghub, cold':20}{rate(miner, lines, len(lines)):12,.0f}")
        print(f"{name:14}{'loghub, warm':20}{rate(miner, lines, len(lines)):12,.0f}")
        for kind, those in fresh.items():
            some = those[: NEW_LINES // 20]
            speed = rate(drain(masked=masked), some, len(some))
            print(f"{name:14}{f'new {kind}':20}{speed:12,.0f}")


def main() -> int:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path, metavar="PATH", help="loghub2k.json.xz")
    args = parser.parse_args()
    with lzma.open(args.path) as file:
        sets = json.load(file)
    if TemplateMiner is None:
        print(
            "drain3 is not installed, so it is left out: "
            "pip install -r benchmarks/requirements.txt",
            file=sys.stderr,
        )
    print(f"grouping_config {GROUPING_CONFIG}, one configuration for {len(sets)} sets")
    for labels in LABELS:
        print_accuracy(sets, labels)
    print_speed([line for data in sets.values() for line in data["content"]])
    return 0


if __name__ == "__main__":
    sys.exit(main())
