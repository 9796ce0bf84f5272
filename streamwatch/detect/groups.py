"""From shapes to fingerprints, for one service: definitions, groups and the catalogue together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from streamwatch.counts import ShapeDefinition
from streamwatch.fingerprint import GROUPING_CONFIG, Grouper
from streamwatch.fingerprint.catalogue import Catalogue, CatalogueEntry

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Shapes of one service whose meaning is kept.
MAX_DEFINITIONS = 10_000

#: Fingerprints that a rollout begins with as known to its baseline: those that the baseline made so
#: lately, and at most so many, the newest.
KNOWN_SECONDS = 86_400
MAX_KNOWN = 1_000

#: Stands for a shape whose definition was lost or is beyond the bound.
UNKNOWN_TEMPLATE = "(not described)"


class _State(msgspec.Struct):
    grouper: dict[str, Any]
    catalogue: Catalogue
    definitions: dict[str, ShapeDefinition]
    refused: int


class ServiceGroups:
    """The fingerprints of one service.

    `changed` is true when the state is worth saving again.
    """

    def __init__(self, environment: str, service: str) -> None:
        self.changed = False
        self._grouper = Grouper()
        self._catalogue = Catalogue(environment, service, GROUPING_CONFIG)
        self._definitions: dict[str, ShapeDefinition] = {}
        self._refused = 0
        self._resolved: set[str] = set()

    def define(self, definitions: Iterable[ShapeDefinition]) -> None:
        """Take in what shapes mean; of several definitions of one shape the first is kept."""
        for definition in definitions:
            if definition.id in self._definitions:
                continue
            if len(self._definitions) >= MAX_DEFINITIONS:
                self._refused += 1
            else:
                self._definitions[definition.id] = definition
            self.changed = True

    def resolve(self, shape: str, tick: int, release: str) -> str:
        """The fingerprint of a shape that was counted."""
        definition = self._definitions.get(shape)
        if definition is None:
            definition = ShapeDefinition(id=shape, kind="text", template=UNKNOWN_TEMPLATE)
            group = self._grouper.group_of(shape)
        else:
            group = self._grouper.assign(definition)
            for absorbed, survivor in self._grouper.take_aliases().items():
                self._catalogue.merge(absorbed, survivor, self._grouper.template(survivor))
            if shape not in self._resolved:
                # The order in which shapes first came decides which of them merge.
                self._resolved.add(shape)
                self.changed = True
        before = self.entry(group)
        self._catalogue.see(group, definition, tick, release)
        self.changed = self.changed or self.entry(group) is not before
        return group

    def entry(self, group: str) -> CatalogueEntry | None:
        """What is known of a fingerprint."""
        return self._catalogue.entries.get(group)

    def kind_of(self, group: str) -> str:
        """What sort of error a fingerprint is: text, or an exception of some type."""
        entry = self.entry(group)
        return f"{entry.kind} {entry.type}" if entry else ""

    def known_in(self, release: str, tick: int) -> list[str]:
        """Fingerprints that a release made before a tick, in order of id."""
        known = [
            (-entry.last_tick, group)
            for group, entry in self._catalogue.entries.items()
            if release in entry.releases
            and entry.first_tick < tick
            and tick - entry.last_tick < KNOWN_SECONDS
            and not entry.alias_of
        ]
        return sorted(group for _, group in sorted(known)[:MAX_KNOWN])

    def take_changed_entries(self) -> list[CatalogueEntry]:
        """Catalogue entries to publish since the last call."""
        return self._catalogue.take_changed()

    @property
    def evicted(self) -> int:
        """How often a shape could not be kept for want of room."""
        return self._grouper.evicted + self._refused

    def snapshot(self) -> bytes:
        """The whole state."""
        state = _State(self._grouper.snapshot(), self._catalogue, self._definitions, self._refused)
        return msgspec.msgpack.encode(state)

    @classmethod
    def restore(cls, value: bytes) -> ServiceGroups:
        """The state that `snapshot` wrote."""
        state = msgspec.msgpack.decode(value, type=_State)
        groups = cls(state.catalogue.environment, state.catalogue.service)
        groups._grouper = Grouper.restore(state.grouper)
        groups._catalogue = state.catalogue
        groups._definitions = state.definitions
        groups._refused = state.refused
        return groups
