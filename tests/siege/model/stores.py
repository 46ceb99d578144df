"""Record the stores of the program's own writer one by one, and what a memory without order makes of them.

:class:`Recorder` runs a piece of the program line by line and compares the shared words after each line: the words that
changed are the stores of that line. It knows nothing of the writer, so it records what the writer really does. A line
that stores several words (A2, a copy) stores them in an unknown order: a death in the middle of it leaves any subset.
"""

from __future__ import annotations

import contextlib
import itertools
import mmap
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import pytest

import shm

T = TypeVar("T")

_PROGRAM = str(Path(shm.__file__).parent)


Step = Mapping[int, int]  # what one line of the program stored: word → value


class Recorder(contextlib.AbstractContextManager["Recorder"]):
    """Watches words ``first`` … ``end`` − 1 of a file in shared memory."""

    def __init__(self, path: Path, first: int, end: int) -> None:
        self.fd = os.open(path, os.O_RDWR)
        self._map = mmap.mmap(self.fd, 0, mmap.MAP_SHARED, mmap.PROT_READ)
        self._words = memoryview(self._map).cast("Q")
        self.first, self.end = first, end

    def __exit__(self, *exc: object) -> None:
        self._words.release()
        self._map.close()
        os.close(self.fd)

    def words(self) -> list[int]:
        return self._words[self.first : self.end].tolist()

    def whole(self) -> bytes:
        return bytes(self._map)

    def put(self, whole: bytes) -> None:
        os.pwrite(self.fd, whole, 0)

    def put_words(self, words: Sequence[int]) -> None:
        os.pwrite(self.fd, b"".join(word.to_bytes(8, "little") for word in words), 8 * self.first)

    def record(self, run: Callable[[], T]) -> tuple[T, list[Step]]:
        """Call ``run``; return its result and the steps in which it stored."""
        steps: list[Step] = []
        before = self.words()

        def look() -> None:
            nonlocal before
            now = self.words()
            if now != before:
                changed = (i for i, (old, new) in enumerate(zip(before, now, strict=True)) if old != new)
                steps.append({self.first + i: now[i] for i in changed})
                before = now

        def trace(frame: FrameType, event: str, argument: Any) -> Any:
            if not frame.f_code.co_filename.startswith(_PROGRAM):
                return None
            look()
            return trace

        preadv = os.preadv

        def one_by_one(fd: int, buffers: Sequence[memoryview], offset: int) -> int:
            copied = 0
            for buffer in buffers:
                size = preadv(fd, [buffer], offset + copied)
                look()
                copied += size
                if size < len(buffer):
                    break
            return copied

        previous = sys.gettrace()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "preadv", one_by_one)
            sys.settrace(trace)
            try:
                result = run()
            finally:
                sys.settrace(previous)
        look()
        return result, steps


@dataclass
class History:
    """Every value that each word of a range ever had: what loads without order can return."""

    values: list[dict[int, None]]  # of each word, in the order of the stores

    @staticmethod
    def beginning(words: Sequence[int]) -> History:
        return History([{word: None} for word in words])

    def add(self, step: Step, first: int) -> None:
        """``first``: the number of the range's first word."""
        for word, value in step.items():
            if 0 <= word - first < len(self.values):
                self.values[word - first][value] = None

    def within(self, other: History) -> bool:
        """Whether every combination of this history is also one of ``other``."""
        return all(mine.keys() <= others.keys() for mine, others in zip(self.values, other.values, strict=True))

    def combinations(self) -> Iterator[tuple[int, ...]]:
        return itertools.product(*self.values)


def issued(steps: Sequence[Step], every_subset: bool = True) -> Iterator[tuple[int, dict[int, int]]]:
    """Where a SIGKILL can fall: (step, stores of that step which were issued before it).

    Of a step of several words every subset, or its beginnings and its last words alone. A store that was issued becomes
    visible in the end, whatever happens to the process; another one never does.
    """
    for number, step in enumerate(steps):
        words = list(step.items())
        for size in range(len(words)):
            ends = [words[:size], words[-size:]] if size else [[]]
            for some in itertools.combinations(words, size) if every_subset else ends:
                yield number, dict(some)
    yield len(steps), {}


def maximal(histories: Sequence[History]) -> list[History]:
    """The histories that no other one includes: their combinations are all there are."""
    kept: list[History] = []
    for one in histories:
        if not any(one.within(other) for other in kept):
            kept = [other for other in kept if not other.within(one)] + [one]
    return kept


@contextlib.contextmanager
def tiny_rings() -> Iterator[None]:
    """Let the program make rings of one slot, rows of two values and windows of all slots, so small that all
    combinations can be tried.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shm.ring.writer.MIN_CAPACITY", 1)
        patch.setattr("shm.ring.writer.aligned", lambda size, to: size)
        patch.setattr("shm.ring.windows.GUARD_SLOTS", 0)
        yield
