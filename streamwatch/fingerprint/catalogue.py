"""What is known of each fingerprint of one service, as published on `streamwatch.fingerprints`."""

from __future__ import annotations

import msgspec
import orjson

from streamwatch.counts import WIRE_VERSION, ShapeDefinition, service_key, without_bars

#: A fingerprint's `last_tick` is published again when it moved by so much, in seconds.
REFRESH_SECONDS = 600

#: Fingerprints described per service; further ones are counted and tested, but not described.
MAX_ENTRIES = 10_000

#: Releases remembered per fingerprint; the newest are kept.
MAX_RELEASES = 16


class CatalogueEntry(msgspec.Struct, frozen=True):
    """One fingerprint of one service: value of the compacted topic, key `env|service|group`.

    Attributes:
        environment: where.
        service: whose.
        group: the fingerprint.
        kind: `text` or `exception`.
        template: masked message or exception chain.
        type: exception type, or empty.
        frame: top in-app frame, or empty.
        example: one redacted message, or empty. Hostile text.
        first_tick: event time it was first seen.
        last_tick: event time it was last seen, to ten minutes.
        releases: releases it was seen in, newest last.
        alias_of: the fingerprint it was merged into; empty unless it was.
        grouping_config: version of the fingerprint rules.
        version: of this format.
    """

    environment: str
    service: str
    group: str
    kind: str
    template: str
    type: str
    frame: str
    example: str
    first_tick: int
    last_tick: int
    releases: list[str]
    alias_of: str
    grouping_config: str
    version: int = WIRE_VERSION

    @property
    def key(self) -> str:
        """The record key, `environment|service|group`."""
        return f"{service_key(self.environment, without_bars(self.service))}|{self.group}"


def encode_entry(entry: CatalogueEntry) -> bytes:
    """The entry as JSON, keys in declared order."""
    return orjson.dumps(msgspec.to_builtins(entry))


class Catalogue(msgspec.Struct):
    """The fingerprints of one service.

    Attributes:
        environment: where.
        service: whose.
        grouping_config: version of the fingerprint rules.
        entries: by group.
        changed: groups to be published, in order of change.
        undescribed: sightings of fingerprints beyond the bound.
    """

    environment: str
    service: str
    grouping_config: str
    entries: dict[str, CatalogueEntry] = {}
    changed: list[str] = []
    undescribed: int = 0

    def see(self, group: str, definition: ShapeDefinition, tick: int, release: str) -> None:
        """A fingerprint was counted.

        Args:
            group: its id.
            definition: of the shape that was counted.
            tick: when.
            release: in which release.
        """
        entry = self.entries.get(group)
        if entry is None:
            if len(self.entries) >= MAX_ENTRIES:
                self.undescribed += 1
                return
            entry = CatalogueEntry(
                environment=self.environment,
                service=self.service,
                group=group,
                kind=definition.kind,
                template=definition.template,
                type=definition.type,
                frame=definition.frame,
                example=definition.example,
                first_tick=tick,
                last_tick=tick,
                releases=[release],
                alias_of="",
                grouping_config=self.grouping_config,
            )
        elif release not in entry.releases:
            releases = [*entry.releases, release][-MAX_RELEASES:]
            entry = msgspec.structs.replace(entry, releases=releases, last_tick=tick)
        elif tick - entry.last_tick >= REFRESH_SECONDS:
            entry = msgspec.structs.replace(entry, last_tick=tick)
        else:
            return
        self._put(entry)

    def merge(self, absorbed: str, survivor: str, template: str) -> None:
        """One fingerprint became part of another, whose template is now more general."""
        old, new = self.entries.get(absorbed), self.entries.get(survivor)
        if old is not None:
            self._put(msgspec.structs.replace(old, alias_of=survivor))
        if new is None:
            return
        merged = msgspec.structs.replace(new, template=template)
        if old is not None:
            releases = [*(name for name in old.releases if name not in new.releases), *new.releases]
            merged = msgspec.structs.replace(
                merged,
                releases=releases[-MAX_RELEASES:],
                first_tick=min(old.first_tick, new.first_tick),
                last_tick=max(old.last_tick, new.last_tick),
            )
        if merged != new:
            self._put(merged)

    def take_changed(self) -> list[CatalogueEntry]:
        """Entries to publish since the last call."""
        changed, self.changed = self.changed, []
        return [self.entries[group] for group in changed]

    def _put(self, entry: CatalogueEntry) -> None:
        self.entries[entry.group] = entry
        if entry.group not in self.changed:
            self.changed.append(entry.group)
