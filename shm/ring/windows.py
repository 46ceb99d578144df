"""Read windows: the frames of a time range as arrays, each proven on a private copy.

Time ranges select by timestamp. After a step of the wall clock, timestamps need not rise with the sequence, so the
timestamp of every frame must be known. The timestamps of proven frames are cached: a window reads the frames in its
range, and of the others only those that are new.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shm.ring.frame import Frames
from shm.ring.layout import SLOT_HEADER_BYTES, SLOT_PAYLOAD, Header
from shm.ring.protocol import frame_seal
from shm.ring.read_only_map import COPY_BYTES, ReadOnlyMap

# The oldest slots, which a window leaves out: the writer may lap them while they are copied. Each costs a window one
# interval. If copying takes longer than this many intervals, lapped slots are skipped one by one.
GUARD_SLOTS: Final = 4

_SHARED_BYTES: Final = 4 << 20  # below this, waking threads takes longer than their share of the copy

Run = Callable[[Callable[[tuple[int, int]], None], Iterable[tuple[int, int]]], None]


@dataclass(frozen=True, slots=True)
class Copies:
    """Private copies of the slots of ``sequences``, in rising order; ``good``: which copies are whole frames."""

    sequences: NDArray[np.int64]
    rows: NDArray[np.uint64]
    good: NDArray[np.bool_]

    def of(self, sequences: NDArray[np.int64]) -> Copies | None:
        """The copies of some sequences, None if one is missing. Views, not new copies, if the rows are adjacent."""
        at = np.searchsorted(self.sequences, sequences)
        if not len(at) or at[-1] >= len(self.sequences) or (self.sequences[at] != sequences).any():
            return None
        first, end = int(at[0]), int(at[-1]) + 1
        some = slice(first, end) if end - first == len(at) else at
        return Copies(sequences, self.rows[some], self.good[some])


@dataclass(frozen=True, slots=True)
class Chosen:
    """The frames of a time range, chosen by timestamp. ``proven``: each frame was proven when its timestamp was read.

    sequences, timestamp_ns: int64, shape (frames,), in sequence order. ``newest``: the ring's newest sequence then.
    ``copies``: of the frames whose timestamps were not cached, if most of them will be read anyway.
    """

    sequences: NDArray[np.int64]
    timestamp_ns: NDArray[np.int64]
    newest: int
    proven: bool
    copies: Copies | None = None

    def between(self, first: int, last: int) -> Chosen:
        """The chosen frames with first ≤ sequence ≤ last."""
        some = slice(*np.searchsorted(self.sequences, (first, last + 1)).tolist())
        return dataclasses.replace(self, sequences=self.sequences[some], timestamp_ns=self.timestamp_ns[some])


class Windows:
    """Reads windows of one segment from its map, which the caller owns."""

    def __init__(self, mapped: ReadOnlyMap, header: Header) -> None:
        self._map = mapped
        self._header = header
        # By slot: the timestamp last read there, and the sequence of its proven frame, 0 if none.
        self._stamps = np.zeros(header.capacity, dtype=np.int64)
        self._stamped = np.zeros(header.capacity, dtype=np.int64)
        # By slot: a sequence that was found torn or lapped after newer frames had been appended: never read again (I4).
        self._lost = np.zeros(header.capacity, dtype=np.int64)

    def frames(self, newest: int, since_ns: int | None, until_ns: int | None, after: int) -> Frames:
        """The frames of a time range, as :meth:`shm.ring.reader.RingReader.frames`. ``newest``: the last sequence."""
        return self.read(self.choose(newest, since_ns, until_ns, after), since_ns, until_ns)

    def choose(
        self, newest: int, since_ns: int | None, until_ns: int | None, after: int = 0, run: Run | None = None
    ) -> Chosen:
        """Choose the frames of a time range by timestamp; only slots without a cached timestamp are read.

        ``run``: calls a function with each of the given arguments, possibly in threads.
        """
        sequences = self._readable(newest, after)
        slots = (sequences - 1) % self._header.capacity
        unknown = sequences[self._stamped[slots] != sequences]
        copies = None
        if self._wants_most(len(unknown), since_ns, until_ns):
            copies = Copies(unknown, *self._copy_and_prove(unknown, run))
            self._note_stamps(copies)
        else:
            step = max(COPY_BYTES // self._header.slot_bytes, 1)
            for first in range(0, len(unknown), step):
                some = unknown[first : first + step]
                self._note_stamps(Copies(some, *self._copy_and_prove(some)))
        stamps = self._stamps[slots]
        chosen = within(stamps, since_ns, until_ns)
        sequences = sequences[chosen]
        proven = bool((self._stamped[slots[chosen]] == sequences).all())
        return Chosen(sequences, stamps[chosen], newest, proven, copies)

    def _wants_most(self, frames: int, since_ns: int | None, until_ns: int | None) -> bool:
        """Whether a time range is so long, by the interval, that most of so many frames will be in it."""
        if since_ns is None or until_ns is None:
            return True
        return until_ns - since_ns >= frames * self._header.interval_ns // 2

    def _note_stamps(self, copies: Copies) -> None:
        """Cache the timestamps of these slots: proven for good frames, else whatever the slot contained."""
        where = (copies.sequences - 1) % self._header.capacity
        self._stamps[where] = copies.rows[:, 2].view(np.int64)
        self._stamped[where] = np.where(copies.good, copies.sequences, 0)

    def _readable(self, newest: int, after: int) -> NDArray[np.int64]:
        """The sequences above ``after`` whose frames the ring may hold whole."""
        oldest = max(newest - self._header.capacity + 1 + GUARD_SLOTS, 1, after + 1)
        sequences = np.arange(oldest, max(newest + 1, oldest), dtype=np.int64)
        readable: NDArray[np.int64] = sequences[self._lost[(sequences - 1) % self._header.capacity] != sequences]
        return readable

    def read(
        self, chosen: Chosen, since_ns: int | None = None, until_ns: int | None = None, run: Run | None = None
    ) -> Frames:
        """Read the chosen frames that have since < timestamp ≤ until, each proven on its copy.

        ``run``: calls a function with each of the given arguments, possibly in threads.
        """
        sequences = chosen.sequences
        copies = chosen.copies.of(sequences) if chosen.copies is not None else None
        # A copy of ``good``: it is narrowed to the range below, and another read may have another range.
        rows, good = (copies.rows, copies.good.copy()) if copies is not None else self._copy_and_prove(sequences, run)
        skipped = self._note_lost(sequences, rows, good, chosen.newest)
        if since_ns is not None or until_ns is not None:
            # The cached timestamp of a slot that was torn then, or lapped since, is not proven. The copy's is.
            good &= within(rows[:, 2].view(np.int64), since_ns, until_ns)
        if not good.all():
            rows = rows[good]
        return Frames(
            rows[:, 0], rows[:, 2].view(np.int64), rows[:, 3].view(np.int64), rows[:, 5],
            rows[:, SLOT_HEADER_BYTES // 8 :].view(np.float64), skipped,
        )  # fmt: skip

    def _note_lost(
        self, sequences: NDArray[np.int64], rows: NDArray[np.uint64], good: NDArray[np.bool_], newest: int
    ) -> int:
        """Remember the torn and lapped sequences, which are never read again; how many there are.

        Slots that were never written, as in a ring that was enlarged or published again, are not counted.
        """
        if good.all():
            return 0
        bad = ~good
        # The newest frames may still become visible: no store order is assumed.
        lost = sequences[bad & (sequences < newest - GUARD_SLOTS)]
        self._lost[(lost - 1) % self._header.capacity] = lost
        return int((bad & rows[:, :3].any(axis=1)).sum())

    def _copy_and_prove(
        self, sequences: NDArray[np.int64], run: Run | None = None
    ) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
        """Private copies of the slots of those sequences (R2), and which copies are their whole frames (R3)."""
        header, salt, size = self._header, self._header.salt, self._header.slot_bytes
        rows = np.empty((len(sequences), size // 8), dtype=np.uint64)
        if not len(sequences):
            return rows, np.empty(0, dtype=np.bool_)
        seals = np.empty(len(sequences), dtype=np.uint64)
        data = memoryview(rows.view(np.uint8).reshape(-1).data)
        numbers = sequences.tolist()

        def copy(part: tuple[int, int]) -> None:
            first, end = part
            block = data[first * size : end * size]
            copied = self._map.copy_into(block, header.slot_offset(numbers[first]))
            block[copied:] = bytes(len(block) - copied)  # the file was cut: zeros, instead of uninitialized memory
            seals[first:end] = [
                frame_seal(data[i * size + SLOT_PAYLOAD : (i + 1) * size], numbers[i], salt) for i in range(first, end)
            ]

        parts = _blocks(sequences, header.capacity, max(COPY_BYTES // size, 1))
        if run is None or len(sequences) * size < _SHARED_BYTES:
            for part in parts:
                copy(part)
        else:
            run(copy, parts)
        good: NDArray[np.bool_] = rows[:, 0] == sequences.astype(np.uint64)
        good &= rows[:, 1] == seals
        return rows, good


def within(stamps: NDArray[np.int64], since_ns: int | None, until_ns: int | None) -> NDArray[np.bool_]:
    """Which timestamps are in the window: since < timestamp ≤ until; None: without that bound."""
    chosen = np.ones(len(stamps), dtype=bool)
    if since_ns is not None:
        chosen &= stamps > since_ns
    if until_ns is not None:
        chosen &= stamps <= until_ns
    return chosen


def _blocks(sequences: NDArray[np.int64], capacity: int, most: int) -> Iterator[tuple[int, int]]:
    """Index ranges (first, end) of sequences in adjacent slots, at most ``most`` long."""
    slots = (sequences - 1) % capacity
    breaks = [0, *(np.flatnonzero(np.diff(slots) != 1) + 1).tolist(), len(slots)]
    for first, end in itertools.pairwise(breaks):
        for at in range(first, end, most):
            yield at, min(at + most, end)
