"""ReadOnlyMap: a segment mapped read-only (I8); only the kernel reads the map (I7).

A load from the map of a truncated file is a SIGBUS, which a Python process can't survive. So the interpreter never
loads from the map: ``pwritev`` copies from the map into a private memfd, and reports a missing page by a short copy or
an error. A copy from a hole would allocate its page: so fstat comes before each copy, and nothing is copied from a file
with fewer blocks than bytes.
"""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Sequence
from typing import Final

from shm.ring.memfd import create_memfd

COPY_BYTES: Final = 1 << 20  # per copy, so that the copy is still in the cache when its seals are computed


class ReadOnlyMap:
    """The bytes of an open segment, copied out by the kernel. Several threads may copy at once.

    Owns ``fd`` and ``mapped`` until :meth:`close`. ``slot_bytes``: of the segment's slots.
    """

    __slots__ = ("_bytes", "_map", "_most", "fd")

    def __init__(self, fd: int, mapped: mmap.mmap, slot_bytes: int) -> None:
        self.fd = fd
        self._map = mapped
        self._bytes = memoryview(mapped)
        self._most = max(COPY_BYTES, slot_bytes + 64)  # bytes per copy

    def whole(self) -> bool:
        """Whether the file has no holes. It may have been cut short."""
        status = os.fstat(self.fd)
        return status.st_blocks * 512 >= status.st_size

    def copy(self, *ranges: slice) -> bytes:
        """The bytes of these ranges, joined, copied in this order; at most a slot and some words in all.

        Fewer bytes if the file was cut short, none if it has holes.
        """
        if not self.whole():
            return b""
        scratch = _borrow(self._most)
        try:
            return scratch.map[: scratch.fill([self._bytes[one] for one in ranges])]
        finally:
            _idle.append(scratch)

    def copy_into(self, target: memoryview, start: int) -> int:
        """Fill ``target`` with the bytes from ``start`` on; how many were copied."""
        scratch = _borrow(self._most)
        done = 0
        try:
            while done < len(target) and self.whole():
                wanted = min(len(target) - done, self._most)
                size = scratch.fill([self._bytes[start + done : start + done + wanted]])
                target[done : done + size] = memoryview(scratch.map)[:size]
                done += size
                if size < wanted:
                    break
            return done
        finally:
            _idle.append(scratch)

    def close(self) -> None:
        if self.fd >= 0:
            self._bytes.release()
            self._map.close()
            os.close(self.fd)
            self.fd = -1


class _Scratch:
    """A private memfd that the kernel copies into. It can't be truncated, so loads of copied bytes are safe."""

    __slots__ = ("fd", "map")

    def __init__(self, size: int) -> None:
        self.fd = create_memfd("fogmetrics-scratch", size)
        try:
            self.map = mmap.mmap(self.fd, size, prot=mmap.PROT_READ)
        except BaseException:
            os.close(self.fd)
            raise

    def fill(self, views: Sequence[memoryview]) -> int:
        """Copy these views of a map to the beginning; how many bytes were copied."""
        try:
            return os.pwritev(self.fd, views, 0)
        except OSError as error:
            if error.errno == errno.EFAULT:  # not even the first
                return 0
            raise

    def close(self) -> None:
        self.map.close()
        os.close(self.fd)


# Unused scratch memory: as many as threads have copied at once.
_idle: list[_Scratch] = []


def _borrow(size: int) -> _Scratch:
    try:
        scratch = _idle.pop()
    except IndexError:
        return _Scratch(size)
    if len(scratch.map) >= size:
        return scratch
    scratch.close()
    return _Scratch(size)


def _disown() -> None:
    # A forked child shares these memfds with its parent, which continues to copy into them.
    while _idle:
        _idle.pop().close()


os.register_at_fork(after_in_child=_disown)
