"""Read the rings of a namespace from shared memory into arrays.

A RingSet opens new rings, closes removed ones and reopens a ring whose segment was replaced. An error in one ring is
kept as a sentence under the ring's name; the other rings stay readable.

Not thread-safe: the server has one set for the scrapes of its event loop and another for the worker thread, which
aggregates. An open ring costs two descriptors and a read-only map.
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shm.errors import RingError, RingMissing
from shm.files import RING, rings_in
from shm.metric import Series
from shm.process import writer_alive
from shm.ring.discovery import TrustedFiles
from shm.ring.frame import absent, all_absent
from shm.ring.layout import FLAG_TICK
from shm.ring.reader import Frame, RingReader
from shm.safe_repr import said

log = logging.getLogger(__name__)

# The source whose ring has the history of the applications' series. A series that another ring has too is that ring's.
HISTORY_SOURCE: Final = "applications"

# How many frames are searched for the newest tick frame and the frames that were committed with it. A collector commits
# only a few frames with their own timestamps per tick, so an older one would not hold the newest sample anyway.
_SEARCHED_FRAMES = 64
# A sample with its own timestamp stays current for as long as a source may be silent.
_CURRENT_INTERVALS = 3
_MS_NS = 1_000_000


@dataclass(slots=True)
class Ring:
    """One open ring and the newest samples read from it.

    ``latest``: float64, shape (columns,), the newest sample of each column; ``times_ms``: when each was taken, in Unix
    milliseconds. ``timestamp_ns`` 0: no frame yet.
    ``count``: how many columns the newest frame has. ``catalog_used``: how many bytes of the catalog are proven.
    ``off``: the source is off, so its collector's own metrics, such as collector_up, are not among its ``series``.
    """

    source: str
    reader: RingReader
    off: bool = False
    head: int = -1
    sequence: int = 0
    timestamp_ns: int = 0
    monotonic_ns: int = 0
    count: int = 0
    catalog_used: int = 0
    latest: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    times_ms: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    @property
    def width(self) -> int:
        return self.reader.header.width

    @property
    def series(self) -> list[Series]:
        found = self.reader.catalog.series
        return [one for one in found if not one.metric.own] if self.off else found

    def find_flaw(self) -> str:
        """Update the catalog; return a sentence about the part of the ring that can't be read, or "".

        A catalog whose announced size is damaged too ends early without an error. Comparing it with the newest frame
        finds that: a catalog read after a frame names all of the frame's columns.
        """
        catalog = self.reader.catalog
        self.catalog_used = catalog.used
        if catalog.error:
            return f"ring {self.source!r}: {catalog.error}"
        if self.count > catalog.columns:
            return (
                f"ring {self.source!r}: the count of frame {self.sequence} is {self.count}, but its catalog names "
                f"{catalog.columns} columns"
            )
        return ""

    def age_seconds(self, monotonic_ns: int, wall_ns: int) -> float:
        """Age of the newest frame by the monotonic clock, or by the wall clock if the frame is from an earlier boot."""
        age_ns = monotonic_ns - self.monotonic_ns
        return (age_ns if age_ns >= 0 else max(wall_ns - self.timestamp_ns, 0)) / 1e9

    def unchanged(self) -> bool:
        """True if the ring announces no frame and no catalog bytes beyond those already read."""
        return self.reader.announced() == (self.head, self.catalog_used)

    def read_latest(self) -> None:
        """Update ``latest``; copies nothing while the ring's head is unchanged."""
        head = self.reader.head
        if head == self.head:
            return
        frame = self.reader.latest()
        if frame is None:
            self.head = 0 if head == 0 else -1  # empty until the head moves; or damaged, and read again
            return
        # If the frame at the head was incomplete, the next scrape reads it again.
        self.head = head if frame.sequence >= head else -1
        self.sequence, self.timestamp_ns, self.monotonic_ns = frame.sequence, frame.timestamp_ns, frame.monotonic_ns
        self.count = frame.count
        self.latest, self.times_ms = self._newest(frame)

    def _newest(self, newest: Frame) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """The sample of each column with the latest timestamp: ``latest`` and ``times_ms``.

        Taken from the newest tick frame, and from the frames with their own timestamps that were committed with it
        (same monotonic time) or after it, except those older than _CURRENT_INTERVALS.
        """
        tick: Frame | None = None
        stamped: list[Frame] = []
        for sequence in range(newest.sequence, max(newest.sequence - _SEARCHED_FRAMES, 0), -1):
            frame = newest if sequence == newest.sequence else self.reader.frame(sequence)
            if frame is None:
                continue
            if frame.flags & FLAG_TICK:
                if tick is not None:
                    break
                tick = frame
            elif tick is None or frame.monotonic_ns == tick.monotonic_ns:
                stamped.append(frame)
            else:
                break
        if not stamped:
            values = _values(newest)
            return values, np.full(len(values), newest.timestamp_ns // _MS_NS)
        oldest_ns = (tick or newest).timestamp_ns - _CURRENT_INTERVALS * self.reader.header.interval_ns
        frames = [frame for frame in stamped if frame.timestamp_ns > oldest_ns] + ([tick] if tick else [])
        latest = all_absent(self.reader.header.width)
        times = np.zeros(len(latest), dtype=np.int64)
        for frame in sorted(frames, key=lambda one: (one.timestamp_ns, one.sequence)):
            values = _values(frame)
            present = ~absent(values)
            latest[present] = values[present]
            times[present] = frame.timestamp_ns // _MS_NS
        return latest, times

    def writer_alive(self) -> bool:
        return writer_alive(self.reader.writer, self.reader.header.interval_ns)


def _values(frame: Frame) -> NDArray[np.float64]:
    values = np.frombuffer(frame.values.cast("B"), dtype=np.float64)
    if frame.count < len(values):
        values = values.copy()
        values[frame.count :] = all_absent(len(values) - frame.count)
    return values


class Counts(NamedTuple):
    """Slots found torn or lapped, and read errors, by source, since its ring was first seen."""

    skipped_frames: Counter[str]
    errors: Counter[str]


class RingSet:
    """The rings of one namespace that belong to user ``owner`` (None: the current user), sorted by source.

    ``off``: sources that are off; ``latest_only``: their rings, which are history, are left out.
    """

    def __init__(
        self,
        namespace: str,
        *,
        owner: int | None = None,
        off: Collection[str] = (),
        latest_only: bool = False,
        stale_intervals: float = 3.0,
        wall: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.namespace = namespace
        self.stale_intervals = stale_intervals
        self.wall = wall
        self.monotonic = monotonic
        self.rings: dict[str, Ring] = {}
        self.errors: dict[str, str] = {}  # present errors, by source
        self.error_counts: Counter[str] = Counter()  # errors by source, while its ring exists
        self._skipped: Counter[str] = Counter()  # frames that closed readers skipped
        self.generation = 0  # changes whenever a ring is added, removed or replaced
        self._off = frozenset(off)
        self._latest_only = latest_only
        self._owner = os.geteuid() if owner is None else owner
        self.files = TrustedFiles(namespace, RING, {self._owner})

    def refresh(self) -> list[Ring]:
        """All rings that can be read now, each with its latest samples. A bad ring never raises; see ``errors``."""
        left_out = self._off if self._latest_only else ()
        # The history of the applications comes last: of two rings with one series, the first has precedence.
        found = (one for one in rings_in(self.files.names(), self.namespace) if one not in left_out)
        sources = sorted(found, key=HISTORY_SOURCE.__eq__)
        for source in {*self.rings, *self.errors, *self.error_counts, *self._skipped}.difference(sources):
            self._close_ring(source)
            self.errors.pop(source, None)
            del self.error_counts[source], self._skipped[source]
        for source in sources:
            ring = self.rings.get(source)
            if ring is not None and ring.reader.replaced:
                self._close_ring(source)
                ring = None
            if ring is None or source in self.errors or not ring.unchanged():
                self._update(source)
        return [self.rings[source] for source in sources if source in self.rings]

    def take_over(self, off: Collection[str], stale_intervals: float) -> None:
        """Apply another configuration, from the next refresh on."""
        changed = self._off.symmetric_difference(off)
        self._off, self.stale_intervals = frozenset(off), stale_intervals
        for source in changed:
            self._close_ring(source)

    def _update(self, source: str) -> None:
        """Open or update a ring, or record why it can't be read."""
        try:
            if source not in self.rings:
                reader = RingReader(self.namespace, source, owner=self._owner)
                self.rings[source] = Ring(source, reader, source in self._off)
                self.generation += 1
            self.rings[source].read_latest()
            self._set_error(source, self.rings[source].find_flaw())
        except RingMissing:  # removed after the listing
            self._close_ring(source)
            self._set_error(source, "")
        except Exception as error:  # a ring's bytes are untrusted input and must not affect other rings
            if not isinstance(error, RingError):
                log.exception("ring can't be read", extra={"ring": source})
            self._close_ring(source)
            self.fail(source, error)

    def close_replaced(self) -> None:
        """Close the rings whose segments were replaced or removed; refresh() opens the replacements."""
        for source in [source for source, ring in self.rings.items() if ring.reader.replaced]:
            self._close_ring(source)

    def is_stale(self, ring: Ring) -> bool:
        """True when the newest frame is older than ``stale_intervals`` of the source's own intervals."""
        return self._is_stale(ring, self.monotonic(), self.wall())

    def _is_stale(self, ring: Ring, *now: int) -> bool:
        allowance = self.stale_intervals * ring.reader.header.interval_ns / 1e9
        return ring.sequence == 0 or ring.age_seconds(*now) > allowance

    def stale(self, shown: Sequence[object]) -> tuple[bool, ...]:
        """is_stale() of each ring, at one moment. Anything else on a page has no frames, and is never stale."""
        now = self.monotonic(), self.wall()
        return tuple(isinstance(one, Ring) and self._is_stale(one, *now) for one in shown)

    def counts(self) -> Counts:
        """Copy the counts."""
        skipped = self._skipped.copy()
        for source, ring in self.rings.items():
            skipped[source] += ring.reader.skipped_frames
        return Counts(skipped, self.error_counts.copy())

    def fail(self, source: str, error: Exception) -> None:
        """Record that reading a ring failed."""
        self._set_error(source, said(error) if isinstance(error, RingError) else f"ring {source!r}: {said(error)}")

    def _close_ring(self, source: str) -> None:
        ring = self.rings.pop(source, None)
        if ring is not None:
            self._skipped[source] += ring.reader.skipped_frames
            ring.reader.close()
            self.generation += 1

    def _set_error(self, source: str, error: str) -> None:
        if error:
            self.error_counts[source] += 1
            if self.errors.get(source) != error:
                log.error("ring refused", extra={"ring": source, "error": error})
            self.errors[source] = error
        elif source in self.errors:
            del self.errors[source]
            log.info("ring readable again", extra={"ring": source})

    def key(self) -> tuple[object, ...]:
        """A cache key: equal keys mean the same rings with the same series, so the same page layout fits."""
        return self.generation, *((ring.source, ring.catalog_used) for ring in self.rings.values())

    def close(self) -> None:
        for source in list(self.rings):
            self._close_ring(source)
        self.files.close()
