"""Run numpy work on all processors: numpy releases the GIL while it sorts and sums."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Final, TypeVar

T = TypeVar("T")

_MOST_THREADS: Final = 4


def in_parallel(work: Callable[[T], None], parts: Iterable[T]) -> None:
    """Call ``work`` on each of the parts, in any order. An exception is raised after all calls have ended."""
    waiting = list(parts)
    if len(waiting) < 2 or processors() < 2:
        for one in waiting:
            work(one)
        return
    working = [_pool().submit(work, one) for one in waiting]
    wait(working)
    for one_done in working:
        one_done.result()


def processors() -> int:
    """The number of processors that this process may use, which a container may limit; at most _MOST_THREADS."""
    return min(len(os.sched_getaffinity(0)), _MOST_THREADS)


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(processors(), thread_name_prefix="aggregate-part")
