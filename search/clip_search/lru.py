"""LRU cache that several threads may use."""

import threading
from collections.abc import Hashable
from typing import Generic, TypeVar

from cachetools import LRUCache

_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")


class Lru(Generic[_Key, _Value]):
    """The last ``size`` entries that were asked for or added; none if ``size`` is 0."""

    def __init__(self, size: int) -> None:
        self._lock = threading.Lock()
        self._entries: LRUCache[_Key, _Value] = LRUCache(size)
        self.hits = self.misses = 0

    def get(self, key: _Key) -> _Value | None:
        """Return the value of a key; None if it isn't here."""
        with self._lock:
            value = self._entries.get(key)
            self.hits += value is not None
            self.misses += value is None
            return value

    def put(self, key: _Key, value: _Value) -> None:
        """Add an entry; evict the least recently used."""
        with self._lock:
            if self._entries.maxsize:  # or nothing may be added
                self._entries[key] = value

    def __len__(self) -> int:
        return len(self._entries)

    def clear(self) -> None:
        """Remove all entries."""
        with self._lock:
            self._entries.clear()
