"""From rings to arrays: the only place of the exporter that touches shared memory.

A RingSet follows the rings of a namespace: opens what is new, lets go of what is gone, takes up the segment that
replaced another. Whatever is wrong with one ring is kept as a sentence beside its name and costs the others nothing.

Not for two threads at once: the server has one set for the scrapes of its event loop, another for the thread that
aggregates. An open ring costs two descriptors and a read-only map.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shm.errors import RingError, RingMissing
from shm.metric import Metric, Series
from shm.process import writer_alive
from shm.ring.discovery import RingList
from shm.ring.frame import absent, all_absent
from shm.ring.layout import FLAG_TICK
from shm.ring.reader import Frame, Frames, RingReader

log = logging.getLogger(__name__)

# The source whose ring has the history of the applications' series: of what others have, too, it never is the owner.
HISTORY_SOURCE: Final = "applications"

# How many frames are looked through for the newest whole one and those that were committed with it. A collector
# commits a few with timestamps of their own a tick; what lies behind more than this is not among the newest anyway.
_MOST_APART = 64
# A sample with a timestamp of its own is news for as long as a source may be silent.
_APART_INTERVALS = 3


@dataclass(slots=True)
class Ring:
    """One open ring and what was last read from it.

    ``latest``: float64, shape (columns,), the newest sample of each column. ``timestamp_ns`` 0: no frame yet.
    ``count``: how many columns the newest frame knew. ``catalog_used``: bytes of the catalog that are proven.
    """

    source: str
    reader: RingReader
    head: int = -1
    sequence: int = 0
    timestamp_ns: int = 0
    monotonic_ns: int = 0
    count: int = 0
    catalog_used: int = 0
    latest: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))

    @property
    def interval_ns(self) -> int:
        return self.reader.header.interval_ns

    @property
    def width(self) -> int:
        return self.reader.header.width

    @property
    def series(self) -> list[Series]:
        return self.reader.catalog.series

    @property
    def metrics(self) -> list[Metric]:
        return self.reader.catalog.metrics

    def find_flaw(self) -> str:
        """Bring the catalog up to date; what of the ring can't be read, as a sentence, empty where all can.

        A catalog whose announcement is damaged as well ends without an error of its own; but it is younger than the
        newest frame, and can't know of less. Read after the frame, it is not behind it.
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
        """Age of the newest frame, by the monotonic clock (which no setting of the wall clock moves).

        By the wall clock where the monotonic one can't tell: the frame is of an earlier boot.
        """
        age_ns = monotonic_ns - self.monotonic_ns
        return (age_ns if age_ns >= 0 else max(wall_ns - self.timestamp_ns, 0)) / 1e9

    def unchanged(self) -> bool:
        """Whether everything that the ring announces has been read already."""
        return self.reader.announced() == (self.head, self.catalog_used)

    def read_latest(self) -> None:
        """Bring ``latest`` up to date; nothing is copied while the ring's head stands still."""
        head = self.reader.head
        if head == self.head:
            return
        frame = self.reader.latest()
        if frame is None:
            self.head = 0 if head == 0 else -1  # empty until the head moves; or damaged, and looked at again
            return
        # A head that was not whole yet is looked at again at the next scrape.
        self.head = head if frame.sequence >= head else -1
        self.sequence, self.timestamp_ns, self.monotonic_ns = frame.sequence, frame.timestamp_ns, frame.monotonic_ns
        self.count = frame.count
        self.latest = self._newest(frame)

    def _newest(self, newest: Frame) -> NDArray[np.float64]:
        """float64, shape (columns,): of each column the sample with the latest timestamp.

        Out of the newest whole collection, and the frames with timestamps of their own that were committed with it
        (they share its monotonic time) or after it. Those that are older than a source may be are not news.
        """
        whole: Frame | None = None
        apart: list[Frame] = []
        for sequence in range(newest.sequence, max(newest.sequence - _MOST_APART, 0), -1):
            if whole is not None and self.reader.flags(sequence) & FLAG_TICK:
                break  # most often, and without all of the frame
            frame = newest if sequence == newest.sequence else self.reader.frame(sequence)
            if frame is None:
                continue
            if frame.flags & FLAG_TICK:
                if whole is not None:
                    break
                whole = frame
            elif whole is None or frame.monotonic_ns == whole.monotonic_ns:
                apart.append(frame)
            else:
                break
        if not apart:
            return _values(newest)
        oldest_ns = (whole or newest).timestamp_ns - _APART_INTERVALS * self.interval_ns
        frames = [frame for frame in apart if frame.timestamp_ns > oldest_ns] + ([whole] if whole else [])
        latest = all_absent(self.reader.header.width)
        for frame in sorted(frames, key=lambda one: (one.timestamp_ns, one.sequence)):
            values = _values(frame)
            present = ~absent(values)
            latest[present] = values[present]
        return latest

    def window(self, since_ns: int | None, until_ns: int | None) -> Frames:
        """The proven frames with since < timestamp ≤ until."""
        return self.reader.frames(since_ns, until_ns)

    def writer_alive(self) -> bool:
        return writer_alive(self.reader.writer, self.interval_ns)


def _values(frame: Frame) -> NDArray[np.float64]:
    values = np.frombuffer(frame.values.cast("B"), dtype=np.float64)
    if frame.count < len(values):
        values = values.copy()
        values[frame.count :] = all_absent(len(values) - frame.count)
    return values


def _sentence(source: str, error: Exception) -> str:
    return str(error) if isinstance(error, RingError) else f"ring {source!r}: {type(error).__name__}: {error}"


class Counts(NamedTuple):
    """What went wrong since the start, by source. Not changed after it was made: any thread may read it."""

    skipped_frames: Counter[str]
    errors: Counter[str]


class RingSet:
    """The rings of one namespace that belong to user ``owner`` (None: our own), sorted by source."""

    def __init__(
        self,
        namespace: str,
        *,
        owner: int | None = None,
        stale_intervals: float = 3.0,
        wall: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.namespace = namespace
        self.stale_intervals = stale_intervals
        self.wall = wall
        self.monotonic = monotonic
        self.rings: dict[str, Ring] = {}
        self.errors: dict[str, str] = {}  # what is wrong with a ring now
        self.error_counts: Counter[str] = Counter()  # how often something was, since the start
        self._skipped: Counter[str] = Counter()  # of readers that were let go
        self.generation = 0  # changes whenever a ring came, went or was replaced
        self._owner = owner
        self._list = RingList(namespace)
        self._listed: list[str] = []
        self._made_from: list[str] = []
        self._order: list[str] = []

    def refresh(self) -> list[Ring]:
        """All rings that can be read now, each with its latest samples. Never raises for what a ring is like."""
        listed = self._list.sources()
        if listed is not self._made_from:
            # The history of the applications is last, so that nothing of it takes the place of what another ring has.
            self._made_from, self._order = listed, sorted(listed, key=lambda source: source == HISTORY_SOURCE)
        sources = self._order
        if sources is not self._listed or self.errors:
            for source in [name for name in self.rings if name not in sources]:
                self._let_go(source)
            for source in [name for name in self.errors if name not in sources]:
                del self.errors[source]
            self._listed = sources
        for source in sources:
            ring = self.rings.get(source)
            if ring is not None and ring.reader.replaced:
                self._let_go(source)
                ring = None
            if ring is None or source in self.errors or not ring.unchanged():
                self._take_up(source)
        return [self.rings[source] for source in sources if source in self.rings]

    def _take_up(self, source: str) -> None:
        """Bring a ring up to date, or note why it can't be read."""
        try:
            self._follow(source)
            self._settle(source, self.rings[source].find_flaw())
        except RingMissing:  # removed since it was listed
            self._let_go(source)
            self._settle(source, "")
        except RingError as error:
            self._let_go(source)
            self._settle(source, str(error))
        except Exception as error:  # a ring's bytes are foreign input: nothing in them may cost the others
            log.exception("ring can't be read", extra={"ring": source})
            self._let_go(source)
            self._settle(source, _sentence(source, error))

    def let_go(self) -> None:
        """Close the rings whose segments are no longer in place; refresh() opens what is there instead."""
        for source in [source for source, ring in self.rings.items() if ring.reader.replaced]:
            self._let_go(source)

    def is_stale(self, ring: Ring) -> bool:
        """True when the newest frame is older than ``stale_intervals`` of the source's own intervals."""
        return self.stale([ring])[0]

    def stale(self, rings: list[Ring]) -> tuple[bool, ...]:
        """is_stale() of each, at one moment."""
        now = self.monotonic(), self.wall()
        return tuple(
            [
                ring.sequence == 0 or ring.age_seconds(*now) > self.stale_intervals * ring.interval_ns / 1e9
                for ring in rings
            ]
        )

    def skipped_frames(self) -> Counter[str]:
        """Slots met torn or lapped since the start, by source."""
        counts = self._skipped.copy()
        for source, ring in self.rings.items():
            counts[source] += ring.reader.skipped_frames
        return counts

    def counts(self) -> Counts:
        """A copy for other threads."""
        return Counts(self.skipped_frames(), self.error_counts.copy())

    def fail(self, source: str, error: Exception) -> None:
        """Note that reading a ring failed later than refresh()."""
        self._settle(source, _sentence(source, error))

    def _follow(self, source: str) -> None:
        ring = self.rings.get(source)
        if ring is None:
            reader = RingReader(self.namespace, source, owner=self._owner)
            ring = self.rings[source] = Ring(source, reader)
            self.generation += 1
        ring.read_latest()

    def _let_go(self, source: str) -> None:
        ring = self.rings.pop(source, None)
        if ring is not None:
            self._skipped[source] += ring.reader.skipped_frames
            ring.reader.close()
            self.generation += 1

    def _settle(self, source: str, error: str) -> None:
        if error:
            self.error_counts[source] += 1
            if self.errors.get(source) != error:
                log.error("ring refused", extra={"ring": source, "error": error})
            self.errors[source] = error
        elif source in self.errors:
            del self.errors[source]
            log.info("ring whole again", extra={"ring": source})

    def key(self) -> tuple[object, ...]:
        """Equal keys mean: the same rings with the same series, so that a page laid out for one fits the other."""
        return self.generation, *((ring.source, ring.catalog_used) for ring in self.rings.values())

    def close(self) -> None:
        for source in list(self.rings):
            self._let_go(source)
