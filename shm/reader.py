"""RingReader: one source's ring, read-only, without waiting, believing nothing that is not proven.

``latest()`` and ``catalog`` need no numpy; ``frames()`` imports it when it is called.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shm import entries
from shm.catalog import Series
from shm.frame import Frame as Frame
from shm.frame import Frames as Frames
from shm.frame import prove as prove
from shm.layout import (
    HEADER_BYTES,
    SLOT_HEADER_BYTES,
    SLOT_PAYLOAD,
    WORD_CATALOG_USED,
    WORD_HEAD,
    WORD_HEARTBEAT,
    WORD_PID,
    WORD_PID_NAMESPACE,
    WORD_PID_START,
)
from shm.protocol import frame_seal
from shm.segment import attach_readonly, ring_path

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Slots at the old end that a window leaves out: the writer may be about to lap them while they are copied. Each
# costs one interval of a day; a window that takes longer than this many intervals to copy is skipped slot by slot.
GUARD_SLOTS = 4

_BLOCK_BYTES = 1 << 20  # copied, then sealed while in a cache; 46 MiB: 11.5 ms, in blocks of 8 KiB 25

# How far latest() goes back from the head before it looks at every slot: a frame in flight, and one more.
_STEPS_BACK = 3


@dataclass(frozen=True, slots=True)
class WriterInfo:
    """Who writes, as the header says. ``pid`` is 0 after an orderly stop; ``heartbeat_ns`` is CLOCK_BOOTTIME."""

    pid: int
    start_ticks: int
    pid_namespace: int
    heartbeat_ns: int


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
        self._words = self._bytes[:HEADER_BYTES].cast("Q")
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
        """True once the name no longer leads to this segment, whole: rebuilt, set aside, removed, cut short.

        Open it again then. To touch what a truncated map has lost would end this process by SIGBUS.
        """
        mine = os.fstat(self._fd)
        if mine.st_nlink == 0 or mine.st_size != self.header.segment_bytes:
            return True
        try:
            return os.stat(self.path, follow_symlinks=False).st_ino != mine.st_ino
        except OSError:
            return True

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

        Bounded (I4): a few slots around the head's hint, then, if the hint was wrong, one look at each slot.
        """
        head = self.head
        # A writer that died between A4 and A5 left the head one behind.
        start = head + 1 if self._claims(head + 1) else head
        for sequence in range(start, max(head - _STEPS_BACK, 0), -1):
            frame = self.frame(sequence)
            if frame is not None:
                if self._claims(sequence + 1) and self.head == head:
                    break  # the hint lags by more than a death explains, and nobody is moving it: it lies
                return frame
            if sequence <= head:
                self.skipped_frames += 1
        for sequence in sorted(self._sequences(), reverse=True):
            frame = self.frame(sequence)
            if frame is not None:
                return frame
        return None

    def _claims(self, sequence: int) -> bool:
        """Whether the slot of that sequence says that it holds it. No seal is checked here."""
        offset = self.header.slot_offset(sequence)
        return int.from_bytes(self._bytes[offset : offset + 8], "little") == sequence

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
        oldest = max(newest - header.capacity + 1 + GUARD_SLOTS, 1, after + 1)
        sequences = np.arange(oldest, max(newest + 1, oldest), dtype=np.int64)
        if since_ns is not None or until_ns is not None:
            # A filter on what may be torn: it only spares copies. The proven copy is filtered again below.
            words = header.slot_bytes // 8
            stamps = np.frombuffer(self._bytes, np.int64, header.capacity * words, header.slots_offset)[2::words]
            sequences = sequences[_within(stamps[(sequences - 1) % header.capacity], since_ns, until_ns)]
        rows, good = self._copy_and_prove(sequences)
        skipped = len(rows) - int(good.sum())
        self.skipped_frames += skipped
        if since_ns is not None or until_ns is not None:
            good &= _within(rows[:, 2].view(np.int64), since_ns, until_ns)
        if not good.all():
            rows = _chosen_rows(rows, good)
        return Frames(
            rows[:, 0], rows[:, 2].view(np.int64), rows[:, 3].view(np.int64), rows[:, 5],
            rows[:, SLOT_HEADER_BYTES // 8 :].view(np.float64), skipped,
        )  # fmt: skip

    def _copy_and_prove(self, sequences: NDArray[np.int64]) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
        """Private copies of the slots of those sequences (R2), and which of them are whole frames of theirs (R3).

        By preadv, not through the map: 46 MiB take 11 ms, seals included, where a map that is warm takes 9; but no
        page fault, no resident memory that grows by every ring read, and no SIGBUS if somebody truncates the file.
        """
        import numpy as np

        header, salt, size = self.header, self._salt, self.header.slot_bytes
        rows = np.empty((len(sequences), size // 8), dtype=np.uint64)
        if not len(sequences):
            return rows, np.empty(0, dtype=np.bool_)
        seals: list[int] = []
        data = memoryview(rows.view(np.uint8).reshape(-1).data)
        numbers = sequences.tolist()
        for first, end in _blocks(sequences, header.capacity, max(_BLOCK_BYTES // size, 1)):
            block = data[first * size : end * size]
            # May fall short where somebody truncated the file; what stands in the rest proves nothing, as anywhere.
            os.preadv(self._fd, [block], header.slot_offset(numbers[first]))
            seals += [
                frame_seal(data[i * size + SLOT_PAYLOAD : (i + 1) * size], numbers[i], salt) for i in range(first, end)
            ]
        good: NDArray[np.bool_] = rows[:, 0] == sequences.astype(np.uint64)
        good &= rows[:, 1] == np.array(seals, dtype=np.uint64)
        return rows, good


def _blocks(sequences: NDArray[np.int64], capacity: int, most: int) -> Iterator[tuple[int, int]]:
    """Index ranges (first, end) of sequences whose slots lie side by side, at most ``most`` long."""
    import numpy as np

    slots = (sequences - 1) % capacity
    breaks = [0, *(np.flatnonzero(np.diff(slots) != 1) + 1).tolist(), len(slots)]
    for first, end in itertools.pairwise(breaks):
        for at in range(first, end, most):
            yield at, min(at + most, end)


def _within(stamps: NDArray[np.int64], since_ns: int | None, until_ns: int | None) -> NDArray[np.bool_]:
    import numpy as np

    chosen = np.ones(len(stamps), dtype=bool)
    if since_ns is not None:
        chosen &= stamps > since_ns
    if until_ns is not None:
        chosen &= stamps <= until_ns
    return chosen


def _chosen_rows(rows: NDArray[np.uint64], good: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """The good rows; without a second copy when only an end is bad, as where the writer lapped the window's oldest."""
    import numpy as np

    where = np.flatnonzero(good)
    if len(where) == 0:
        return rows[:0]
    first, end = int(where[0]), int(where[-1]) + 1
    return rows[first:end] if end - first == len(where) else rows[where]
