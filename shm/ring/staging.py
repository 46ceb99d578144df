"""Staging: build a frame in private memory, and have the kernel copy it into the ring's map.

A store into the map of a truncated file is a SIGBUS, which a Python process can't survive. So the interpreter never
stores into the map: it prepares the frame in a memfd, and the kernel copies it over by preadv, which fails with an
error if a page is missing. A pwrite to the file would be as safe, but takes the file's lock, which a reader can hold
(lseek SEEK_HOLE does): the copy into the map takes no lock (I2). The copy costs a microsecond per frame.

    offset   staged             goes to
    0        0                  slot.sequence      A1
    8        seal, payload      slot               A2, A3
    S        sequence           slot.sequence      A4       S = bytes of a slot
    S+8      head … heartbeat   header 512…584     A5
"""

from __future__ import annotations

import errno
import mmap
import os
from typing import Final

from xxhash import xxh3_64_intdigest

from shm.errors import NoSpace
from shm.ring.layout import ABSENT, SLOT_HEADER_BYTES, SLOT_PAYLOAD, SLOT_SEAL, WORD_HEAD, WORD_HEARTBEAT
from shm.ring.memfd import create_memfd

HINTS: Final = slice(8 * WORD_HEAD, 8 * WORD_HEARTBEAT + 8)  # the header's bytes that change with every frame
_HEARTBEAT: Final = 1 + WORD_HEARTBEAT - WORD_HEAD  # index in the words after the slot


class Staging:
    """Staging memory for frames of one width.

    ``numbers``: timestamp, monotonic, count, flags. ``values``: one float64 per column; ``samples``: the first of
    them, as many as the previous frame had.
    """

    def __init__(self, ring: str, slot_bytes: int) -> None:
        """Raises NoSpace, naming the ring, if there is no memory or descriptor for the memfd."""
        self.slot_bytes = slot_bytes
        self.bytes = slot_bytes + 8 + HINTS.stop - HINTS.start
        self._fd = -1
        try:
            self._fd = create_memfd("fogmetrics-staging", self.bytes)
            os.pwrite(self._fd, bytes(self.bytes), 0)  # allocates all of its memory
            self._map = mmap.mmap(self._fd, self.bytes)
        except OSError as error:
            if self._fd >= 0:
                os.close(self._fd)
            raise NoSpace(
                ring, f"its frames can't be staged in a memfd: {error.strerror}; check free memory, the limit on open "
                "files (ulimit -n), and that memfd_create is allowed (seccomp)",
            ) from error  # fmt: skip
        everything = memoryview(self._map)
        self.numbers = everything[SLOT_PAYLOAD:SLOT_HEADER_BYTES].cast("q")
        self.values = everything[SLOT_HEADER_BYTES:slot_bytes].cast("d")
        self.samples = self.values
        self._payload = everything[SLOT_PAYLOAD:slot_bytes]
        self._seal = everything[SLOT_SEAL:SLOT_PAYLOAD].cast("Q")
        self._last = everything[slot_bytes:].cast("Q")

    def fit(self, count: int) -> memoryview[float]:
        """Make ``samples`` the first ``count`` of ``values``, and the columns after them absent."""
        before = len(self.samples)
        if count < before:
            self.values[count:before] = memoryview(ABSENT * (before - count)).cast("d")
        self.samples = self.values[:count]  # last: if interrupted before, the next call fills the columns again
        return self.samples

    def seal(self, sequence: int, salt: int, heartbeat_ns: int) -> None:
        """Stage the seal of the staged payload under this sequence (A3), and the words that A4 and A5 store."""
        self._seal[0] = xxh3_64_intdigest(self._payload, sequence ^ salt)
        last = self._last
        last[0] = last[1] = sequence
        last[_HEARTBEAT] = heartbeat_ns

    def copy(self, target: memoryview, offset: int, hints: memoryview) -> bool:
        """Copy A1 to A5, in this order, into the slot at ``offset``; False if the file has lost a page of the slot.

        ``target``: the whole map; ``hints``: its HINTS.
        """
        sequence = target[offset : offset + 8]
        slot = target[offset + 8 : offset + self.slot_bytes]
        try:
            return os.preadv(self._fd, (sequence, slot, sequence, hints), 0) == self.bytes
        except OSError as error:
            if error.errno == errno.EFAULT:
                return False
            raise

    def close(self) -> None:
        for view in (self.numbers, self.samples, self.values, self._payload, self._seal, self._last):
            view.release()
        self._map.close()
        os.close(self._fd)
