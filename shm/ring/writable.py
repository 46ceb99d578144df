"""WritableSegment: one segment as its writer holds it: mapped read-write, its catalog known, its frames proven.

What happens here happens between frames: opening, resuming, entering metrics and series. The hot path is
:meth:`shm.ring.writer.RingWriter.append`; how a segment follows another is :mod:`shm.ring.rebuild`.
"""

from __future__ import annotations

import mmap
import os
import time
from pathlib import Path

from shm import catalog
from shm.metric import series_key
from shm.ring.discovery import pid_namespace, start_ticks
from shm.ring.layout import (
    HEADER_BYTES,
    IMMUTABLE_END,
    KIND_METRIC,
    KIND_SERIES,
    LAYOUT_VERSION,
    MAGIC,
    WORD_CATALOG_USED,
    WORD_HEAD,
    WORD_HEARTBEAT,
    WORD_MAGIC,
    WORD_PID,
    WORD_PID_NAMESPACE,
    WORD_PID_START,
    Header,
)
from shm.ring.protocol import frame_seal
from shm.ring.segment import StoredSegment


class WritableSegment(StoredSegment):
    """Only for the process that holds the source's lock (I5).

    ``bytes`` is the map, for :meth:`shm.ring.staging.Staging.copy` alone. All else is read from the file and written to
    it by calls, which report what a touch of a map would make a SIGBUS of.
    """

    def __init__(self, fd: int, mapped: mmap.mmap, header: Header, path: Path) -> None:
        """``path``: where it is published, or will be."""
        super().__init__(fd, header)
        self._path = path
        self._inode = os.fstat(fd).st_ino
        self._size = header.segment_bytes
        self.bytes = memoryview(mapped)
        self._map = mapped
        self._start = b"".join(word.to_bytes(8, "little") for word in (MAGIC, LAYOUT_VERSION, header.salt))
        self._start += header.immutable()

    def trouble(self) -> str:
        """What somebody did to the file under us, as a phrase; empty while it is as it was published."""
        try:
            status = os.stat(self._path, follow_symlinks=False)
        except FileNotFoundError:
            return "was removed"
        if status.st_ino != self._inode:  # ours is given to no other file while we have it open
            return "lost its name to another file"
        if status.st_size != self._size:
            return f"was cut or extended to {status.st_size} bytes"
        if status.st_blocks * 512 < self._size:
            return "had a hole cut into it"
        if os.pread(self._fd, IMMUTABLE_END, 0) != self._start:
            return "had its header overwritten"
        return ""

    def open_again(self) -> int:
        """Another descriptor of the file, also of one that has lost its name. The caller closes it."""
        return os.dup(self._fd)

    def salvage(self) -> StoredSegment:
        """What the file still holds, read anew and without the map, under the catalog and head that we know."""
        stored = StoredSegment(self.open_again(), self.header)
        stored.read_again(self.catalog, self.head)
        return stored

    def write_header(self) -> None:
        """The immutable header of a segment being built, without its magic (I6)."""
        os.pwrite(self._fd, self._start[8:], 8)

    def finish(self) -> None:
        """Sign, and say that it is whole: magic last (I6)."""
        self.sign()
        self.put(8 * WORD_MAGIC, MAGIC)

    def put(self, offset: int, word: int) -> None:
        """Store one of the header's words, or a slot's sequence."""
        os.pwrite(self._fd, word.to_bytes(8, "little"), offset)

    def sign(self) -> None:
        """Name this process as the writer."""
        self.put(8 * WORD_PID_START, start_ticks(os.getpid()))
        self.put(8 * WORD_PID_NAMESPACE, pid_namespace())
        self.put(8 * WORD_PID, os.getpid())
        self.put(8 * WORD_HEARTBEAT, time.clock_gettime_ns(time.CLOCK_BOOTTIME))

    def unsign(self) -> None:
        """Say that the writer stopped in good order."""
        self.put(8 * WORD_PID, 0)

    def close(self) -> None:
        """Unmap; the segment stays."""
        self.bytes.release()
        self._map.close()
        super().close()

    # ---- the catalog -----------------------------------------------------------------------------------------

    def enter(self, kind: int, body: bytes) -> bool:
        """Add an entry; False, and nothing done, when the catalog has no room for it."""
        at = self.catalog.used
        if at + catalog.entry_bytes(body) > self.header.catalog_bytes:
            return False
        data = catalog.entry(kind, body, at, self.salt)
        start = HEADER_BYTES + at
        # The seal last, by a store of its own, and the announcement, a hint, behind it. Once the seal is stored all of
        # the entry is, so that the next writer finds it whole and keeps it. Stored as one with the rest, an entry that
        # a writer died in could be completed by words that the next one's entry has in the same places, for a reader
        # whose copy falls on both sides of the restart: it would name the next one's column for the dead one's series.
        os.pwrite(self._fd, data[:8], start)
        os.pwrite(self._fd, data[16:], start + 16)
        os.pwrite(self._fd, data[8:16], start + 8)
        catalog.extend(self.catalog, data, at, self.header.width, self.salt)
        assert self.catalog.used == at + len(data), self.catalog.error
        self.put(8 * WORD_CATALOG_USED, self.catalog.used)
        if kind == KIND_SERIES:
            series = self.catalog.series[-1]
            self.columns[series_key(series)] = series
        elif kind == KIND_METRIC:
            self.metric_index[self.catalog.metrics[-1].name] = len(self.catalog.metrics) - 1
        return True

    # ---- resuming --------------------------------------------------------------------------------------------

    def resume(self) -> tuple[int, bool]:
        """As :meth:`read`; and what is torn is of no frame any more, and the header's hints are right again."""
        found, damaged = self.read()
        for slot in self.torn:
            self.put(self.header.slots_offset + slot * self.header.slot_bytes, 0)
        self.put(8 * WORD_HEAD, self.head)
        self.put(8 * WORD_CATALOG_USED, self.catalog.used)
        return found, damaged

    def store(self, sequence: int, payload: bytes | bytearray) -> None:
        """Put a frame into a segment that is being built: no reader sees it, so no order is kept."""
        seal = frame_seal(payload, sequence, self.salt)
        slot = sequence.to_bytes(8, "little") + seal.to_bytes(8, "little") + payload
        os.pwrite(self._fd, slot, self.header.slot_offset(sequence))
