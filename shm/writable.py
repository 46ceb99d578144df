"""WritableSegment: one segment as its writer holds it: mapped read-write, its catalog known, its frames proven.

What happens here happens between frames: opening, resuming, entering metrics and series. The hot path is
:meth:`shm.writer.RingWriter.append`; how a segment follows another is :mod:`shm.rebuild`.
"""

from __future__ import annotations

import logging
import mmap
import os
import time

from shm import entries
from shm.catalog import Series, SeriesKey, series_key
from shm.discovery import pid_namespace, start_ticks
from shm.frame import Frame, prove
from shm.layout import (
    HEADER_BYTES,
    IMMUTABLE_START,
    KIND_METRIC,
    KIND_SERIES,
    LAYOUT_VERSION,
    SLOT_PAYLOAD,
    WORD_CATALOG_USED,
    WORD_HEAD,
    WORD_HEARTBEAT,
    WORD_PID,
    WORD_PID_NAMESPACE,
    WORD_PID_START,
    WORD_SEAL,
    WORD_VERSION,
    Header,
)
from shm.protocol import frame_seal

log = logging.getLogger(__name__)


class WritableSegment:
    """Only for the process that holds the source's lock (I5)."""

    def __init__(self, fd: int, mapped: mmap.mmap, header: Header) -> None:
        self.header = header
        self.salt = header.salt
        self.bytes = memoryview(mapped)
        self.words = self.bytes.cast("Q")
        self.catalog = entries.Catalog()
        self.columns: dict[SeriesKey, Series] = {}
        self.metric_index: dict[str, int] = {}
        self.head = 0
        self._fd = fd
        self._map = mapped

    @property
    def in_place(self) -> bool:
        """False once its file was removed: it lives on in its maps alone, and no new reader can find it."""
        return os.fstat(self._fd).st_nlink > 0

    def write_header(self) -> None:
        """The immutable header of a segment being built, without its magic (I6)."""
        immutable = self.header.immutable()
        self.bytes[IMMUTABLE_START : IMMUTABLE_START + len(immutable)] = immutable
        self.words[WORD_VERSION] = LAYOUT_VERSION
        self.words[WORD_SEAL] = self.salt

    def sign(self) -> None:
        """Name this process as the writer."""
        self.words[WORD_PID_START] = start_ticks(os.getpid())
        self.words[WORD_PID_NAMESPACE] = pid_namespace()
        self.words[WORD_PID] = os.getpid()
        self.words[WORD_HEARTBEAT] = time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def unsign(self) -> None:
        """Say that the writer stopped in good order."""
        self.words[WORD_PID] = 0

    def close(self) -> None:
        """Unmap; the segment stays."""
        self.words.release()
        self.bytes.release()
        self._map.close()
        os.close(self._fd)

    # ---- the catalog -----------------------------------------------------------------------------------------

    def enter(self, kind: int, body: bytes) -> bool:
        """Add an entry; False, and nothing done, when the catalog has no room for it."""
        at = self.catalog.used
        if at + entries.entry_bytes(body) > self.header.catalog_bytes:
            return False
        data = entries.entry(kind, body, at, self.salt)
        start = HEADER_BYTES + at
        # Whole before it is announced: the entry's own seal proves it, the announcement is a hint.
        self.bytes[start : start + len(data)] = data
        entries.extend(self.catalog, data, at, self.header.width, self.salt)
        assert self.catalog.used == at + len(data), self.catalog.error
        self.words[WORD_CATALOG_USED] = self.catalog.used
        if kind == KIND_SERIES:
            series = self.catalog.series[-1]
            self.columns[series_key(series)] = series
        elif kind == KIND_METRIC:
            self.metric_index[self.catalog.metrics[-1].name] = len(self.catalog.metrics) - 1
        return True

    # ---- resuming --------------------------------------------------------------------------------------------

    def resume(self) -> tuple[int, bool]:
        """Find out, by proof alone, what the segment holds: (frames, whether its catalog is damaged).

        Damaged: frames know of columns that the catalog's proven part does not name. The head becomes the highest
        sequence whose seal holds (I3); the header's head is only a hint.
        """
        header, words = self.header, self.words
        data = bytes(self.bytes[HEADER_BYTES : HEADER_BYTES + header.catalog_bytes])
        entries.extend(self.catalog, data, words[WORD_CATALOG_USED], header.width, self.salt)
        self.columns = {series_key(series): series for series in self.catalog.series}
        self.metric_index = {metric.name: i for i, metric in enumerate(self.catalog.metrics)}

        found = columns = 0
        for slot in range(header.capacity):
            word = (header.slots_offset + slot * header.slot_bytes) >> 3
            sequence = words[word]
            if sequence == 0:
                continue
            frame = self.frame(sequence) if (sequence - 1) % header.capacity == slot else None
            if frame is None:
                words[word] = 0  # torn by the death of a writer, or damaged: of no frame any more
            else:
                self.head = max(self.head, sequence)
                columns = max(columns, frame.count)
                found += 1
        words[WORD_HEAD] = self.head
        # The announcement may be damaged together with an entry; the frames' own counts are under seal.
        damaged = bool(self.catalog.error) or columns > self.catalog.columns
        if damaged:
            log.error("catalog damaged", extra={
                "ring": header.source, "series_kept": len(self.catalog.series),
                "error": self.catalog.error or f"frames have {columns} columns, it names {self.catalog.columns}",
            })  # fmt: skip
        words[WORD_CATALOG_USED] = self.catalog.used
        return found, damaged

    def history(self) -> list[int]:
        """The sequences that the slots hold, oldest first. They were proven when the segment was opened."""
        capacity, step, start = self.header.capacity, self.header.slot_bytes, self.header.slots_offset
        oldest = max(self.head - capacity + 1, 1)
        return [s for s in range(oldest, self.head + 1) if self.words[(start + (s - 1) % capacity * step) >> 3] == s]

    def frame(self, sequence: int) -> Frame | None:
        """The frame of that sequence, or None where its slot does not hold it whole."""
        offset = self.header.slot_offset(sequence)
        return prove(bytes(self.bytes[offset : offset + self.header.slot_bytes]), sequence, self.salt)

    def store(self, sequence: int, payload: bytes | bytearray) -> None:
        """Put a frame into a segment that is being built: no reader sees it, so no order is kept."""
        offset = self.header.slot_offset(sequence)
        self.bytes[offset + SLOT_PAYLOAD : offset + self.header.slot_bytes] = payload
        self.words[(offset >> 3) + 1] = frame_seal(payload, sequence, self.salt)
        self.words[offset >> 3] = sequence
