"""RingReader: read one source's ring without waiting; every frame and catalog entry is proven by its seal.

The segment is mapped read-only, and the kernel copies out of the map (:mod:`shm.ring.read_only_map`).

``latest()`` and ``catalog`` need no numpy; ``frames()`` imports it when called.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from shm.catalog import Catalog, extend_in_pieces
from shm.files import attach, change_of, ring_path
from shm.metric import Series
from shm.process import WriterInfo
from shm.ring.frame import Frame as Frame
from shm.ring.frame import Frames as Frames
from shm.ring.frame import prove as prove
from shm.ring.layout import (
    HEADER_BYTES,
    WORD_CATALOG_USED,
    WORD_HEAD,
    WORD_HEARTBEAT,
    WORD_PID,
    WORD_PID_NAMESPACE,
    WORD_PID_START,
    WORD_REPAIRS,
)
from shm.ring.read_only_map import COPY_BYTES, ReadOnlyMap

if TYPE_CHECKING:
    from shm.ring.windows import Chosen, Run, Windows

# The byte ranges of the header's mutable words.
_HEAD, _CATALOG_USED, _REPAIRS, *_WRITER = (
    slice(8 * word, 8 * word + 8)
    for word in (
        WORD_HEAD,
        WORD_CATALOG_USED,
        WORD_REPAIRS,
        WORD_PID,
        WORD_PID_START,
        WORD_PID_NAMESPACE,
        WORD_HEARTBEAT,
    )
)


class RingReader:
    """A reader of the published segment of ``source``. Raises RingMissing, RingForeign or RingCorrupt.

    ``owner``: the user id whose segments are trusted, by default this process's. A reader keeps the segment it opened;
    ``replaced`` is True once the name leads to another one.
    """

    def __init__(self, namespace: str, source: str, *, owner: int | None = None) -> None:
        self.source = source
        self.path = ring_path(namespace, source)
        fd, mapped, self.header = attach(source, self.path, os.geteuid() if owner is None else owner)
        self._map = ReadOnlyMap(fd, mapped, self.header.slot_bytes)
        self._inode = os.fstat(fd).st_ino
        self._head = 0  # as last read
        self._searched = 0  # the head for which frames were last counted as torn
        self._catalog = Catalog()
        self._windows: Windows | None = None
        self.repairs = 0  # the header's, when frames were last chosen: if it changes, frames read before may be lost
        self.skipped_frames = 0  # torn and lapped slots that this reader has skipped

    def close(self) -> None:
        """Unmap and close the segment. Arrays that frames() returned are copies and stay valid."""
        self._map.close()

    def __enter__(self) -> RingReader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def replaced(self) -> bool:
        """True once the segment was rebuilt, set aside, removed, cut short or holed: open the name again then."""
        return change_of(self.path, self._inode, self.header.segment_bytes) != ""

    @property
    def head(self) -> int:
        """The newest sequence according to the header, a hint. If unchanged, no new frame was announced."""
        self._head = self._word(_HEAD)
        return self._head

    def announced(self) -> tuple[int, int]:
        """The hints of the header, by one copy: the head, and the catalog bytes used."""
        words = self._map.copy(_HEAD, _CATALOG_USED)
        self._head = int.from_bytes(words[:8], "little")
        return self._head, int.from_bytes(words[8:], "little")

    @property
    def catalog(self) -> Catalog:
        """The catalog's proven entries, updated by each access."""
        announced = min(self._word(_CATALOG_USED), self.header.catalog_bytes)
        if announced != self._catalog.used or not announced:
            header = self.header
            extend_in_pieces(
                self._catalog, self._catalog_at, header.catalog_bytes, announced, header.width, header.salt
            )
        return self._catalog

    def _catalog_at(self, start: int, size: int) -> bytes:
        data = bytearray(size)
        return bytes(data[: self._map.copy_into(memoryview(data), HEADER_BYTES + start)])

    @property
    def series(self) -> list[Series]:
        return self.catalog.series

    @property
    def writer(self) -> WriterInfo:
        words = self._map.copy(*_WRITER)
        return WriterInfo(*memoryview(words.ljust(32, b"\0")).cast("Q"))

    def _word(self, where: slice) -> int:
        """One of the header's mutable words; 0 if the file was cut."""
        return int.from_bytes(self._map.copy(where), "little")

    def frame(self, sequence: int) -> Frame | None:
        """The frame of that sequence, or None if its slot does not hold it whole."""
        if sequence < 1:
            return None
        return prove(self._map.copy(self._slot(sequence, self.header.slot_bytes)), sequence, self.header.salt)

    def _slot(self, sequence: int, size: int) -> slice:
        """The byte range of the first ``size`` bytes of that sequence's slot."""
        header = self.header
        start = header.slots_offset + (sequence - 1) % header.capacity * header.slot_bytes
        return slice(start, start + size)

    def latest(self) -> Frame | None:
        """The newest whole frame; None in an empty ring."""
        for _ in range(2):
            head = self._head
            copy = self._map.copy(_HEAD, self._slot(head + 1, 8), self._slot(head, self.header.slot_bytes))
            self._head = int.from_bytes(copy[:8], "little")
            if self._head == head:
                frame = prove(memoryview(copy)[16:], head, self.header.salt) if head else None
                if frame is None or int.from_bytes(copy[8:16], "little") == head + 1:
                    break
                return frame
        return self._latest_by_search()

    def _latest_by_search(self) -> Frame | None:
        """The newest whole frame, even if the head's hint is wrong: each slot's sequence is read once (I4)."""
        head = self.head
        for sequence in sorted(self._sequences(), reverse=True):
            frame = self.frame(sequence)
            if frame is not None:
                torn = head - max(sequence, self._searched)
                self.skipped_frames += torn if 0 < torn < self.header.capacity else 0  # if more, the hint is damaged
                self._searched = head
                return frame
        return None

    def _sequences(self) -> list[int]:
        """The sequences in the slots where they belong, without a check of their seals."""
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

        Frames are selected by timestamp and ordered by sequence: after a step of the wall clock, the timestamps of the
        result need not rise. Torn and lapped slots are skipped and counted (I4).
        """
        frames = self._all_windows().frames(self.newest_sequence(), since_ns, until_ns, after)
        self.skipped_frames += frames.skipped
        return frames

    def choose(self, since_ns: int, until_ns: int, run: Run | None = None) -> Chosen:
        """Choose the frames of a time range, for :meth:`read`; in threads, if ``run`` uses threads."""
        return self._all_windows().choose(self.newest_sequence(), since_ns, until_ns, run=run)

    def read(
        self, chosen: Chosen, since_ns: int | None = None, until_ns: int | None = None, run: Run | None = None
    ) -> Frames:
        """Read the chosen frames, or some of them, as frames() does; in threads, if ``run`` uses threads."""
        frames = self._all_windows().read(chosen, since_ns, until_ns, run)
        self.skipped_frames += frames.skipped
        return frames

    def _all_windows(self) -> Windows:
        repairs = self._word(_REPAIRS)
        if self._windows is None or repairs != self.repairs:
            from shm.ring.windows import Windows  # imports numpy: only for callers that want arrays

            self._windows, self.repairs = Windows(self._map, self.header), repairs
        return self._windows
