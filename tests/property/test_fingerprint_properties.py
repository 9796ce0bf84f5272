from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
import unicodedata
from typing import TYPE_CHECKING, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamwatch.counts import ShapeDefinition
from streamwatch.fingerprint import Grouper, Shaper, redact
from streamwatch.records import LogRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    Choice = tuple[str, str, str, Literal["text", "exception"]]

VOCABULARY = """
order user of in to 7 12 3.5 -1 10.0.0.1 a@b.example x=1 'q' "q r" [1, 2] /a/b C:\\a 0xff true ms KB
Jan Mon, 2031-05-06 07:08:09 ERROR [main] deadbeef01 id-7 s3 : = \\n
"""
words = st.sampled_from(VOCABULARY.split())
lines = st.lists(words, max_size=9).map(" ".join)
texts = st.one_of(
    lines, st.text(max_size=80), st.text(alphabet="0a-:./ =\"'[]<>*\\\n", max_size=60)
)


#: A loaded machine is no defect.
unhurried = settings(deadline=None)

BIDIRECTIONAL = {*"\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u061c"}


def is_harmless(text: str) -> bool:
    return not any(
        unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in BIDIRECTIONAL
        for character in text
    )


@unhurried
@given(st.lists(texts, max_size=30), st.randoms(use_true_random=False), st.integers(1, 5))
def test_shape_does_not_depend_on_order_or_caches(
    messages: list[str], rng: random.Random, cache_size: int
) -> None:
    alone = {message: Shaper().shape_text(message) for message in messages}
    shaper = Shaper(cache_size=cache_size)
    for _ in range(2):
        rng.shuffle(messages)
        for message in messages:
            assert shaper.shape_text(message) == alone[message]


@unhurried
@given(lines, st.randoms(use_true_random=False))
def test_values_of_digits_do_not_count(message: str, rng: random.Random) -> None:
    other = "".join(str(rng.randrange(10)) if c in "0123456789" else c for c in message)
    assert Shaper().shape_text(other) == Shaper().shape_text(message)


@unhurried
@given(st.one_of(texts, st.text(alphabet=st.characters(), max_size=40)))
def test_any_text_has_a_printable_shape(message: str) -> None:
    record = LogRecord(message=message, exception_type=message, stacktrace=message)
    for shape in (Shaper().shape_text(message), Shaper().shape(record)):
        assert len(shape.id) == 16
        assert int(shape.id, 16) >= 0
        assert is_harmless(shape.template + shape.type + shape.frame)


pieces = st.sampled_from(
    [
        "Traceback (most recent call last):\n",
        '  File "/a/b/c.py", line 1, in f\n',
        '  | File "/a.py", line 1, in g\n',
        "    code()\n",
        "ValueError: x\n",
        "The above exception was the direct cause of the following exception:\n",
        "  +-+---------------- 1 ----------------\n",
        "    +---------------- 2 ----------------\n",
        "    | Traceback (most recent call last):\n",
        "    +------------------------------------\n",
        "java.lang.E: x\n",
        "\tat com.example.A.f(A.java:1)\n",
        "\t... 3 more\n",
        "\t... 99999999 more\n",
        "Caused by: java.lang.F: y\n",
        "\tSuppressed: java.lang.G\n",
        "Wrapped by: java.lang.H: z\n",
        "Original Stack Trace:\n",
        "\n",
        "\\n",
    ]
)


@unhurried
@given(st.lists(pieces, max_size=40).map("".join))
def test_broken_traces_have_a_shape_too(text: str) -> None:
    shape = Shaper().shape(LogRecord(exception_type="E", stacktrace=text))
    assert shape.kind == "exception"
    assert shape == Shaper().shape(LogRecord(exception_type="E", stacktrace=text))


PROGRAM = """
import json, sys
from streamwatch.fingerprint import Grouper, Shaper
shaper, grouper = Shaper(), Grouper()
messages = json.load(sys.stdin)
shapes = [shaper.shape_text(message) for message in messages]
print(json.dumps([[shape.id, shape.template, grouper.assign(shape)] for shape in shapes]))
"""


def test_shapes_and_groups_are_the_same_in_every_process_and_hash_seed() -> None:
    rng = random.Random(5)  # noqa: S311 - only a spread of inputs
    messages = [
        f"account of customer {rng.choice('abcdefghijkl') * 4} was locked {rng.random()}"
        for _ in range(60)
    ] + ["E: x\n\tat com.example.A.f(A.java:1)\n\tat com.example.B.g(B.java:1)", "a=1 b=[2, 3]"]
    outputs = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            input=json.dumps(messages),
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "4242")
    }
    assert len(outputs) == 1
    assert "<*>" in outputs.pop()


slots = st.lists(
    st.tuples(
        st.sampled_from(["account {} of client {} locked", "lease {} on worker {} lost", "{} {}"]),
        st.sampled_from([*"abcdefghij", "<*>", "n<*>", "not"]),
        st.sampled_from([*"abcdefghij", "(x)"]),
        st.sampled_from(["text", "text", "text", "exception"]),
    ),
    max_size=150,
)


def definitions(chosen: Iterable[Choice]) -> Iterator[ShapeDefinition]:
    for form, one, other, kind in chosen:
        template = form.format(one * 3 if one.isalpha() else one, other * 3)
        yield ShapeDefinition(id=f"{kind}:{template}", kind=kind, template=template)


@unhurried
@given(slots, st.data(), st.integers(3, 200))
def test_snapshot_and_restore_anywhere_change_nothing(
    chosen: list[Choice], data: st.DataObject, limit: int
) -> None:
    straight, interrupted = Grouper(limit), Grouper(limit)
    shapes = list(definitions(chosen))
    stops = data.draw(st.sets(st.integers(0, max(0, len(shapes) - 1)), max_size=4))
    for number, shape in enumerate(shapes):
        if number in stops:
            interrupted = Grouper.restore(json.loads(json.dumps(interrupted.snapshot())))
        assert interrupted.assign(shape) == straight.assign(shape)
        if number % 7 == 0:
            assert interrupted.take_aliases() == straight.take_aliases()
    assert interrupted.take_aliases() == straight.take_aliases()
    assert interrupted.evicted == straight.evicted
    for shape in shapes:
        group = straight.group_of(shape.id)
        assert interrupted.group_of(shape.id) == group
        assert interrupted.template(group) == straight.template(group)


@unhurried
@given(slots)
def test_aliases_lead_from_every_id_given_to_the_group_it_is_in(chosen: list[Choice]) -> None:
    grouper = Grouper()
    published: dict[str, str] = {}
    given_ids: dict[str, str] = {}
    for shape in definitions(chosen):
        given_ids.setdefault(shape.id, grouper.assign(shape))
        published |= grouper.take_aliases()
    for shape_id, first in given_ids.items():
        group = first
        while group in published:
            group = published[group]
        assert group == grouper.group_of(shape_id)
        kept = grouper.template(group).split(" ")
        words_ = shape_id.partition(":")[2].split(" ")
        assert len(kept) == len(words_)
        assert all("<*>" in k or k == w for k, w in zip(kept, words_, strict=True))


@unhurried
@given(st.text(max_size=300), st.integers(1, 200))
def test_redacted_text_is_short_and_printable(text: str, limit: int) -> None:
    shown = redact(text, limit)
    assert len(shown) <= limit
    assert is_harmless(shown)


names = st.sampled_from(["password", "api_key", "client-secret", "AuthToken", "DB_PASSWORD"])
signs = st.sampled_from(["=", ": ", " = ", '":"', "='", "=>"])
secrets = st.from_regex(r"[A-Za-z0-9]{8,24}", fullmatch=True)


@unhurried
@given(names, signs, secrets, lines)
def test_named_secrets_never_survive(name: str, sign: str, secret: str, around: str) -> None:
    marked = f"Zq{secret}"
    assert marked not in redact(f"{around} {name}{sign}{marked} {around}", 2_000)


@pytest.mark.parametrize("cache_size", [10, 100])
def test_memory_is_bounded_whatever_comes(cache_size: int) -> None:
    shaper = Shaper(cache_size)
    rng = random.Random(1)  # noqa: S311 - only a spread of inputs
    for number in range(3_000):
        word = "".join(rng.choices("abcdefghij", k=12))
        shaper.shape_text(f"{word} has {number} {word[::-1]}")
        shaper.shape_text("y" * 4_000 + word)
        shaper.shape_text(f"E: {word}\n\tat com.example.{word}.f(A.java:1)")
    for cache in (shaper._folded, shaper._collapsed, shaper._texts, shaper._traces):
        assert 0 < len(cache) <= 2 * cache_size
        assert sum(map(len, cache.young)) <= 400 * cache_size + 5_000


@pytest.mark.parametrize(
    "piece",
    [
        "a ",
        "0",
        "a0",
        "[",
        "'",
        '"',
        "=",
        "a=",
        "/",
        ":",
        "<*> ",
        "0 ",
        "Jan 0 ",
        "://",
        "\n",
        "\\n",
        "-",
        "\x1b]",
        "\tat a.b.C.d(",
        "Caused by: x.Y\n",
        '  File "',
        "  +-+-- 1 --\n",
        "0:",
        "(",
        "a.",
        "\tat a.b.C.d(E.java:1)\n",
        "Traceback (most recent call last):\n",
        "[0000-00-00] ",
    ],
)
def test_hostile_text_costs_little(piece: str) -> None:
    start = time.process_time()
    shaper = Shaper()
    message = piece * (1_000_000 // len(piece))
    shaper.shape_text(message)
    shaper.shape(LogRecord(exception_type="E", stacktrace=message, exception_message=message))
    assert time.process_time() - start < 2
