"""RingReader: one source's ring, read-only, without waiting, believing nothing that is not proven.

``latest()`` and ``catalog`` need no numpy; ``frames()`` imports it when it is called.
"""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shm import entries
from shm.catalog import Series
from shm.layout import (
    HEADER_BYTES,
    SLOT_HEADER,
    SLOT_HEADER_BYTES,
    SLOT_PAYLOAD,
    STALE_NAN_BITS,
    WORD_CATALOG_USED,
    WORD_HEAD,
    WORD_HEARTBEAT,
    WORD_PID,
    WORD_PID_NAMESPACE,
    WORD_PID_START,
    Header,
)
from shm.protocol import frame_seal
from shm.segment import attach_readonly, ring_path

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Slots at the old end that a window leaves out: the writer may be about to lap them while they are copied. Each
# costs one interval of a day; a window that takes longer than this many intervals to copy is skipped slot by slot.
GUARD_SLOTS = 4

# How far latest() goes back from the head before it looks at every slot: a frame in flight, and one more.
_STEPS_BACK = 3


@dataclass(frozen=True, slots=True)
class Frame:
    """One proven frame. ``values``: float64, shape (width,); columns at or beyond ``count`` are absent."""

    sequence: int
    timestamp_ns: int
    monotonic_ns: int
    count: int
    flags: int
    values: memoryview[float]

    def value(self, column: int) -> float | None:
        """The sample in that column, None where it is absent."""
        if column >= self.count or self.values.cast("B").cast("Q")[column] == STALE_NAN_BITS:
            return None
        return float(self.values[column])


@dataclass(frozen=True, slots=True)
class Frames:
    """Proven frames in sequence order.

    sequence u64, timestamp_ns i64, monotonic_ns i64, flags u64: shape (frames,). values: float64, shape
    (frames, width), columns in catalog order, absent = STALE_NAN. ``skipped``: slots of the range that were torn
    or lapped while they were copied.
    """

    sequence: NDArray[np.uint64]
    timestamp_ns: NDArray[np.int64]
    monotonic_ns: NDArray[np.int64]
    flags: NDArray[np.uint64]
    values: NDArray[np.float64]
    skipped: int


@dataclass(frozen=True, slots=True)
class WriterInfo:
    """Who writes, as the header says. ``pid`` is 0 after an orderly stop; ``heartbeat_ns`` is CLOCK_BOOTTIME."""

    pid: int
    start_ticks: int
    pid_namespace: int
    heartbeat_ns: int


def prove(copy: bytes, sequence: int, salt: int) -> Frame | None:
    """The frame of that sequence if the slot's ``copy`` proves it (R3), else None."""
    found, seal, timestamp_ns, monotonic_ns, count, flags = SLOT_HEADER.unpack_from(copy)
    view = memoryview(copy)
    if found != sequence or frame_seal(view[SLOT_PAYLOAD:], sequence, salt) != seal:
        return None
    return Frame(sequence, timestamp_ns, monotonic_ns, count, flags, view[SLOT_HEADER_BYTES:].cast("d"))


class RingReader:
    """Maps the published segment of ``source``. Raises RingMissing, RingForeign or RingCorrupt.

    ``owner`` is the user id whose segments are taken, by default our own. A reader sees the segment it mapped
    for ever; ``replaced`` tells when another has taken its name.
    """

    def __init__(self, namespace: str, source: str, *, owner: int | None = None, path: Path | None = None) -> None:
        self.source = source
        self.path = path or ring_path(namespace, source)
        self._fd, self._map, self.header = attach_readonly(source, self.path, os.geteuid() if owner is None else owner)
        self._bytes = memoryview(self._map)
        self._words = self._bytes[: HEADER_BYTES].cast("Q")
        self._salt = self.header.salt
        self._catalog = entries.Catalog()
        self.skipped_frames = 0  # slots that were torn or lapped when this reader met them, since it was opened

    def close(self) -> None:
        """Unmap. Arrays that frames() gave are copies and stay valid."""
        if self._fd >= 0:
            self._words.release()
            self._bytes.release()
            self._map.close()
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> RingReader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def replaced(self) -> bool:
        """True once another segment was published under the name, or the name is gone: open it again."""
        return os.fstat(self._fd).st_nlink == 0

    @property
    def identity(self) -> tuple[int, int]:
        """Tells this segment from the one that replaces it: (inode, creation time)."""
        return os.fstat(self._fd).st_ino, self.header.created_ns

    @property
    def head(self) -> int:
        """The newest sequence as the header hints. Equal hints mean: nothing new was announced."""
        return self._words[WORD_HEAD]

    @property
    def catalog(self) -> entries.Catalog:
        """The catalog as far as it is proven, brought up to date."""
        announced = min(self._words[WORD_CATALOG_USED], self.header.catalog_bytes)
        if announced != self._catalog.used:
            start = HEADER_BYTES + self._catalog.used
            data = bytes(self._bytes[start : HEADER_BYTES + self.header.catalog_bytes])
            entries.extend(self._catalog, data, announced, self.header.width, self._salt)
        return self._catalog

    @property
    def series(self) -> list[Series]:
        return self.catalog.series

    @property
    def writer(self) -> WriterInfo:
        words = self._words
        return WriterInfo(words[WORD_PID], words[WORD_PID_START], words[WORD_PID_NAMESPACE], words[WORD_HEARTBEAT])

    def frame(self, sequence: int) -> Frame | None:
        """The frame of that sequence, or None when its slot does not hold it whole."""
        if sequence < 1:
            return None
        offset = self.header.slot_offset(sequence)
        return prove(bytes(self._bytes[offset : offset + self.header.slot_bytes]), sequence, self._salt)

    def latest(self) -> Frame | None:
        """The newest frame that is whole; None in an empty ring.

        Bounded (I4): a few slots around the head's hint, then, if the hint was wrong, one look at every slot's
        sequence and a few tries from the highest down.
        """
        head = self.head
        # A writer that died between A4 and A5 left the head one behind.
        for sequence in range(head + 1, max(head - _STEPS_BACK, 0), -1):
            frame = self.frame(sequence)
            if frame is not None:
                return frame
            if sequence <= head:
                self.skipped_frames += 1
        for sequence in sorted(self._sequences(), reverse=True)[: _STEPS_BACK + 1]:
            frame = self.frame(sequence)
            if frame is not None:
                return frame
        return None

    def _sequences(self) -> list[int]:
        """The sequences that the slots claim, those in their right place. No seal is checked here."""
        header = self.header
        start = header.slots_offset
        words = self._bytes[start : start + header.capacity * header.slot_bytes].cast("Q")
        claimed = words[:: header.slot_bytes // 8].tolist()
        return [s for slot, s in enumerate(claimed) if s and (s - 1) % header.capacity == slot]

    def newest_sequence(self) -> int:
        """The sequence of latest(), 0 in an empty ring."""
        frame = self.latest()
        return frame.sequence if frame else 0

    def frames(self, since_ns: int | None = None, until_ns: int | None = None, *, after: int = 0) -> Frames:
        """The frames with ``since_ns < timestamp ≤ until_ns`` and sequence > ``after``, each proven on its copy.

        Time ranges go by timestamp, order is by sequence: after a step of the wall clock the timestamps of the
        result need not rise. A slot that is not whole is skipped and counted (I4).
        """
        import numpy as np

        header = self.header
        newest = self.newest_sequence()
        oldest = max(newest - header.capacity + 1 + GUARD_SLOTS, 1, after + 1) if newest else 1
        count = max(newest - oldest + 1, 0)
        slots = np.frombuffer(
            self._bytes, dtype=np.uint64, count=header.capacity * header.slot_bytes // 8, offset=header.slots_offset
        ).reshape(header.capacity, header.slot_bytes // 8)
        index = (np.arange(oldest - 1, oldest - 1 + count, dtype=np.int64)) % header.capacity
        if since_ns is not None or until_ns is not None:
            # A filter on what may be torn: it only spares copies. The proven copy is filtered again below.
            stamps = slots[index, 2].view(np.int64)
            index = index[_within(stamps, since_ns, until_ns)]
        rows = _take_rows(slots, index)
        wanted = index
        # The sequence that each slot must hold: the only one of oldest…newest that lives there.
        expected = oldest + (wanted - (oldest - 1)) % header.capacity
        good = self._prove_rows(rows, expected)
        skipped = len(rows) - int(good.sum())
        self.skipped_frames += skipped
        if since_ns is not None or until_ns is not None:
            good &= _within(rows[:, 2].view(np.int64), since_ns, until_ns)
        if not good.all():
            rows = rows[good]
        return Frames(
            rows[:, 0], rows[:, 2].view(np.int64), rows[:, 3].view(np.int64), rows[:, 5],
            rows[:, SLOT_HEADER_BYTES // 8 :].view(np.float64), skipped,
        )

    def _prove_rows(self, rows: NDArray[np.uint64], expected: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which rows of the private copy are whole frames of their expected sequence (R3)."""
        import numpy as np

        size = self.header.slot_bytes
        data = memoryview(rows.reshape(-1).view(np.uint8).data) if len(rows) else memoryview(b"")
        salt = self._salt
        seals = np.fromiter(
            (frame_seal(data[at + SLOT_PAYLOAD : at + size], sequence, salt)
             for at, sequence in zip(range(0, len(rows) * size, size), expected.tolist(), strict=True)),
            dtype=np.uint64, count=len(rows),
        )
        good: NDArray[np.bool_] = (rows[:, 0] == expected.astype(np.uint64)) & (rows[:, 1] == seals)
        return good


def _within(stamps: NDArray[np.int64], since_ns: int | None, until_ns: int | None) -> NDArray[np.bool_]:
    import numpy as np

    chosen = np.ones(len(stamps), dtype=bool)
    if since_ns is not None:
        chosen &= stamps > since_ns
    if until_ns is not None:
        chosen &= stamps <= until_ns
    return chosen


def _take_rows(slots: NDArray[np.uint64], index: NDArray[np.int64]) -> NDArray[np.uint64]:
    """A private, contiguous copy of those rows: at most two block copies when they are consecutive."""
    import numpy as np

    if len(index) == 0:
        return np.empty((0, slots.shape[1]), dtype=np.uint64)
    first, last = int(index[0]), int(index[-1])
    if last - first == len(index) - 1:
        return slots[first : last + 1].copy()
    if (last - first) % len(slots) == len(index) - 1:  # consecutive around the end of the ring
        return np.concatenate((slots[first:], slots[: last + 1]))
    return slots[index]
