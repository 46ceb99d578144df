"""Work in as many threads as there are processors: numpy leaves the interpreter free while it sorts and sums."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Final, TypeVar

T = TypeVar("T")

_MOST_THREADS: Final = 4


def in_parallel(work: Callable[[T], None], parts: Iterable[T]) -> None:
    """``work`` on each of the parts, in any order. What one raises is raised when all have ended."""
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
    """How many this process may use; a container may have been given some only."""
    return min(len(os.sched_getaffinity(0)), _MOST_THREADS)


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(processors(), thread_name_prefix="aggregate-part")
