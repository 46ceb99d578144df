"""The options of glibc's allocator, mallopt(3)."""

from __future__ import annotations

import ctypes
from typing import Final

_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
_ARENA_MAX: Final = -8


def use_one_arena(kept_bytes: int | None = None) -> bool:
    """Make all threads share one arena, and keep up to ``kept_bytes`` of freed memory. False for another C library.

    By default each thread has an arena of its own, and none can use what another has freed. Call it before the first
    thread starts.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # musl has none
        return False
    kept = () if kept_bytes is None else ((_TRIM_THRESHOLD, kept_bytes), (_MMAP_THRESHOLD, kept_bytes))
    return all(mallopt(option, value) for option, value in ((_ARENA_MAX, 1), *kept))
