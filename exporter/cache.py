"""A cache bounded in bytes, for what is costly to make and asked for again: layouts of pages, and long windows.

Making a page's layout (template.py) takes 20 times as long as filling it, and scrapes repeat the same query. The event
loop and the worker thread share the cache of layouts.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final, Protocol, TypeVar

_ENTRY_BYTES: Final = 4096  # an empty layout


class Kept(Protocol):
    memory_bytes: int  # approximate


K = TypeVar("K", bound=Kept)


class Cache:
    """An LRU cache of at most ``most_bytes``. ``always_newest``: a new entry is kept even if it alone exceeds them."""

    def __init__(self, most_bytes: int, *, always_newest: bool = True) -> None:
        self._most_bytes = most_bytes
        self._always_newest = always_newest
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, tuple[object, Kept, int]] = OrderedDict()
        self.memory_bytes = 0

    def get(self, key: Hashable, made_from: object, make: Callable[[], K]) -> K:
        """The entry of ``key``: the cached one if its ``made_from`` is equal, else a new one."""
        with self._lock:
            if key in self._kept:
                before, found, _ = self._kept[key]
                if before == made_from:
                    self._kept.move_to_end(key)
                    return found  # type: ignore[return-value]  # what an equal key made
        made = make()
        size = made.memory_bytes + 2 * len(repr(key)) + _ENTRY_BYTES
        with self._lock:
            self.memory_bytes += size - self._kept.pop(key, (None, None, 0))[2]
            self._kept[key] = made_from, made, size
            while self.memory_bytes > self._most_bytes and len(self._kept) > self._always_newest:
                _, (_, _, gone) = self._kept.popitem(last=False)
                self.memory_bytes -= gone
        return made
