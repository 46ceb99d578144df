"""RingReader: one source's ring, read-only, without waiting, believing nothing that is not proven.

It maps the segment read-only, and has the kernel copy out of the map (:mod:`shm.ring.read_only_map`).

``latest()`` and ``catalog`` need no numpy; ``frames()`` imports it when it is called.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from shm.catalog import Catalog, extend
from shm.files import attach_readonly, ring_path
from shm.metric import Series
from shm.process import WriterInfo
from shm.ring.frame import Frame as Frame
from shm.ring.frame import Frames as Frames
from shm.ring.frame import prove as prove
from shm.ring.layout import (
    HEADER_BYTES,
    SLOT_HEADER,
    SLOT_HEADER_BYTES,
    WORD_CATALOG_USED,
    WORD_HEAD,
    WORD_HEARTBEAT,
    WORD_PID,
    WORD_PID_NAMESPACE,
    WORD_PID_START,
)
from shm.ring.read_only_map import COPY_BYTES, ReadOnlyMap

if TYPE_CHECKING:
    from shm.ring.windows import Chosen, Run, Windows

# Where the header's words are.
_HEAD, _CATALOG_USED, *_WRITER = (
    slice(8 * word, 8 * word + 8)
    for word in (WORD_HEAD, WORD_CATALOG_USED, WORD_PID, WORD_PID_START, WORD_PID_NAMESPACE, WORD_HEARTBEAT)
)

# How far latest() goes back from the head before it looks at every slot: a frame in flight, and one more.
_STEPS_BACK = 3


class RingReader:
    """Opens the published segment of ``source``. Raises RingMissing, RingForeign or RingCorrupt.

    ``owner`` is the user id whose segments are taken, by default our own. A reader sees the segment it opened
    for ever; ``replaced`` tells when another has taken its name.
    """

    def __init__(self, namespace: str, source: str, *, owner: int | None = None, path: Path | None = None) -> None:
        self.source = source
        self.path = path or ring_path(namespace, source)
        fd, mapped, self.header = attach_readonly(source, self.path, os.geteuid() if owner is None else owner)
        self._map = ReadOnlyMap(fd, mapped, self.header.slot_bytes)
        self._inode = os.fstat(fd).st_ino
        self._salt = self.header.salt
        self._capacity = self.header.capacity
        self._slot_bytes = self.header.slot_bytes
        self._slots_offset = self.header.slots_offset
        self._head = 0  # as it was last read
        self._catalog = Catalog()
        self._windows: Windows | None = None
        self.skipped_frames = 0  # slots that were torn or lapped when this reader met them, since it was opened

    def close(self) -> None:
        """Let go of the segment. Arrays that frames() gave are copies and stay valid."""
        self._map.close()

    def __enter__(self) -> RingReader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def replaced(self) -> bool:
        """True once the name no longer leads to this segment, whole: rebuilt, set aside, removed, cut short, holed.

        Open it again then.
        """
        # One stat: while this reader has the segment open, its inode number is given to no other file.
        try:
            status = os.stat(self.path, follow_symlinks=False)
        except OSError:
            return True
        size = self.header.segment_bytes
        return status.st_ino != self._inode or status.st_size != size or status.st_blocks * 512 < size

    @property
    def identity(self) -> tuple[int, int]:
        """Tells this segment from the one that replaces it: (inode, creation time)."""
        return self._inode, self.header.created_ns

    @property
    def head(self) -> int:
        """The newest sequence as the header hints. Equal hints mean: nothing new was announced."""
        self._head = self._word(_HEAD)
        return self._head

    def announced(self) -> tuple[int, int]:
        """What the header announces, by one call: the head, and the bytes of the catalog that are used."""
        words = self._map.copy(_HEAD, _CATALOG_USED)
        self._head = int.from_bytes(words[:8], "little")
        return self._head, int.from_bytes(words[8:], "little")

    @property
    def catalog(self) -> Catalog:
        """The catalog as far as it is proven, brought up to date."""
        announced = min(self._word(_CATALOG_USED), self.header.catalog_bytes)
        used = self._catalog.used
        if announced != used or not announced:
            data = bytearray(self.header.catalog_bytes - used)
            size = self._map.copy_into(memoryview(data), HEADER_BYTES + used)
            extend(self._catalog, bytes(data[:size]), announced, self.header.width, self._salt)
        return self._catalog

    @property
    def series(self) -> list[Series]:
        return self.catalog.series

    @property
    def writer(self) -> WriterInfo:
        words = self._map.copy(*_WRITER)
        return WriterInfo(*memoryview(words.ljust(32, b"\0")).cast("Q"))

    def _word(self, place: slice) -> int:
        """One of the header's mutable words; 0 of a file that was cut."""
        return int.from_bytes(self._map.copy(place), "little")

    def frame(self, sequence: int) -> Frame | None:
        """The frame of that sequence, or None when its slot does not hold it whole."""
        if sequence < 1:
            return None
        return prove(self._map.copy(self._slot(sequence, self._slot_bytes)), sequence, self._salt)

    def _slot(self, sequence: int, size: int) -> slice:
        """Where the first ``size`` bytes of the slot of that sequence are."""
        start = self._slots_offset + (sequence - 1) % self._capacity * self._slot_bytes
        return slice(start, start + size)

    def flags(self, sequence: int) -> int:
        """What the slot of that sequence, if it has it, says of its flags; 0 if it has not. No seal is checked here."""
        found = self._map.copy(self._slot(sequence, SLOT_HEADER_BYTES))
        if len(found) < SLOT_HEADER_BYTES:
            return 0
        claimed, *_, flags = SLOT_HEADER.unpack(found)
        return flags if claimed == sequence else 0

    def latest(self) -> Frame | None:
        """The newest frame that is whole; None in an empty ring."""
        for _ in range(2):
            head = self._head
            copy = self._map.copy(_HEAD, self._slot(head + 1, 8), self._slot(head, self._slot_bytes))
            self._head = int.from_bytes(copy[:8], "little")
            if self._head == head:
                frame = prove(memoryview(copy)[16:], head, self._salt) if head else None
                if frame is None or int.from_bytes(copy[8:16], "little") == head + 1:
                    break
                return frame
        return self._latest_by_search()

    def _latest_by_search(self) -> Frame | None:
        """The newest frame that is whole, wherever the head's hint points.

        Bounded (I4): a few slots around the hint, then, if it was wrong, one look at each slot.
        """
        head = newest = self.head
        lies = False
        if self._claims(head + 1):
            newest = head + 1  # a writer that died between A4 and A5 left the head one behind
            # By more than that a hint does not lag, unless it has moved on meanwhile.
            lies = self._claims(head + 2) and self.head == head
        for sequence in range(newest, newest if lies else max(head - _STEPS_BACK, 0), -1):
            frame = self.frame(sequence)
            if frame is not None:
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
        return int.from_bytes(self._map.copy(self._slot(sequence, 8)), "little") == sequence

    def _sequences(self) -> list[int]:
        """The sequences that the slots claim, those in their right place. No seal is checked here."""
        header = self.header
        size = header.slot_bytes
        claimed: list[int] = []
        step = max(COPY_BYTES // size, 1)
        for first in range(0, header.capacity, step):
            number = min(step, header.capacity - first)
            start = header.slots_offset + first * size
            block = memoryview(self._map.copy(slice(start, start + number * size)))
            claimed += block[: len(block) // 8 * 8].cast("Q")[:: size // 8].tolist()
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
        frames = self._all_windows().frames(self.newest_sequence(), since_ns, until_ns, after)
        self.skipped_frames += frames.skipped
        return frames

    def choose(self, since_ns: int, until_ns: int, run: Run | None = None) -> Chosen:
        """Which frames frames() would read, and their timestamps, for :meth:`read`; in threads, if ``run`` does so."""
        return self._all_windows().choose(self.newest_sequence(), since_ns, until_ns, run=run)

    def read(
        self, chosen: Chosen, since_ns: int | None = None, until_ns: int | None = None, run: Run | None = None
    ) -> Frames:
        """The chosen frames, or some of them, as frames() gives them; in threads, if ``run`` does so."""
        frames = self._all_windows().read(chosen, since_ns, until_ns, run)
        self.skipped_frames += frames.skipped
        return frames

    def _all_windows(self) -> Windows:
        if self._windows is None:
            from shm.ring.windows import Windows  # numpy: only for those who ask for arrays

            self._windows = Windows(self._map, self.header)
        return self._windows
