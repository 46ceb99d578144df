"""RingWriter: append frames to a source's ring, as its only writer (I5).

``append`` is the hot path: one pass over a row, no loop, no lock, no allocation that grows with the history (I2).
Everything else (resuming, new series, growth) happens between frames, and a rebuild only reads the ring in use.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
import weakref
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from pathlib import Path
from types import MappingProxyType
from typing import Final

from shm import catalog
from shm.errors import (
    ConfigurationError,
    MetricError,
    RingForeign,
    RingLost,
    WriterClosed,
)
from shm.files import building_path, check_name, in_the_way, lock_path, ring_path
from shm.metric import Metric, Series, SeriesKey, series_key
from shm.ring import disk_copy
from shm.ring.frame import Frame
from shm.ring.layout import (
    FLAG_TICK,
    KIND_LIMIT,
    KIND_METRIC,
    KIND_SERIES,
    MAX_CAPACITY,
    MIN_CAPACITY,
    WORD_HEARTBEAT,
    WORD_PID,
    Header,
    aligned,
    check_byte_order,
)
from shm.ring.lifecycle import grown_width, open_ring, publish, shape, still_present, successor
from shm.ring.lock import WriterLock
from shm.ring.segment import StoredSegment, WritableSegment

log = logging.getLogger(__name__)

DEFAULT_CAPACITY: Final = 5760  # 24 h at 15 s

_writers: weakref.WeakSet[RingWriter] = weakref.WeakSet()


class RingWriter:
    """The writer of the ring of ``source``, which it resumes, rebuilds to a new shape, or creates.

    ``capacity`` in slots and ``interval_ns`` are the configuration's; a published segment of another shape is
    rebuilt with its history. Raises WriterBusy (I5), NoSpace (I7), RingForeign, ConfigurationError. A corrupt segment
    is renamed to ``.corrupt``, one of another layout to ``.layout-N``; the writer logs that and creates a new one: from
    its snapshot in ``snapshot_dir`` if there is one, else empty.

    ``columns``: the series by (metric name, label values). ``resumed``: how many whole frames were found.
    ``continues``: False if frames that readers may have seen are missing.
    """

    def __init__(
        self, namespace: str, source: str, *, interval_ns: int, capacity: int = DEFAULT_CAPACITY, width: int = 8,
        group: str = "", snapshot_dir: Path | None = None,
    ) -> None:  # fmt: skip
        self.namespace = check_name("namespace", namespace)
        self.source = check_name("the name of a source", source)
        if not MIN_CAPACITY <= capacity <= MAX_CAPACITY:
            raise ConfigurationError(f"capacity is {capacity}; use {MIN_CAPACITY} to {MAX_CAPACITY} frames")
        self.path = ring_path(namespace, source)
        self.group = group
        self.snapshot_dir = snapshot_dir
        # The series that have a sample in the frame being prepared: no rebuild frees their columns.
        self.staged: Callable[[], Set[SeriesKey]] = frozenset
        self._refusal = ""
        self._republishing = False
        check_byte_order(source)
        self._lock = WriterLock.acquire(lock_path(namespace, source), source)
        try:
            litter = building_path(namespace, source)
            try:
                litter.unlink(missing_ok=True)  # left by a writer that died in a rebuild
            except OSError as error:
                raise RingForeign(source, in_the_way(litter, error)) from error
            fresh = shape(source, interval_ns, capacity, aligned(max(width, 1), 8))
            segment, self.continues = open_ring(namespace, fresh, group, snapshot_dir)
        except BaseException:
            self._lock.release()
            raise
        self.resumed = len(segment.history())
        self._adopt(segment)
        _writers.add(self)

    def _adopt(self, segment: WritableSegment) -> None:
        self._segment = segment
        self.header = segment.header
        self.columns: dict[SeriesKey, Series] = segment.columns
        self._catalog = segment.catalog

    # ---- the hot path ----------------------------------------------------------------------------------------

    def append(
        self, values: Sequence[float] | array[float] | memoryview[float], timestamp_ns: int, monotonic_ns: int,
        flags: int = FLAG_TICK,
    ) -> int:  # fmt: skip
        """Append one frame; its sequence.

        ``values``: one float64 per column, in column order, shape (n,) with n ≤ ``column_count``; columns past the
        end are absent, as is STALE_NAN anywhere. An ``array("d")`` or a memoryview of doubles is copied unchanged;
        any other sequence is converted first. Raises WriterClosed after close() and in a forked child, MetricError
        if there are more values than columns; the ring is unchanged then.
        """
        if self._refusal:
            raise WriterClosed(self.source, self._refusal)
        if not isinstance(values, (array, memoryview)):
            values = array("d", values)
        staged = len(values)
        columns = self._catalog.columns
        if staged > columns:  # a series that takes such a column later would get the sample
            raise MetricError(f"ring {self.source!r} has {columns} columns, not {staged}; add series for them first")
        header, segment = self.header, self._segment
        staging = segment.staging
        sequence = segment.head + 1
        # A2: the payload; its parts may become visible in any order.
        numbers = staging.numbers
        numbers[0] = timestamp_ns
        numbers[1] = monotonic_ns
        numbers[2] = columns
        numbers[3] = flags
        samples = staging.samples
        if len(samples) != staged:
            samples = staging.fit(staged)
        samples[:] = values
        # A3: the seal of exactly these bytes under this sequence. A copy that mixes two frames fails it.
        staging.seal(sequence, header.salt, time.clock_gettime_ns(time.CLOCK_BOOTTIME))
        # The copy stores A1: from then on the slot belongs to no frame. Without A1, a reader that overlaps the write
        # finds the old sequence and computes a seal in vain, but accepts nothing (I1). Then A2 and A3.
        # A4 publishes the frame. A5 is a hint for readers and for /stats. If the copy ends between A4 and A5, the hint
        # is one behind: readers and the next writer look one slot further.
        offset = header.slots_offset + (sequence - 1) % header.capacity * header.slot_bytes
        if not staging.copy(segment.bytes, offset, segment.hints):
            return self._append_republished(values, timestamp_ns, monotonic_ns, flags)
        segment.head = sequence
        return sequence

    def _append_republished(
        self, values: array[float] | memoryview[float], timestamp_ns: int, monotonic_ns: int, flags: int
    ) -> int:
        """Publish the ring again and append to it, after the file was cut or holed since keep_published()."""
        if self._republishing:
            raise RingLost(self.source, f"{self.path} is cut as fast as it is published; see what else writes there")
        self._republishing = True
        try:
            self._republish("lost a part of its file")
            return self.append(values, timestamp_ns, monotonic_ns, flags)
        finally:
            self._republishing = False

    @property
    def head(self) -> int:
        """The newest frame's sequence, 0 before the first."""
        return self._segment.head

    def beat(self) -> None:
        """Update the heartbeat, between frames. Raises WriterClosed."""
        self._check_open()
        self._segment.put(8 * WORD_HEARTBEAT, time.clock_gettime_ns(time.CLOCK_BOOTTIME))

    # ---- the catalog -----------------------------------------------------------------------------------------

    @property
    def metrics(self) -> dict[str, Metric]:
        return {metric.name: metric for metric in self._catalog.metrics}

    @property
    def column_count(self) -> int:
        """How many of the ``width`` columns series take."""
        return self._catalog.columns

    def reserve(self, columns: int) -> None:
        """Make room for that many more columns, by at most one rebuild. Raises NoSpace; the ring is unchanged then.

        The rebuild frees columns absent for a whole capacity, so the columns of other series may move: look them up
        again afterwards.
        """
        self._check_open()
        width = self.header.width
        if self._catalog.columns + columns <= width:
            return
        kept = self._kept()
        needed = sum(series.metric.columns for series in kept) + columns
        self._replace(successor(self._segment, width=grown_width(width, needed)), kept)

    def prune(self, gone: Set[SeriesKey] = frozenset(), columns: int = 0) -> bool:
        """Remove those series, and those absent for a whole capacity, and make room for that many columns.

        By one rebuild, a pass over the ring, in which later columns move up. Older frames then count fewer columns, so
        that a series added afterwards gets no sample of a removed one (see :mod:`shm.ring.lifecycle`). False, and no
        rebuild, if there is nothing to remove and no column to make room for. Raises NoSpace; the ring is unchanged
        then.
        """
        self._check_open()
        kept = [series for series in self._kept() if series_key(series) not in gone]
        if len(kept) == len(self._catalog.series) and not columns:
            return False
        width, needed = self.header.width, sum(series.metric.columns for series in kept) + columns
        self._replace(successor(self._segment, width=width if needed <= width else grown_width(width, needed)), kept)
        return True

    def keep_published(self) -> None:
        """Publish the ring again, with the history that is left, if its file was removed, cut or overwritten.

        Call it before each :meth:`append`, or every few; it costs three system calls. Raises RingLost if the lock file
        was removed, since another process may then have started to write; NoSpace.
        """
        self._check_open()
        if self._lock.removed:
            raise RingLost(
                self.source, f"its lock {self._lock.path} was removed; don't clean {self._lock.path.parent} while "
                "processes use it (systemd-logind: RemoveIPC=no)"
            )  # fmt: skip
        trouble = self._segment.trouble()
        if trouble:
            self._republish(trouble)

    def _republish(self, trouble: str) -> None:
        log.error("ring published again", extra={"ring": self.source, "path": str(self.path), "error": trouble})
        with contextlib.ExitStack() as stack:
            left = stack.enter_context(contextlib.closing(self._segment.salvage()))
            if left.lost:
                stack.enter_context(disk_copy.completing(left, self.snapshot_dir, self.namespace))
            self._replace(successor(left), left.catalog.series, old=left)

    def add_metric(self, metric: Metric) -> None:
        """Add a metric. Raises MetricError if the ring has another definition under the same name."""
        self._check_open()
        index = self._catalog.index.get(metric.name)
        if index is None:
            self._enter(KIND_METRIC, lambda: catalog.metric_body(metric))
        elif (known := self._catalog.metrics[index]) != metric:
            raise MetricError(
                f"metric {metric.name!r} is in ring {self.source!r} as {known}, and can't also be {metric}; "
                "choose another name, or remove the ring"
            )

    def redefine(self, metrics: Iterable[Metric]) -> list[str]:
        """Replace changed definitions, as after an upgrade or a change of buckets, by at most one rebuild.

        A metric whose type, labels and buckets are the same keeps its history. One of another shape loses it, and its
        name is in the returned list. Metrics that the ring does not have are ignored. Raises NoSpace; the ring is
        unchanged then.
        """
        self._check_open()
        known = self.metrics
        changed = {one.name: one for one in metrics if known.get(one.name, one) != one}
        if not changed:
            return []
        lost = {name for name, new in changed.items() if new.shape != known[name].shape}
        kept = [series for series in self._kept() if series.metric.name not in lost]
        room = sum(catalog.entry_bytes(catalog.metric_body(metric)) for metric in changed.values())
        self._replace(successor(self._segment, catalog_room=room), kept, changed)
        return sorted(lost)

    def add_series(self, metric: Metric, label_values: tuple[str, ...]) -> Series:
        """The series with these label values, added if it is new. Raises NoSpace if there is no room to grow."""
        known = self.columns.get((metric.name, label_values))
        if known is not None:
            return known
        metric.check_values(label_values)
        self.add_metric(metric)
        self.reserve(metric.columns)
        index = self._catalog.index[metric.name]
        self._enter(KIND_SERIES, lambda: catalog.series_body(index, label_values, self._catalog.columns))
        return self.columns[metric.name, label_values]

    def note_limit(self, metric: str, limit: int) -> None:
        """Record in the catalog, for readers, that samples of ``metric`` were dropped at that limit."""
        self._check_open()
        if self._catalog.limits.get(metric) != limit:
            self._enter(KIND_LIMIT, lambda: catalog.limit_body(metric, limit))

    def _enter(self, kind: int, body: Callable[[], bytes]) -> None:
        if not self._segment.enter(kind, body()):
            room = catalog.entry_bytes(body())
            self._replace(successor(self._segment, catalog_room=room), self._kept())
            # The rebuild may have freed columns: a series then takes an earlier one.
            fits = self._segment.enter(kind, body())
            assert fits, "the catalog was widened for it"

    def _kept(self) -> list[Series]:
        return still_present(self._segment, self.staged())

    def _replace(
        self, header: Header, kept: list[Series], redefined: Mapping[str, Metric] = MappingProxyType({}),
        old: StoredSegment | None = None,
    ) -> None:  # fmt: skip
        """Rebuild to that shape and continue in the new segment. On NoSpace the ring in use is unchanged (I7)."""
        used = self._segment
        self._adopt(publish(self.namespace, header, self.group, old or used, kept, redefined))
        used.close()

    # ---- our own history -------------------------------------------------------------------------------------

    def history(self) -> list[int]:
        """The sequences of the frames in the ring, oldest first; not proven again since the ring was opened."""
        return self._segment.history()

    def frame(self, sequence: int) -> Frame | None:
        """The frame of that sequence, or None if it is not whole."""
        return self._segment.frame(sequence)

    # ---- the end ---------------------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._refusal:
            raise WriterClosed(self.source, self._refusal)

    def leave(self) -> None:
        """Record an orderly stop in the header. Call it after the last append."""
        # If the lock was removed, the ring may have another writer by now: leave its header alone. Errors are ignored,
        # since the header is a hint.
        if not self._lock.removed:
            with contextlib.suppress(OSError):
                self._segment.put(8 * WORD_PID, 0)

    def open_again(self) -> tuple[int, Header]:
        """A descriptor of the segment and its header, for :func:`shm.ring.disk_copy.take`, which closes it."""
        self._check_open()
        return self._segment.open_again(), self.header

    def close(self) -> None:
        """Record an orderly stop, unmap the segment and release the lock; the segment's file stays."""
        if self._refusal == _CLOSED:
            return
        if not self._refusal:
            self.leave()
        self._refusal = _CLOSED
        self._segment.close()
        self._lock.release()

    def __enter__(self) -> RingWriter:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


_CLOSED: Final = "this writer is closed; open another"


def _disown() -> None:
    # A fork of the writer holds no lock (I5): it must not append to its parent's ring.
    for writer in list(_writers):
        writer._refusal = "this process is a fork of its writer; open a ring of its own under another name"


os.register_at_fork(after_in_child=_disown)
