from __future__ import annotations

import itertools
import json

import msgspec
import pytest

from streamwatch.counts import ShapeDefinition
from streamwatch.fingerprint import Grouper, Shaper
from streamwatch.fingerprint.merge import DISTINCT_WORDS
from streamwatch.fingerprint.words import word_list

NAMES = word_list("alice bob carol dave erin frank grace heidi ivan judy mallory oscar peggy trent")


def assign(grouper: Grouper, *messages: str) -> list[str]:
    shaper = Shaper()
    return [grouper.assign(shaper.shape_text(message)) for message in messages]


def test_a_word_that_varies_becomes_one_group() -> None:
    grouper = Grouper()
    messages = [f"account of customer {name} was locked" for name in NAMES]
    given = assign(grouper, *messages)
    assert len(set(given[: DISTINCT_WORDS - 1])) == DISTINCT_WORDS - 1
    assert set(given[DISTINCT_WORDS - 1 :]) == {given[0]}
    assert {grouper.group_of(group) for group in given} == {given[0]}
    assert grouper.template(given[0]) == "account of customer <*> was locked"
    assert grouper.template(given[3]) == "account of customer <*> was locked"
    assert set(grouper.take_aliases()) == {*given[1 : DISTINCT_WORDS - 1]} | {
        Shaper().shape_text(message).id for message in messages[DISTINCT_WORDS - 1 :]
    }
    assert grouper.take_aliases() == {}


def test_aliases_name_the_final_survivor() -> None:
    grouper = Grouper()
    rooms = [
        f"account of customer {name} was locked in hall {hall}" for hall in NAMES for name in NAMES
    ]
    given = assign(grouper, *rooms)
    aliases = grouper.take_aliases()
    assert set(aliases.values()) == {given[0]}
    assert grouper.template(given[0]) == "account of customer <*> was locked in hall <*>"
    assert assign(grouper, "account of customer zoe was locked in hall ludwig") == [given[0]]


def test_few_values_are_an_enumeration() -> None:
    grouper = Grouper()
    states = ["DOWN", "UP", "DRAINING", "UNKNOWN"]
    given = assign(grouper, *[f"state of the upstream changed to {state}" for state in states] * 9)
    assert len(set(given)) == len(states)
    assert grouper.take_aliases() == {}


def test_numbers_beside_words_prove_a_variable_sooner() -> None:
    grouper = Grouper()
    values = ["17", *NAMES[:4]]
    given = assign(grouper, *[f"lease of worker {value} was lost" for value in values])
    assert {grouper.group_of(group) for group in given} == {given[0]}


@pytest.mark.parametrize(
    "form",
    ["{} failed", "failed to {}", "failed to {} the remote file", "{} is closed", "cannot {}"],
)
def test_the_event_itself_is_not_a_variable(form: str) -> None:
    grouper = Grouper()
    given = assign(grouper, *[form.format(name) for name in NAMES])
    assert len(set(given)) == len(NAMES)
    assert grouper.take_aliases() == {}


def test_shapes_with_different_constant_words_never_meet() -> None:
    grouper = Grouper()
    given = assign(
        grouper,
        *itertools.chain.from_iterable(
            (f"account of customer {name} was locked", f"account of customer {name} was opened")
            for name in NAMES
        ),
    )
    groups = {grouper.group_of(group) for group in given}
    assert groups == {given[0], given[1]}


def test_function_words_do_not_join() -> None:
    grouper = Grouper()
    given = assign(grouper, *[f"account customer {name} found in ledger" for name in NAMES])
    assert len({grouper.group_of(group) for group in given}) == 1
    odd = "account customer not found in ledger"
    assert assign(grouper, odd) == [Shaper().shape_text(odd).id]


def test_punctuation_around_the_word_counts() -> None:
    grouper = Grouper()
    bare = assign(grouper, *[f"mail of customer {name} bounced" for name in NAMES])
    bracketed = assign(grouper, *[f"mail of customer ({name}) bounced" for name in NAMES])
    assert grouper.group_of(bare[0]) != grouper.group_of(bracketed[0])


def test_exceptions_never_merge() -> None:
    grouper = Grouper()
    shapes = [
        ShapeDefinition(
            id=f"{number:016x}",
            kind="exception",
            template=f"E: account of customer {name} was locked",
        )
        for number, name in enumerate(NAMES)
    ]
    assert [grouper.assign(shape) for shape in shapes] == [shape.id for shape in shapes]


def test_unknown_ids_are_their_own_group() -> None:
    assert Grouper().group_of("0" * 16) == "0" * 16
    assert Grouper().template("0" * 16) == ""


def test_a_full_grouper_counts_what_it_could_not_keep() -> None:
    grouper = Grouper(limit=10)
    kept = assign(grouper, *[f"account of customer {name} was locked" for name in NAMES[:10]])
    one = Shaper().shape_text("the oven is hot")
    assert grouper.assign(one) == one.id
    assert grouper.evicted == 1
    assert grouper.group_of(one.id) == one.id
    # A group that exists takes a shape there is no room for.
    assert assign(grouper, "account of customer zoe was locked") == [grouper.group_of(kept[0])]
    assert grouper.evicted == 2
    assert assign(grouper, "account of customer alice was locked") == [kept[0]]
    assert grouper.evicted == 2


def test_snapshot_is_json_and_keeps_what_was_not_taken() -> None:
    grouper = Grouper(limit=12)
    assign(grouper, *[f"account of customer {name} was locked" for name in NAMES])
    restored = Grouper.restore(json.loads(json.dumps(grouper.snapshot())))
    assert restored.evicted == grouper.evicted == 2
    assert restored.take_aliases() == grouper.take_aliases() != {}


def test_a_foreign_snapshot_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        Grouper.restore({"shapes": []})
