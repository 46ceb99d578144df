"""What the C library does with memory that is given back: keep some, so that the next window finds it.

By default glibc returns a window's few MiB to the kernel after each request, and the next one pays a page fault for
each 4 KiB of them: half of the time of an hour's page of 1,000 series. An exporter with few series never comes so far.
"""

from __future__ import annotations

import ctypes
from typing import Final

KEPT_BYTES: Final = 8 << 20

# mallopt(3).
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8


def keep_freed() -> bool:
    """Let the allocator keep up to KEPT_BYTES, in one arena for all threads. False where it is not glibc's."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # musl has none
        return False
    settings = ((_M_TRIM_THRESHOLD, KEPT_BYTES), (_M_MMAP_THRESHOLD, KEPT_BYTES), (_M_ARENA_MAX, 1))
    return all(mallopt(option, value) for option, value in settings)
