"""Windows: the frames of a time range as arrays, each proven on its own copy.

Time ranges go by timestamp, and after a step of the wall clock timestamps need not rise with the sequence, so every
frame's must be known. They are kept from the proven copies, so that a window reads the frames that are in it, and of
the others only those that are new.
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

# Slots at the old end that a window leaves out: the writer may be about to lap them while they are copied. Each
# costs one interval of a day; a window that takes longer than this many intervals to copy is skipped slot by slot.
GUARD_SLOTS: Final = 4

_SHARED_BYTES: Final = 4 << 20  # of less, each thread would get so little that to wake them takes longer

Run = Callable[[Callable[[tuple[int, int]], None], Iterable[tuple[int, int]]], None]


@dataclass(frozen=True, slots=True)
class Copies:
    """Private copies of the slots of ``sequences``, which rise, and which of them are whole frames of theirs."""

    sequences: NDArray[np.int64]
    rows: NDArray[np.uint64]
    good: NDArray[np.bool_]

    def of(self, sequences: NDArray[np.int64]) -> Copies | None:
        """Those of some sequences; without another copy where they lie side by side. None where one is missing."""
        at = np.searchsorted(self.sequences, sequences)
        if not len(at) or at[-1] >= len(self.sequences) or (self.sequences[at] != sequences).any():
            return None
        first, end = int(at[0]), int(at[-1]) + 1
        some = slice(first, end) if end - first == len(at) else at
        return Copies(sequences, self.rows[some], self.good[some])


@dataclass(frozen=True, slots=True)
class Chosen:
    """The frames of a time range. ``proven``: each was, when its timestamp was read.

    sequences, timestamp_ns: int64, shape (frames,), in sequence order. ``newest``: the ring's newest at that moment.
    ``copies``: of those whose timestamps were not known before, if they are as good as all that will be read.
    """

    sequences: NDArray[np.int64]
    timestamp_ns: NDArray[np.int64]
    newest: int
    proven: bool
    copies: Copies | None = None

    def between(self, first: int, last: int) -> Chosen:
        """Those with first ≤ sequence ≤ last."""
        some = slice(*np.searchsorted(self.sequences, (first, last + 1)).tolist())
        return dataclasses.replace(self, sequences=self.sequences[some], timestamp_ns=self.timestamp_ns[some])


class Windows:
    """Reads the windows of one segment from its map, which stays the caller's."""

    def __init__(self, mapped: ReadOnlyMap, header: Header) -> None:
        self._map = mapped
        self._header = header
        self._salt = header.salt
        # By slot: the timestamp last read there, and of which proven frame it is; 0: of none.
        self._stamps = np.zeros(header.capacity, dtype=np.int64)
        self._stamped = np.zeros(header.capacity, dtype=np.int64)
        # By slot: the frame that it once did not hold whole though newer ones were there. It never will (I4).
        self._lost = np.zeros(header.capacity, dtype=np.int64)

    def frames(self, newest: int, since_ns: int | None, until_ns: int | None, after: int) -> Frames:
        """See :meth:`shm.ring.reader.RingReader.frames`. ``newest``: the sequence to end with."""
        if since_ns is None and until_ns is None:
            return self.read(Chosen(self._readable(newest, after), np.empty(0, np.int64), newest, False))
        return self.read(self.choose(newest, since_ns, until_ns, after), since_ns, until_ns)

    def choose(
        self, newest: int, since_ns: int | None, until_ns: int | None, after: int = 0, run: Run | None = None
    ) -> Chosen:
        """Which frames those are. Only of frames that are new, or not whole, is anything read.

        ``run``: calls a function with each of some arguments, in threads if it likes.
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
        """Whether a time range may have so many frames in it, by their interval, that most of them will be wanted."""
        if since_ns is None or until_ns is None:
            return True
        return until_ns - since_ns >= frames * self._header.interval_ns // 2

    def _note_stamps(self, copies: Copies) -> None:
        """Of slots that are not whole, what stood there when they were looked at just now."""
        where = (copies.sequences - 1) % self._header.capacity
        self._stamps[where] = copies.rows[:, 2].view(np.int64)
        self._stamped[where] = np.where(copies.good, copies.sequences, 0)

    def _readable(self, newest: int, after: int) -> NDArray[np.int64]:
        """The sequences behind ``after`` that the ring may hold whole."""
        oldest = max(newest - self._header.capacity + 1 + GUARD_SLOTS, 1, after + 1)
        sequences = np.arange(oldest, max(newest + 1, oldest), dtype=np.int64)
        readable: NDArray[np.int64] = sequences[self._lost[(sequences - 1) % self._header.capacity] != sequences]
        return readable

    def read(
        self, chosen: Chosen, since_ns: int | None = None, until_ns: int | None = None, run: Run | None = None
    ) -> Frames:
        """Copies of the chosen frames, each proven; those with since < timestamp ≤ until.

        ``run``: calls a function with each of some arguments, in threads if it likes.
        """
        sequences = chosen.sequences
        had = chosen.copies.of(sequences) if chosen.copies is not None else None
        # Not the array itself: what is not in the range is left out of it below, and another may ask for that.
        rows, good = (had.rows, had.good.copy()) if had is not None else self._copy_and_prove(sequences, run)
        skipped = self._note_lost(sequences, rows, good, chosen.newest)
        if since_ns is not None or until_ns is not None:
            # What the stamps said of a slot that was torn, or lapped since, is not proven: the copy is.
            good &= within(rows[:, 2].view(np.int64), since_ns, until_ns)
        if not good.all():
            rows = _chosen_rows(rows, good)
        return Frames(
            rows[:, 0], rows[:, 2].view(np.int64), rows[:, 3].view(np.int64), rows[:, 5],
            rows[:, SLOT_HEADER_BYTES // 8 :].view(np.float64), skipped,
        )  # fmt: skip

    def _note_lost(
        self, sequences: NDArray[np.int64], rows: NDArray[np.uint64], good: NDArray[np.bool_], newest: int
    ) -> int:
        """Remember what is not whole and never will be; how many slots were torn or lapped.

        Not counted: slots that nothing was ever written to, of a ring that was made larger or published anew.
        """
        if good.all():
            return 0
        bad = ~good
        # The newest may still become visible: no order of stores is assumed.
        lost = sequences[bad & (sequences < newest - GUARD_SLOTS)]
        self._lost[(lost - 1) % self._header.capacity] = lost
        return int((bad & rows[:, :3].any(axis=1)).sum())

    def _copy_and_prove(
        self, sequences: NDArray[np.int64], run: Run | None = None
    ) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
        """Private copies of the slots of those sequences (R2), and which of them are whole frames of theirs (R3)."""
        header, salt, size = self._header, self._salt, self._header.slot_bytes
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
            block[copied:] = bytes(len(block) - copied)  # of a file that was cut: no frame, not what memory held before
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
    """Which timestamps are in the window: since < timestamp ≤ until; None is no bound."""
    chosen = np.ones(len(stamps), dtype=bool)
    if since_ns is not None:
        chosen &= stamps > since_ns
    if until_ns is not None:
        chosen &= stamps <= until_ns
    return chosen


def _blocks(sequences: NDArray[np.int64], capacity: int, most: int) -> Iterator[tuple[int, int]]:
    """Index ranges (first, end) of sequences whose slots lie side by side, at most ``most`` long."""
    slots = (sequences - 1) % capacity
    breaks = [0, *(np.flatnonzero(np.diff(slots) != 1) + 1).tolist(), len(slots)]
    for first, end in itertools.pairwise(breaks):
        for at in range(first, end, most):
            yield at, min(at + most, end)


def _chosen_rows(rows: NDArray[np.uint64], good: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """The good rows; without a second copy when only an end is bad, as where the writer lapped the window's oldest."""
    where = np.flatnonzero(good)
    if len(where) == 0:
        return rows[:0]
    first, end = int(where[0]), int(where[-1]) + 1
    return rows[first:end] if end - first == len(where) else rows[where]
