"""A cache bounded in bytes, for what is costly to make and asked for again: layouts of pages, and long windows.

Making a page's layout (template.py) takes 20 times as long as filling it, and scrapes repeat the same query. One cache
holds all that the exporter keeps for queries, so that one budget bounds it; the event loop and the worker thread share
it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final, Protocol, TypeVar

DEFAULT_BYTES: Final = 64 << 20  # both pages of 10,000 series take 40 MiB, a day's window 5 KiB a series
_ENTRY_BYTES: Final = 4096  # an empty layout


class Kept(Protocol):
    memory_bytes: int  # approximate


K = TypeVar("K", bound=Kept)


class Cache:
    """An LRU cache of at most ``most_bytes``, but for a newest entry that alone exceeds them."""

    def __init__(self, most_bytes: int = DEFAULT_BYTES) -> None:
        self.most_bytes = most_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, tuple[object, Kept, int]] = OrderedDict()
        self.memory_bytes = 0

    def get(self, key: Hashable, made_from: object, make: Callable[[], K], *, too_large: bool = True) -> K:
        """The entry of ``key``: the cached one if its ``made_from`` is equal, else a new one.

        ``too_large``: keep it even if it alone exceeds the bound, until the next entry comes.
        """
        with self._lock:
            if key in self._kept:
                before, found, _ = self._kept[key]
                if before == made_from:
                    self._kept.move_to_end(key)
                    return found  # type: ignore[return-value]  # what an equal key made
        made = make()
        size = made.memory_bytes + 2 * (len(repr(key)) + len(repr(made_from))) + _ENTRY_BYTES
        with self._lock:
            self.memory_bytes -= self._kept.pop(key, (None, None, 0))[2]
            if size > self.most_bytes and not too_large:
                return made
            self.memory_bytes += size
            self._kept[key] = made_from, made, size
            while self.memory_bytes > self.most_bytes and len(self._kept) > 1:
                _, (_, _, gone) = self._kept.popitem(last=False)
                self.memory_bytes -= gone
        return made
