"""A dict that stays bounded, whatever is put into it."""

from __future__ import annotations

from typing import Generic, TypeVar

Key = TypeVar("Key", str, bytes)
Value = TypeVar("Value")


class GenerationCache(Generic[Key, Value]):
    """Two generations of a dict: when the young one is full it becomes the old one.

    What is used survives, what is not used goes after at most two fillings, and a lookup that hits
    costs one dict access: readers on a hot path may read `young` themselves and call `find` on a
    miss. `young` is never replaced by another object, so a reader may keep a reference to it.

    Args:
        entries: entries of one generation.
        key_bytes: summed length of the keys of one generation, so that long keys count for more.
    """

    __slots__ = ("_entries", "_key_budget", "_key_size", "_old", "young")

    def __init__(self, entries: int, key_bytes: int) -> None:
        self._entries = entries
        self._key_budget = key_bytes
        self._key_size = 0
        self.young: dict[Key, Value] = {}
        self._old: dict[Key, Value] = {}

    def __len__(self) -> int:
        return len(self.young) + len(self._old)

    def find(self, key: Key) -> Value | None:
        """The value of a key, made young again; None when neither generation has it."""
        value = self.young.get(key)
        if value is None:
            value = self._old.get(key)
            if value is not None:
                self.put(key, value)
        return value

    def put(self, key: Key, value: Value) -> None:
        """Remember a value; may forget everything that was not used since the last turn."""
        if len(self.young) >= self._entries or self._key_size >= self._key_budget:
            self._old = self.young.copy()
            self.young.clear()
            self._key_size = 0
        self.young[key] = value
        self._key_size += len(key)
