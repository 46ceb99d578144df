"""StoredSegment: what a segment's file holds, by proof alone, read without a map.

A file that somebody cuts short loses its end, and to touch the lost part of a map is a SIGBUS; a read of it is only
short. So whatever looks at a segment that may be damaged looks through this: the writer that resumes it, the rebuild
that carries its history over, the restore of a snapshot.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from typing import Final

from shm.catalog import Catalog, extend
from shm.metric import Series, SeriesKey, series_key
from shm.ring.frame import Frame, prove
from shm.ring.layout import FLAG_TICK, HEADER_BYTES, WORD_CATALOG_USED, WORD_HEAD, WORD_PID, Header

log = logging.getLogger(__name__)

_BLOCK_BYTES: Final = 1 << 18  # read at once while slots are proven: within a cache


class StoredSegment:
    """The proven part of a segment: ``header``, ``catalog``, ``head`` and the frames behind it.

    Empty until :meth:`read`. Owns ``fd``; :meth:`close` gives it back.
    """

    def __init__(self, fd: int, header: Header) -> None:
        self.header = header
        self.salt = header.salt
        self.catalog = Catalog()
        self.columns: dict[SeriesKey, Series] = {}
        self.metric_index: dict[str, int] = {}
        self.head = 0
        self._fd = fd
        self.torn: list[int] = []  # slots that claim a frame and do not hold it: of a dead writer, or damaged
        self._missing: set[int] = set()  # sequences up to the head that the slots did not hold whole when it was read
        self._announced = 0  # the head that the header's hint told when it was read
        self._other: StoredSegment | None = None  # where those may be that are missing here

    def read(self) -> tuple[int, bool]:
        """Find out what the file holds: (frames, whether its catalog is damaged).

        Damaged: frames know of columns that the catalog's proven part does not name. The head becomes the highest
        sequence whose seal holds (I3); the header's head is only a hint.
        """
        header = self.header
        announced = self._word(WORD_CATALOG_USED)
        data = os.pread(self._fd, header.catalog_bytes, HEADER_BYTES)
        extend(self.catalog, data, announced, header.width, self.salt)
        self._index_catalog()
        self._announced = self._word(WORD_HEAD)
        found, columns = self._prove_slots()
        # The announcement may be damaged together with an entry; the frames' own counts are under seal.
        damaged = bool(self.catalog.error) or columns > self.catalog.columns
        if damaged:
            log.error("catalog damaged", extra={
                "ring": header.source, "series_kept": len(self.catalog.series),
                "error": self.catalog.error or f"frames have {columns} columns, it names {self.catalog.columns}",
            })  # fmt: skip
        return found, damaged

    def read_again(self, catalog: Catalog, head: int) -> None:
        """The same for the writer of the segment, which knows its catalog and its head better than a damaged file."""
        self.catalog = catalog
        self._index_catalog()
        self._prove_slots(head)

    def complete(self, other: StoredSegment) -> None:
        """Take what is missing from an earlier copy of the same segment, which stays the caller's."""
        held = {*self.history(), *other.history()}
        # The same salt: the same columns, then, and the same proof.
        if other.salt == self.salt and len(held) > len(self.history()):
            self._other = other
            self.hold(held, max(self.head, other.head))

    def hold(self, sequences: set[int], head: int) -> None:
        """For a segment that was filled anew: which frames its slots hold, and the head that numbers go on from."""
        self.head = head
        self._missing = {sequence for sequence in range(self._oldest(), head + 1) if sequence not in sequences}

    def _index_catalog(self) -> None:
        self.columns = {series_key(series): series for series in self.catalog.series}
        self.metric_index = {metric.name: i for i, metric in enumerate(self.catalog.metrics)}

    def _prove_slots(self, least_head: int = 0) -> tuple[int, int]:
        """Set the head and what is missing behind it; (frames found whole, most columns that one of them knows)."""
        whole = set()
        columns = 0
        self.torn = []
        for slot, copy in self._slots():
            sequence = int.from_bytes(copy[:8], "little")
            if sequence == 0:
                continue
            frame = prove(copy, sequence, self.salt) if (sequence - 1) % self.header.capacity == slot else None
            if frame is None:
                self.torn.append(slot)
            else:
                whole.add(sequence)
                columns = max(columns, frame.count)
        self.hold(whole, max(least_head, *whole, 0))
        return len(whole), columns

    def _slots(self) -> Iterator[tuple[int, bytes]]:
        """Each slot's number and a private copy of its bytes; those that the file has lost are left out."""
        header = self.header
        size = header.slot_bytes
        step = max(_BLOCK_BYTES // size, 1)
        for first in range(0, header.capacity, step):
            number = min(step, header.capacity - first)
            try:
                block = os.pread(self._fd, number * size, header.slots_offset + first * size)
            except OSError:  # a bad sector under a snapshot: these slots are lost, the others are not
                continue
            for i in range(len(block) // size):
                yield first + i, block[i * size : (i + 1) * size]
            if len(block) < number * size:
                return  # the end of a file that was cut

    def _oldest(self) -> int:
        return max(self.head - self.header.capacity + 1, 1)

    def history(self) -> list[int]:
        """The sequences that the slots hold, oldest first."""
        return [sequence for sequence in range(self._oldest(), self.head + 1) if sequence not in self._missing]

    def frame(self, sequence: int) -> Frame | None:
        """The frame of that sequence, or None where its slot does not hold it whole."""
        try:
            copy = os.pread(self._fd, self.header.slot_bytes, self.header.slot_offset(sequence))
        except OSError:
            copy = b""
        found = prove(copy, sequence, self.salt)
        return self._other.frame(sequence) if found is None and self._other is not None else found

    @property
    def ended_well(self) -> bool:
        """Whether its writer had ended in good order."""
        return self._word(WORD_PID) == 0

    @property
    def lost(self) -> int:
        """How many frames it ought to hold and does not. One may be what a killed writer had in flight."""
        return len(self._missing) + self.lost_newest

    @property
    def lost_newest(self) -> int:
        """How many of them are beyond the head: they were announced, and readers may have had them."""
        beyond = self._announced - self.head
        return beyond if 0 < beyond <= self.header.capacity else 0  # more: the hint itself is damaged

    def _word(self, number: int) -> int:
        return int.from_bytes(os.pread(self._fd, 8, 8 * number), "little")

    def clock_offset_ns(self) -> int | None:
        """Wall clock minus monotonic clock as of its newest collection; None where it has none."""
        for sequence in reversed(self.history()):
            frame = self.frame(sequence)
            if frame is not None and frame.flags & FLAG_TICK:
                return frame.timestamp_ns - frame.monotonic_ns
        return None

    def close(self) -> None:
        os.close(self._fd)
