"""Groups: shapes of one service that differ only in a word that varies become one fingerprint.

A number gives itself away, a word does not: that `user alice not found` and `user bob not found`
are one error shows only once enough names have been seen. A slot is one position of a template,
with everything around it. When it has been seen with enough distinct words, it is a variable, its
shapes become one group, and later shapes with another word there join on arrival. The merged
template is again a candidate for its other positions.

Mining runs over distinct shapes, not over lines. Nothing here depends on anything but the order in
which shapes are assigned.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from streamwatch.counts import ShapeDefinition
from streamwatch.fingerprint.tokens import PLACEHOLDER
from streamwatch.fingerprint.words import word_set

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

#: Distinct words that make a slot a variable. Enumerations (`DOWN`, `UP`, ...) stay below.
DISTINCT_WORDS = 8
#: The same when a number, a path or the like was seen in the slot as well: words are not all then.
DISTINCT_WORDS_BESIDE_VALUES = 4
#: Words around the slot that say what happened; with fewer the slot may well be the event itself.
SPECIFIC_WORDS = 2
#: The same for the first word, which often names what the message is about.
SPECIFIC_WORDS_AFTER_FIRST = 3
#: Shapes of one service that are kept; its memory is about one kilobyte for each.
SHAPES_KEPT = 10_000
_LONGEST_TEMPLATE = 40
#: Sets of two or more variable positions that are looked up for templates of one length.
_MOST_SEVERAL = 64

_VALUE = re.compile(r"^(?P<lead>[^\w<]*)(?P<core>.*?)(?P<trail>[^\w>]*)$", re.DOTALL)
_SPECIFIC = re.compile(r"[^\W\d_]{3,}")
_STOP_WORDS = word_set(
    "a an and any are as at be been being but by can cannot could did do does done for from "
    "had has have he her his i if in into is it its may me might must my no nor not now of "
    "off on once one only onto or our out over own same shall she should so some such than "
    "that the their them then there these they this those to too under until up upon us very "
    "was we were what when where which while who why will with without would yet you your"
)
# What stands after `failed to` is what failed, not a variable.
_BEFORE_INFINITIVE = word_set(
    "able about allowed attempt attempted attempting attempts continue continuing failed "
    "failing fails failure forgot going need needs refused refusing required supposed tried "
    "tries try trying unable used want wants"
)


_Kind = Literal["text", "exception"]


class _State(msgspec.Struct, frozen=True):
    """What a snapshot holds: the shapes in the order they came; the rest follows from it."""

    limit: int
    evicted: int
    shapes: list[tuple[str, _Kind, str]]
    aliases: dict[str, str]


class _Slot(NamedTuple):
    """One position of a template: `key` is equal for templates that differ only there."""

    position: int
    key: bytes
    value: str


class Grouper:
    """Groups of the shapes of one service.

    Args:
        limit: distinct shapes kept. A further one is its own group, unless a group that exists
            already takes it, and `evicted` says so.

    Attributes:
        evicted: how many `assign` calls met a shape that there was no room to keep.
    """

    def __init__(self, limit: int = SHAPES_KEPT) -> None:
        self._limit = limit
        self.evicted = 0
        self._shapes: dict[str, tuple[_Kind, str]] = {}
        self._rank: dict[str, int] = {}
        self._absorbed: dict[str, str] = {}
        self._templates: dict[str, tuple[str, ...]] = {}
        self._values: dict[bytes, dict[str, str]] = {}
        self._variable: dict[bytes, str] = {}
        self._several: dict[int, list[frozenset[int]]] = {}
        self._aliases: dict[str, str] = {}

    def assign(self, definition: ShapeDefinition) -> str:
        """The group of a shape; remembers the shape, and merges groups when it is the last proof.

        A shape that is assigned again keeps its group.
        """
        shape = definition.id
        if shape in self._shapes:
            return self._resolve(shape)
        tokens = _tokens(definition.kind, definition.template)
        if len(self._shapes) >= self._limit:
            self.evicted += 1
            return next(self._groups_that_take(tokens), shape)
        self._rank[shape] = len(self._shapes)
        self._shapes[shape] = (definition.kind, definition.template)
        if tokens:
            self._templates[shape] = tokens
            takers = list(self._groups_that_take(tokens))
            for taker in takers:
                self._merge(taker, shape)
            if not takers:
                self._register(tokens, shape)
        return self._resolve(shape)

    def group_of(self, shape_id: str) -> str:
        """The group of a shape, or of a group that was absorbed; an unknown id is its own group."""
        return self._resolve(shape_id)

    def template(self, group_id: str) -> str:
        """The template of a group, `<*>` where its shapes differ; empty for an unknown id."""
        group = self._resolve(group_id)
        tokens = self._templates.get(group)
        if tokens is not None:
            return " ".join(tokens)
        return self._shapes[group][1] if group in self._shapes else ""

    def take_aliases(self) -> dict[str, str]:
        """The groups that were absorbed since the last call, each with the group it is part of."""
        aliases = {absorbed: self._resolve(absorbed) for absorbed in self._aliases}
        self._aliases = {}
        return aliases

    def snapshot(self) -> dict[str, object]:
        """The state as JSON-able builtins, from which `restore` makes an equal grouper."""
        shapes = [(shape, kind, template) for shape, (kind, template) in self._shapes.items()]
        state = _State(self._limit, self.evicted, shapes, dict(self._aliases))
        built: dict[str, object] = msgspec.to_builtins(state)
        return built

    @classmethod
    def restore(cls, state: Mapping[str, object]) -> Grouper:
        """The grouper that a snapshot was taken of.

        Groups are found again by assigning the kept shapes in their order, so a snapshot holds
        nothing that could disagree with them.

        Raises:
            msgspec.ValidationError: the state was not made by `snapshot`.
        """
        kept = msgspec.convert(state, _State)
        grouper = cls(kept.limit)
        for shape, kind, template in kept.shapes:
            grouper.assign(ShapeDefinition(id=shape, kind=kind, template=template))
        grouper.evicted = kept.evicted
        grouper._aliases = dict(kept.aliases)
        return grouper

    def _resolve(self, group: str) -> str:
        while (survivor := self._absorbed.get(group)) is not None:
            group = survivor
        return group

    def _groups_that_take(self, tokens: tuple[str, ...]) -> Iterator[str]:
        """The groups whose template a new shape fits."""
        slots = {slot.position: slot for slot in _slots(tokens)}
        for slot in slots.values():
            if slot.key in self._variable:
                yield self._resolve(self._variable[slot.key])
        for positions in self._several.get(len(tokens), ()):
            if slots.keys() >= positions:
                group = self._variable.get(_key(_generalised(tokens, positions)))
                if group is not None:
                    yield self._resolve(group)

    def _register(self, tokens: tuple[str, ...], group: str) -> None:
        pending = [(tokens, frozenset[int]())]
        while pending:
            tokens, variable = pending.pop()
            for slot in _slots(tokens):
                if slot.key in self._variable:
                    self._merge(self._variable[slot.key], group)
                    continue
                values = self._values.setdefault(slot.key, {})
                values.setdefault(slot.value, group)
                if not _is_variable(values):
                    continue
                for member in self._values.pop(slot.key).values():
                    self._merge(group, member)
                self._variable[slot.key] = self._resolve(group)
                positions = variable | {slot.position}
                self._remember(len(tokens), positions)
                pending.append((_generalised(tokens, positions), positions))

    def _remember(self, length: int, positions: frozenset[int]) -> None:
        if len(positions) > 1:
            several = self._several.setdefault(length, [])
            if positions not in several and len(several) < _MOST_SEVERAL:
                several.append(positions)

    def _merge(self, one: str, other: str) -> None:
        one, other = self._resolve(one), self._resolve(other)
        if one == other:
            return
        survivor, absorbed = sorted((one, other), key=self._rank.__getitem__)
        self._absorbed[absorbed] = survivor
        self._aliases[absorbed] = survivor
        self._templates[survivor] = tuple(
            kept if kept == new else _common(kept, new)
            for kept, new in zip(
                self._templates[survivor], self._templates.pop(absorbed), strict=True
            )
        )


def _tokens(kind: str, template: str) -> tuple[str, ...]:
    """The words of a template; none when it is not to be merged."""
    if kind != "text" or template.endswith("…"):
        return ()
    tokens = tuple(template.split(" "))
    return tokens if len(tokens) <= _LONGEST_TEMPLATE else ()


def _slots(tokens: tuple[str, ...]) -> Iterator[_Slot]:
    specific = [_is_specific(token) for token in tokens]
    total = sum(specific)
    for position, token in enumerate(tokens):
        needed = SPECIFIC_WORDS if position else SPECIFIC_WORDS_AFTER_FIRST
        if total - specific[position] < needed or _names_failure(tokens, position):
            continue
        _, core, _ = _split(token)
        if core and core.lower() not in _STOP_WORDS:
            yield _Slot(position, _key(_generalised(tokens, {position})), core)


def _is_specific(token: str) -> bool:
    return (
        PLACEHOLDER not in token
        and _SPECIFIC.search(token) is not None
        and token.lower() not in _STOP_WORDS
    )


def _names_failure(tokens: tuple[str, ...], position: int) -> bool:
    return (
        position > 1
        and tokens[position - 1] == "to"
        and tokens[position - 2].lower() in _BEFORE_INFINITIVE
    )


def _split(token: str) -> tuple[str, str, str]:
    """A word and the punctuation around it."""
    match = _VALUE.match(token)
    return (match["lead"], match["core"], match["trail"]) if match else ("", "", token)


def _is_variable(values: dict[str, str]) -> bool:
    words = sum(value != PLACEHOLDER for value in values)
    if any(PLACEHOLDER in value for value in values):
        return words >= DISTINCT_WORDS_BESIDE_VALUES
    return words >= DISTINCT_WORDS


def _generalised(tokens: tuple[str, ...], positions: Collection[int]) -> tuple[str, ...]:
    """The template with variables at these positions; the punctuation around them stays."""
    generalised = list(tokens)
    for position in positions:
        lead, _, trail = _split(tokens[position])
        generalised[position] = f"{lead}{PLACEHOLDER}{trail}"
    return tuple(generalised)


def _key(tokens: tuple[str, ...]) -> bytes:
    return hashlib.blake2b(" ".join(tokens).encode(), digest_size=12).digest()


def _common(kept: str, new: str) -> str:
    lead, _, trail = _split(kept)
    return f"{lead}{PLACEHOLDER}{trail}" if _split(new)[::2] == (lead, trail) else PLACEHOLDER
