"""A cache of page layouts, bounded in bytes.

A layout is a page without its numbers (template.py). Making one takes 20 times as long as filling it, and scrapes
repeat the same query. The event loop and the worker thread share the cache.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final, Protocol, TypeVar

_ENTRY_BYTES: Final = 4096  # an empty layout


class Layout(Protocol):
    @property
    def memory_bytes(self) -> int:
        """Approximate memory of the layout."""


L = TypeVar("L", bound=Layout)


class Layouts:
    """An LRU cache of layouts by query: at most ``most_bytes``, but always the newest layout."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, tuple[object, Layout, int]] = OrderedDict()
        self.memory_bytes = 0

    def get(self, query: Hashable, made_from: object, make: Callable[[], L]) -> L:
        """The layout of ``query``: the cached one if its ``made_from`` is equal, else a new one."""
        with self._lock:
            if query in self._kept:
                before, layout, _ = self._kept[query]
                if before == made_from:
                    self._kept.move_to_end(query)
                    return layout  # type: ignore[return-value]  # what an equal query made
        made = make()
        size = made.memory_bytes + 2 * len(repr(query)) + _ENTRY_BYTES
        with self._lock:
            self.memory_bytes += size - self._kept.pop(query, (None, None, 0))[2]
            self._kept[query] = made_from, made, size
            while self.memory_bytes > self._most_bytes and len(self._kept) > 1:
                _, (_, _, gone) = self._kept.popitem(last=False)
                self.memory_bytes -= gone
        return made
