"""RingWriter: the one process that writes a source's ring.

``append`` is the hot path: one pass over a row, no loop, no lock, no allocation that grows with the history (I2).
Everything else, resume, new series, growth, happens between frames and beside the ring in use.
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
    RingLost,
    WriterClosed,
)
from shm.files import building_path, check_name, lock_path, ring_path
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
    Header,
    aligned,
    check_byte_order,
)
from shm.ring.lifecycle import grown_width, open_ring, publish, shape, still_present, successor
from shm.ring.lock import WriterLock
from shm.ring.segment import StoredSegment, WritableSegment
from shm.ring.staging import HINTS, Staging

log = logging.getLogger(__name__)

DEFAULT_CAPACITY: Final = 5760  # 24 h at 15 s

_writers: weakref.WeakSet[RingWriter] = weakref.WeakSet()


class RingWriter:
    """Opens the ring of ``source`` for writing: resumes it, rebuilds it to a new shape, or creates it.

    ``capacity`` in slots and ``interval_ns`` are the configuration's; a published segment of another shape is
    rebuilt with its history. Raises WriterBusy (I5), NoSpace (I7), RingForeign, ConfigurationError. A segment
    that is corrupt is set aside under the ending ``.corrupt``, one of another layout under ``.layout-N``; that is said
    in the log, and the ring begun anew: from its snapshot in ``snapshot_dir`` where there is one, else empty.

    ``columns`` finds a series by (metric name, label values); ``resumed`` is how many frames were found whole;
    ``continues`` is False where frames may be missing that readers were given.
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
        # The series that have a sample in the frame that is being made: no rebuild frees their columns.
        self.staged: Callable[[], Set[SeriesKey]] = frozenset
        self._refusal = ""
        self._elsewhere = False
        check_byte_order(source)
        self._lock = WriterLock.acquire(lock_path(namespace, source), source)
        try:
            building_path(namespace, source).unlink(missing_ok=True)  # litter of a writer that died growing
            fresh = shape(source, interval_ns, capacity, aligned(max(width, 1), 8))
            opened = open_ring(namespace, fresh, group, snapshot_dir)
            self.resumed, self.continues = opened.frames, opened.continues
            try:
                staging = Staging(source, opened.segment.header.slot_bytes)
            except BaseException:
                opened.segment.close()
                raise
            self._adopt(opened.segment, staging)
        except BaseException:
            self._lock.release()
            raise
        _writers.add(self)

    def _adopt(self, segment: WritableSegment, staging: Staging) -> None:
        """Make that segment the one we write to, and prepare what append needs."""
        header = segment.header
        self._segment = segment
        self.header = header
        self.columns: dict[SeriesKey, Series] = segment.columns
        self._salt = segment.salt
        self._bytes = segment.bytes
        self._hints = segment.bytes[HINTS]
        self._catalog = segment.catalog
        self._capacity = header.capacity
        self._slot_bytes = header.slot_bytes
        self._slots_offset = header.slots_offset
        self._staging = staging

    # ---- the hot path ----------------------------------------------------------------------------------------

    def append(
        self, values: Sequence[float] | array[float] | memoryview[float], timestamp_ns: int, monotonic_ns: int,
        flags: int = FLAG_TICK,
    ) -> int:  # fmt: skip
        """Append one frame; its sequence.

        ``values``: one float64 per column, in column order, shape (n,) with n ≤ ``column_count``; columns past the
        end are absent, as is STALE_NAN anywhere. An ``array("d")`` or a memoryview of doubles is copied as it is;
        any other sequence is converted first. Raises WriterClosed after close() and in a forked child, MetricError
        when there are more values than columns; the ring is untouched then.
        """
        if self._refusal:
            raise WriterClosed(self.source, self._refusal)
        if not isinstance(values, (array, memoryview)):
            values = array("d", values)
        staged = len(values)
        columns = self._catalog.columns
        if staged > columns:  # a series that takes such a column later would be credited with the sample
            raise MetricError(f"ring {self.source!r} has {columns} columns, not {staged}; add series for them first")
        segment, staging = self._segment, self._staging
        sequence = segment.head + 1
        # A2: the payload, which may become visible in any order, in any pieces.
        numbers = staging.numbers
        numbers[0] = timestamp_ns
        numbers[1] = monotonic_ns
        numbers[2] = columns
        numbers[3] = flags
        samples = staging.samples
        if len(samples) != staged:
            samples = staging.fit(staged)
        samples[:] = values
        # A3: the seal of exactly these bytes under this sequence: what makes any mixture fail.
        staging.seal(sequence, self._salt, time.clock_gettime_ns(time.CLOCK_BOOTTIME))
        # A1: the slot belongs to no frame from here on. Without it a reader that overlaps us finds the old
        # sequence and pays for a seal that can't hold; it would still not accept (I1). Then A2 and A3.
        # A4: publishes the frame. A5: a hint for readers and for /stats. A copy that ends between A4 and A5 leaves
        # it one behind: both the reader and the next writer look one further.
        offset = self._slots_offset + (sequence - 1) % self._capacity * self._slot_bytes
        if not staging.copy(self._bytes, offset, self._hints):
            return self._append_elsewhere(values, timestamp_ns, monotonic_ns, flags)
        segment.head = sequence
        return sequence

    def _append_elsewhere(
        self, values: array[float] | memoryview[float], timestamp_ns: int, monotonic_ns: int, flags: int
    ) -> int:
        """Append to a segment published anew, because the file lost a part of itself since keep_published() looked."""
        if self._elsewhere:
            raise RingLost(self.source, f"{self.path} is cut as fast as it is published; see what else writes there")
        self._elsewhere = True
        try:
            self._republish("lost a part of its file")
            return self.append(values, timestamp_ns, monotonic_ns, flags)
        finally:
            self._elsewhere = False

    @property
    def head(self) -> int:
        """The newest frame's sequence, 0 before the first."""
        return self._segment.head

    def beat(self) -> None:
        """Say that the writer lives, between frames. Raises WriterClosed."""
        self._check_open()
        self._segment.put(8 * WORD_HEARTBEAT, time.clock_gettime_ns(time.CLOCK_BOOTTIME))

    # ---- the catalog -----------------------------------------------------------------------------------------

    @property
    def metrics(self) -> dict[str, Metric]:
        return {metric.name: metric for metric in self._catalog.metrics}

    @property
    def column_count(self) -> int:
        """Columns that series have taken, of ``width``."""
        return self._catalog.columns

    @property
    def width(self) -> int:
        return self.header.width

    def reserve(self, columns: int) -> None:
        """Make room for that many more columns, by one rebuild at most. Raises NoSpace; the ring is untouched then.

        Columns absent for a whole capacity are freed in the rebuild, so ``columns`` of the series may move:
        look them up anew afterwards.
        """
        self._check_open()
        width = self.header.width
        if self._catalog.columns + columns <= width:
            return
        kept = self._kept()
        needed = sum(series.metric.columns for series in kept) + columns
        self._replace(successor(self._segment, width=grown_width(width, needed)), kept)

    def free(self) -> bool:
        """Free the columns of series absent for a whole capacity; False where there are none. Raises NoSpace."""
        self._check_open()
        kept = self._kept()
        if len(kept) == len(self._catalog.series):
            return False
        self._replace(successor(self._segment), kept)
        return True

    def prune(self, gone: Set[SeriesKey], columns: int = 0) -> None:
        """Take those series out of the ring, their history with them, and make room for that many columns.

        One rebuild, in which the columns behind move up: a frame of before knows fewer columns than there are then, so
        that what is entered next is younger than all of them, and is credited with nothing that was theirs (see
        :mod:`shm.ring.lifecycle`). It costs a pass over the ring, and what was pruned can't be had back. Columns absent
        for a whole capacity are freed as well. Raises NoSpace; the ring is untouched then.
        """
        self._check_open()
        kept = [series for series in self._kept() if series_key(series) not in gone]
        width, needed = self.header.width, sum(series.metric.columns for series in kept) + columns
        self._replace(successor(self._segment, width=width if needed <= width else grown_width(width, needed)), kept)

    def keep_published(self) -> None:
        """Publish the ring again, with the history that is left, if somebody removed, cut or overwrote its file.

        To be called before each :meth:`append`, or a few of them: three system calls where nobody did. Raises RingLost
        when the lock was removed, since this process can't know any more that it is the only writer; NoSpace.
        """
        self._check_open()
        if os.fstat(self._lock.fd).st_nlink == 0:
            raise RingLost(
                self.source, f"its lock {self._lock.path} was removed; whoever cleans {self._lock.path.parent} must "
                "leave it to running processes (systemd-logind: RemoveIPC=no)"
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
        """Enter a metric. One with the same name and another definition is refused with MetricError."""
        self._check_open()
        index = self._segment.metric_index.get(metric.name)
        if index is None:
            self._enter(KIND_METRIC, catalog.metric_body(metric))
        elif (known := self._catalog.metrics[index]) != metric:
            raise MetricError(
                f"metric {metric.name!r} is in ring {self.source!r} as {known}, and can't also be {metric}; "
                "choose another name, or remove the ring"
            )

    def redefine(self, metrics: Iterable[Metric]) -> list[str]:
        """Take over changed definitions, as after an upgrade or a change of buckets, by one rebuild at most.

        A metric whose type, labels and buckets are the same keeps its history; one of another shape begins anew, and
        its name is in the list returned. Other metrics are not concerned. Raises NoSpace; the ring is untouched then.
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
        """The series with these label values, entered if it is new. Raises NoSpace where growth finds no room."""
        known = self.columns.get((metric.name, label_values))
        if known is not None:
            return known
        metric.check_values(label_values)
        self.add_metric(metric)
        self.reserve(metric.columns)
        index = self._segment.metric_index[metric.name]
        if not self._segment.enter(KIND_SERIES, catalog.series_body(index, label_values, self._catalog.columns)):
            self._widen_catalog(catalog.entry_bytes(catalog.series_body(index, label_values, self.width)))
            # The rebuild may have freed columns before this one.
            self._enter(KIND_SERIES, catalog.series_body(index, label_values, self._catalog.columns))
        return self.columns[metric.name, label_values]

    def note_limit(self, metric: str, limit: int) -> None:
        """Leave word for readers that samples of ``metric`` were dropped at that limit."""
        self._check_open()
        if self._catalog.limits.get(metric) != limit:
            self._enter(KIND_LIMIT, catalog.limit_body(metric, limit))

    def _enter(self, kind: int, body: bytes) -> None:
        if not self._segment.enter(kind, body):
            self._widen_catalog(catalog.entry_bytes(body))
            fits = self._segment.enter(kind, body)
            assert fits, "the catalog was made wide enough for it"

    def _widen_catalog(self, size: int) -> None:
        self._replace(successor(self._segment, catalog_room=size), self._kept())

    def _kept(self) -> list[Series]:
        return still_present(self._segment, self.staged())

    def _replace(
        self, header: Header, kept: list[Series], redefined: Mapping[str, Metric] = MappingProxyType({}),
        old: StoredSegment | None = None,
    ) -> None:  # fmt: skip
        """Rebuild to that shape and go on in the new segment. On NoSpace the ring in use is untouched (I7)."""
        used, hints, staged = self._segment, self._hints, self._staging
        # Before it is published: a segment that we could not write to would take the place of one that we can.
        staging = Staging(self.source, header.slot_bytes)
        try:
            segment = publish(self.namespace, header, self.group, old or used, kept, redefined)
        except BaseException:
            staging.close()
            raise
        self._adopt(segment, staging)
        staged.close()
        hints.release()
        used.close()

    # ---- our own history -------------------------------------------------------------------------------------

    def history(self) -> list[int]:
        """The sequences that the slots hold, oldest first. They were proven when the ring was opened."""
        return self._segment.history()

    def frame(self, sequence: int) -> Frame | None:
        """A frame of our own history, or None where it is not whole."""
        return self._segment.frame(sequence)

    # ---- the end ---------------------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._refusal:
            raise WriterClosed(self.source, self._refusal)

    def leave(self) -> None:
        """Say in the ring that its writer ends in good order: nothing is appended any more."""
        # Whose lock was removed may have a successor by now, which it must not sign off. A hint: not worth an error.
        if os.fstat(self._lock.fd).st_nlink:
            with contextlib.suppress(OSError):
                self._segment.unsign()

    def open_again(self) -> tuple[int, Header]:
        """A descriptor of the segment and its header, for :func:`shm.ring.disk_copy.take`, which closes it."""
        self._check_open()
        return self._segment.open_again(), self.header

    def close(self) -> None:
        """Release the lock and leave the segment to the readers and the next writer."""
        if self._refusal == _CLOSED:
            return
        if not self._refusal:
            self.leave()
        self._refusal = _CLOSED
        self._staging.close()
        self._hints.release()
        self._segment.close()
        self._lock.release()

    def __enter__(self) -> RingWriter:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


_CLOSED: Final = "this writer is closed; open another"


def _disown() -> None:
    # A fork of the writer holds no lock (I5): it must not append into the ring that its parent writes.
    for writer in list(_writers):
        writer._refusal = "this process is a fork of its writer; open a ring of its own under another name"


os.register_at_fork(after_in_child=_disown)
