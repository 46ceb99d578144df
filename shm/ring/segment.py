"""The writer's view of a segment: StoredSegment reads and proves a file, WritableSegment is the segment in use.

A StoredSegment is read by pread, without a map: of a file that was cut short, reads are only short. It is used to
resume a segment, to carry its history over in a rebuild, and to restore a snapshot. A WritableSegment is used between
frames: to resume, and to add metrics and series. The hot path is :meth:`shm.ring.writer.RingWriter.append`.
"""

from __future__ import annotations

import logging
import mmap
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from shm.catalog import Catalog, entry, entry_bytes, extend, extend_in_pieces
from shm.files import change_of
from shm.metric import Series, SeriesKey, series_key
from shm.process import pid_namespace, start_ticks
from shm.ring.frame import Frame, prove
from shm.ring.layout import (
    HEADER_BYTES,
    IMMUTABLE_END,
    KIND_SERIES,
    LAYOUT_VERSION,
    MAGIC,
    MAX_SEQUENCE,
    WORD_CATALOG_USED,
    WORD_HEAD,
    WORD_HEARTBEAT,
    WORD_MAGIC,
    WORD_PID,
    WORD_PID_NAMESPACE,
    WORD_PID_START,
    WORD_REPAIRS,
    Header,
)
from shm.ring.protocol import frame_seal
from shm.ring.staging import HINTS, Staging

log = logging.getLogger(__name__)

_WORD: Final = (1 << 64) - 1
_BLOCK_BYTES: Final = 1 << 18  # bytes per read while slots are proven: fits into the cache


class StoredSegment:
    """The proven part of a segment: ``header``, ``catalog``, ``head`` and the frames up to the head.

    Empty until :meth:`read`. Owns ``fd`` until :meth:`close`.
    """

    def __init__(self, fd: int, header: Header) -> None:
        self.header = header
        self.catalog = Catalog()
        self.columns: dict[SeriesKey, Series] = {}
        self.head = 0
        self._fd = fd
        self.torn: list[int] = []  # slots with a sequence but no whole frame: the writer died, or the slot is damaged
        self._missing: set[int] = set()  # sequences up to the head whose frames the slots did not hold when read
        self._used = 0  # the highest sequence that a frame may have had, whole or not
        self._other: StoredSegment | None = None  # an earlier copy that may hold the missing frames

    def read(self) -> bool:
        """Read and prove the catalog and all slots; whether the catalog is damaged.

        Damaged: frames have more columns than the catalog's proven part names. The head becomes the highest sequence
        whose seal holds (I3); the header's head is only a hint.
        """
        header = self.header
        announced = self._word(WORD_CATALOG_USED)
        extend_in_pieces(self.catalog, self._catalog_at, header.catalog_bytes, announced, header.width, header.salt)
        self.columns = {series_key(series): series for series in self.catalog.series}
        columns = self._prove_slots()
        # The announced length may be damaged together with an entry; the frames' counts are under seal.
        damaged = bool(self.catalog.error) or columns > self.catalog.columns
        if damaged:
            log.error("catalog damaged", extra={
                "ring": header.source, "series_kept": len(self.catalog.series),
                "error": self.catalog.error or f"frames have {columns} columns, it names {self.catalog.columns}",
            })  # fmt: skip
        return damaged

    def _catalog_at(self, start: int, size: int) -> bytes:
        return os.pread(self._fd, size, HEADER_BYTES + start)

    def read_again(self, catalog: Catalog, head: int) -> None:
        """Prove the slots of a file that its writer found damaged, under the catalog and head that the writer has."""
        self.catalog = catalog
        self._prove_slots(head)

    def complete(self, other: StoredSegment) -> None:
        """Read missing frames from ``other``, an earlier copy of the same segment, which the caller owns."""
        held = {*self.history(), *other.history()}
        # The same salt means the same segment, so columns and seals are the same.
        if other.header.salt == self.header.salt and len(held) > len(self.history()):
            self._other = other
            self.hold(held, max(self.head, other.head))

    def hold(self, sequences: set[int], head: int) -> None:
        """Set the head, and which of the sequences up to it have whole frames."""
        self.head = head
        self._missing = {sequence for sequence in range(self._oldest(), head + 1) if sequence not in sequences}

    def _prove_slots(self, least_head: int = 0) -> int:
        """Prove all slots and set the head; the highest column count among the whole frames."""
        whole = set()
        claimed = {self._word(WORD_HEAD)}
        columns = 0
        self.torn = []
        for slot, copy in self._slots():
            sequence = int.from_bytes(copy[:8], "little")
            if sequence == 0:
                continue
            in_place = (sequence - 1) % self.header.capacity == slot
            frame = prove(copy, sequence, self.header.salt) if in_place else None
            if frame is None:
                self.torn.append(slot)
                claimed |= {sequence} if in_place else set()
            else:
                whole.add(sequence)
                columns = max(columns, frame.count)
        self.hold(whole, max(least_head, *whole, 0))
        # A number whose slot has the whole frame of another was never used: the word that claims it is damaged.
        taken = {sequence % self.header.capacity for sequence in whole}
        most = self.head + self.header.capacity if whole else MAX_SEQUENCE // 2
        claimed = {one for one in claimed if one <= most and one % self.header.capacity not in taken}
        self._used = max(self.head, *claimed, 0)
        return columns

    def _slots(self) -> Iterator[tuple[int, bytes]]:
        """Each slot's number and a private copy of its bytes, without the slots that the file has lost."""
        header = self.header
        size = header.slot_bytes
        step = max(_BLOCK_BYTES // size, 1)
        for first in range(0, header.capacity, step):
            number = min(step, header.capacity - first)
            try:
                block = os.pread(self._fd, number * size, header.slots_offset + first * size)
            except OSError:  # a bad sector under a snapshot: only these slots are lost
                continue
            for i in range(len(block) // size):
                yield first + i, block[i * size : (i + 1) * size]
            if len(block) < number * size:
                return  # the end of a file that was cut

    def _oldest(self) -> int:
        return max(self.head - self.header.capacity + 1, 1)

    def history(self) -> list[int]:
        """The sequences of the whole frames, oldest first."""
        return [sequence for sequence in range(self._oldest(), self.head + 1) if sequence not in self._missing]

    def frame(self, sequence: int) -> Frame | None:
        """The frame of that sequence, or None if its slot does not hold it whole."""
        try:
            copy = os.pread(self._fd, self.header.slot_bytes, self.header.slot_offset(sequence))
        except OSError:
            copy = b""
        found = prove(copy, sequence, self.header.salt)
        return self._other.frame(sequence) if found is None and self._other is not None else found

    @property
    def ended_well(self) -> bool:
        """Whether its writer stopped in good order."""
        return self._word(WORD_PID) == 0

    @property
    def lost(self) -> int:
        """How many frames are missing. One of them may be the frame that a killed writer had in flight."""
        return len(self._missing) + max(self._used - self.head, 0)

    @property
    def lost_newest(self) -> int:
        """How many frames newer than the newest whole one are missing: readers may have seen them."""
        return max(self._used - max(self.history(), default=0), 0)

    def _word(self, number: int) -> int:
        return int.from_bytes(os.pread(self._fd, 8, 8 * number), "little")

    def close(self) -> None:
        os.close(self._fd)


class WritableSegment(StoredSegment):
    """The segment in use by the process that holds the source's lock (I5).

    ``bytes``: the map, and ``hints``, its HINTS, only for the copy from ``staging``. All other data is read and written
    by pread and pwrite, which fail with an error where an access to the map would be a SIGBUS.
    """

    def __init__(self, fd: int, mapped: mmap.mmap, header: Header, path: Path) -> None:
        """``path``: where it is published, or will be. Raises NoSpace; ``fd`` and ``mapped`` are closed then."""
        super().__init__(fd, header)
        try:
            self.staging = Staging(header.source, header.slot_bytes)
        except BaseException:
            mapped.close()
            os.close(fd)
            raise
        self._path = path
        self._inode = os.fstat(fd).st_ino
        self.bytes = memoryview(mapped)
        self.hints = self.bytes[HINTS]
        self._map = mapped
        self._start = b"".join(word.to_bytes(8, "little") for word in (MAGIC, LAYOUT_VERSION, header.salt))
        self._start += header.immutable()

    def trouble(self) -> str:
        """How another process changed the file, as a phrase; empty while it is as published."""
        trouble = change_of(self._path, self._inode, self.header.segment_bytes)
        if not trouble and os.pread(self._fd, IMMUTABLE_END, 0) != self._start:
            return "had its header overwritten"
        return trouble

    def open_again(self) -> int:
        """Another descriptor of the file, even if the file was removed. The caller closes it."""
        return os.dup(self._fd)

    def salvage(self) -> StoredSegment:
        """The frames that the damaged file still holds, under this writer's catalog and head."""
        stored = StoredSegment(self.open_again(), self.header)
        stored.read_again(self.catalog, self.head)
        return stored

    def write_header(self) -> None:
        """Write the immutable header of a segment being built, without its magic (I6)."""
        os.pwrite(self._fd, self._start[8:], 8)

    def finish(self) -> None:
        """Complete a segment being built: sign it, and write the magic last (I6)."""
        self.sign()
        self.put(8 * WORD_MAGIC, MAGIC)

    def put(self, offset: int, word: int) -> None:
        """Store one of the header's words, or a slot's sequence."""
        os.pwrite(self._fd, word.to_bytes(8, "little"), offset)

    def sign(self) -> None:
        """Write this process into the header as the writer."""
        self.put(8 * WORD_PID_START, start_ticks(os.getpid()))
        self.put(8 * WORD_PID_NAMESPACE, pid_namespace())
        self.put(8 * WORD_PID, os.getpid())
        self.put(8 * WORD_HEARTBEAT, time.clock_gettime_ns(time.CLOCK_BOOTTIME))

    def close(self) -> None:
        """Unmap and close the file; the segment stays."""
        self.staging.close()
        self.hints.release()
        self.bytes.release()
        self._map.close()
        super().close()

    # ---- the catalog -----------------------------------------------------------------------------------------

    def enter(self, kind: int, body: bytes) -> bool:
        """Add an entry; False, and nothing written, if the catalog has no room for it."""
        at = self.catalog.used
        if at + entry_bytes(body) > self.header.catalog_bytes:
            return False
        data = entry(kind, body, at, self.header.salt)
        start = HEADER_BYTES + at
        # The seal last, by its own store, then the hint. Once the seal is stored, the whole entry is, and the next
        # writer keeps it. Without this order, a writer that dies may leave a seal without all of its entry. If the next
        # writer's entry has the same words at the missing places, a reader whose copy spans the restart would see the
        # dead writer's entry whole: it would give the dead writer's series the column of the next one's.
        os.pwrite(self._fd, data[:8], start)
        os.pwrite(self._fd, data[16:], start + 16)
        os.pwrite(self._fd, data[8:16], start + 8)
        extend(self.catalog, data, at, self.header.width, self.header.salt)
        assert self.catalog.used == at + len(data), self.catalog.error
        self.put(8 * WORD_CATALOG_USED, self.catalog.used)
        if kind == KIND_SERIES:
            series = self.catalog.series[-1]
            self.columns[series_key(series)] = series
        return True

    # ---- resuming --------------------------------------------------------------------------------------------

    def resume(self) -> bool:
        """As :meth:`read`, then clear the torn slots and correct the header's hints.

        The head becomes the highest sequence that was used, even if its frame is damaged: readers may have read it
        while it was whole, and would take its number for that frame.
        """
        damaged = self.read()
        lost = self.torn or self.lost_newest
        self.hold({*self.history()}, self._used)
        for slot in self.torn:
            self.put(self.header.slots_offset + slot * self.header.slot_bytes, 0)
        self.put(8 * WORD_HEAD, self.head)
        self.put(8 * WORD_CATALOG_USED, self.catalog.used)
        if lost:  # before the next frame: readers that have proven the lost ones look again
            self.put(8 * WORD_REPAIRS, self._word(WORD_REPAIRS) + 1 & _WORD)
        return damaged

    def store(self, sequence: int, payload: bytes | bytearray) -> None:
        """Write a frame into a segment being built; no reader sees it yet, so the order of stores is free."""
        seal = frame_seal(payload, sequence, self.header.salt)
        slot = sequence.to_bytes(8, "little") + seal.to_bytes(8, "little") + payload
        os.pwrite(self._fd, slot, self.header.slot_offset(sequence))
