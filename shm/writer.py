"""RingWriter: the one process that writes a source's ring.

``append`` is the hot path: one pass over a row, no loop, no lock, no allocation that grows with the history (I2).
Everything else, resume, new series, growth, happens between frames and beside the ring in use.
"""

from __future__ import annotations

import contextlib
import json
import logging
import mmap
import os
import time
import weakref
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from xxhash import xxh3_64_intdigest

from shm import entries
from shm.catalog import Metric, Series, SeriesKey, series_key
from shm.discovery import pid_namespace, start_ticks
from shm.errors import ConfigurationError, MetricError, RingCorrupt, RingMissing, WriterClosed
from shm.layout import (
    FLAG_TICK,
    HEADER_BYTES,
    IMMUTABLE_START,
    KIND_LIMIT,
    KIND_METRIC,
    KIND_SERIES,
    LAYOUT_VERSION,
    MAGIC,
    MAX_CAPACITY,
    MAX_WIDTH,
    SLOT_HEADER_BYTES,
    SLOT_PAYLOAD,
    STALE_NAN_BITS,
    WORD_CATALOG_USED,
    WORD_HEAD,
    WORD_HEARTBEAT,
    WORD_MAGIC,
    WORD_PID,
    WORD_PID_NAMESPACE,
    WORD_PID_START,
    WORD_SEAL,
    WORD_VERSION,
    Header,
    aligned,
)
from shm.reader import Frame, prove
from shm.segment import WriterLock, attach_writable, build, building_path, check_name, ring_path

log = logging.getLogger(__name__)

DEFAULT_CAPACITY: Final = 5760  # 24 h at 15 s
MIN_CAPACITY: Final = 8  # a guard of four slots, a frame in flight, and something to read
_GROWTH: Final = 1.5  # wider by half each time: few rebuilds, at most a third of the columns idle
_ENTRY_ALLOWANCE: Final = 160  # bytes of catalog set aside per column; a series of two labels takes about 80
_CATALOG_MIN: Final = 4096
_ABSENT: Final = STALE_NAN_BITS.to_bytes(8, "little")

_writers: weakref.WeakSet[RingWriter] = weakref.WeakSet()


class RingWriter:
    """Opens the ring of ``source`` for writing: resumes it, rebuilds it to a new shape, or creates it.

    ``capacity`` in slots and ``interval_ns`` are the configuration's; a published segment of another shape is
    rebuilt with its history. Raises WriterBusy (I5), NoSpace (I7), RingForeign, ConfigurationError. A segment
    that is corrupt is set aside under the ending ``.corrupt``, said in the log, and begun anew.
    """

    def __init__(
        self, namespace: str, source: str, *, interval_ns: int, capacity: int = DEFAULT_CAPACITY, width: int = 8,
        group: str = "",
    ) -> None:
        self.namespace = check_name("[shm] namespace", namespace)
        self.source = check_name("the name of a source", source)
        if not MIN_CAPACITY <= capacity <= MAX_CAPACITY:
            raise ConfigurationError(f"[shm] capacity is {capacity}; use {MIN_CAPACITY} to {MAX_CAPACITY} frames")
        self.path = ring_path(namespace, source)
        self.group = group
        self.head = 0
        self.resumed = 0  # frames found whole when the writer opened the ring
        self._refusal = ""
        self._fd = -1
        self._map: mmap.mmap | None = None
        self._lock = WriterLock.acquire(namespace, source)
        try:
            building_path(namespace, source).unlink(missing_ok=True)  # litter of a writer that died growing
            self._open(interval_ns, capacity, aligned(width, 8))
        except BaseException:
            self._lock.release()
            raise
        _writers.add(self)

    # ---- opening ---------------------------------------------------------------------------------------------

    def _open(self, interval_ns: int, capacity: int, width: int) -> None:
        try:
            fd, map_, header = attach_writable(self.source, self.path)
        except RingMissing:
            self._publish(self._shape(interval_ns, capacity, width, 0), [], [], {})
            return
        except RingCorrupt as error:
            aside = self.path.with_suffix(".corrupt")
            log.error("segment set aside", extra={"ring": self.source, "as": str(aside), "error": str(error)})
            os.rename(self.path, aside)
            self._publish(self._shape(interval_ns, capacity, width, 0), [], [], {})
            return
        self._adopt(fd, map_, header)
        damaged = self._read_catalog()
        self._resume()
        self._sign()
        # After damage the columns past the catalog's proven part hold samples of series that nobody knows any
        # more: the rebuild leaves them out, so that no new series is credited with them.
        if damaged or (header.capacity, header.interval_ns) != (capacity, interval_ns):
            self._rebuild(self._shape(interval_ns, capacity, header.width, header.generation + 1))

    def _shape(self, interval_ns: int, capacity: int, width: int, generation: int, catalog_bytes: int = 0) -> Header:
        if width > MAX_WIDTH:
            raise MetricError(f"ring {self.source!r} would need {width} columns; the layout has at most {MAX_WIDTH}")
        wanted = max(catalog_bytes, _CATALOG_MIN, width * _ENTRY_ALLOWANCE)
        return Header(
            self.source, capacity, width, interval_ns, time.time_ns(), aligned(wanted, 64), generation, _boot_id()
        )

    def _adopt(self, fd: int, map_: mmap.mmap, header: Header) -> None:
        """Make that segment the one we write to, and prepare what append needs."""
        self._fd, self._map, self.header = fd, map_, header
        self._salt = header.salt
        self._bytes = memoryview(map_)
        self._words = self._bytes.cast("Q")
        self._capacity = header.capacity
        self._slot_bytes = header.slot_bytes
        self._slots_offset = header.slots_offset
        self._staging = bytearray(header.slot_bytes - SLOT_PAYLOAD)  # timestamp, monotonic, count, flags, values
        self._staging_q = memoryview(self._staging).cast("q")
        self._staging_d = memoryview(self._staging)[SLOT_HEADER_BYTES - SLOT_PAYLOAD :].cast("d")
        self._absent = memoryview(_ABSENT * header.width).cast("d")
        self._catalog = entries.Catalog()
        self.columns: dict[SeriesKey, Series] = {}
        self._metric_index: dict[str, int] = {}

    def _read_catalog(self) -> bool:
        """Read our own catalog; True when it is damaged, so that only the part before the damage is known."""
        header = self.header
        data = bytes(self._bytes[HEADER_BYTES : HEADER_BYTES + header.catalog_bytes])
        announced = self._words[WORD_CATALOG_USED]
        entries.extend(self._catalog, data, announced, header.width, self._salt)
        if self._catalog.error:
            log.error("catalog damaged", extra={
                "ring": self.source, "error": self._catalog.error, "series_kept": len(self._catalog.series),
            })
        self.columns = {series_key(series): series for series in self._catalog.series}
        self._metric_index = {metric.name: i for i, metric in enumerate(self._catalog.metrics)}
        self._words[WORD_CATALOG_USED] = self._catalog.used
        return bool(self._catalog.error)

    def _resume(self) -> None:
        """Find the head by proof (I3): the highest sequence whose seal holds. The header's head is only a hint."""
        best = found = 0
        words = self._words
        for slot in range(self._capacity):
            offset = self._slots_offset + slot * self._slot_bytes
            sequence = words[offset >> 3]
            if sequence == 0:
                continue
            if (sequence - 1) % self._capacity == slot and self._frame_at(offset, sequence) is not None:
                best = max(best, sequence)
                found += 1
            else:
                words[offset >> 3] = 0  # torn by the death of a writer, or damaged: of no frame any more
        self.head = best
        self.resumed = found
        words[WORD_HEAD] = best

    def _frame_at(self, offset: int, sequence: int) -> Frame | None:
        return prove(bytes(self._bytes[offset : offset + self._slot_bytes]), sequence, self._salt)

    def _sign(self) -> None:
        words = self._words
        words[WORD_PID_START] = start_ticks(os.getpid())
        words[WORD_PID_NAMESPACE] = pid_namespace()
        words[WORD_PID] = os.getpid()
        self.beat()

    # ---- the hot path ----------------------------------------------------------------------------------------

    def append(
        self, values: Sequence[float] | array[float] | memoryview[float], timestamp_ns: int, monotonic_ns: int,
        flags: int = FLAG_TICK,
    ) -> int:
        """Append one frame; its sequence.

        ``values``: one float64 per column, in column order, shape (n,) with n ≤ width; columns past the end are
        absent, as is STALE_NAN anywhere. An ``array("d")`` or a memoryview of doubles is copied as it is; any
        other sequence is converted first. Raises WriterClosed after close() and in a forked child.
        """
        if self._refusal:
            raise WriterClosed(self.source, self._refusal)
        if not isinstance(values, (array, memoryview)):
            values = array("d", values)
        staged = len(values)
        sequence = self.head + 1
        staging = self._staging_q
        staging[0] = timestamp_ns
        staging[1] = monotonic_ns
        staging[2] = self._catalog.columns
        staging[3] = flags
        self._staging_d[:staged] = values
        self._staging_d[staged:] = self._absent[staged:]
        words = self._words
        offset = self._slots_offset + (sequence - 1) % self._capacity * self._slot_bytes
        word = offset >> 3
        # A1: the slot belongs to no frame from here on. Without it a reader that overlaps us finds the old
        # sequence and pays for a seal that can't hold; it would still not accept (I1).
        words[word] = 0
        # A2: the payload, one copy. May become visible in any order, in any pieces.
        self._bytes[offset + SLOT_PAYLOAD : offset + self._slot_bytes] = self._staging
        # A3: the seal of exactly these bytes under this sequence: what makes any mixture fail.
        words[word + 1] = xxh3_64_intdigest(self._staging, sequence ^ self._salt)
        # A4: publishes the frame. An aligned 8-byte store; struct.pack_into would show zeros first.
        words[word] = sequence
        # A5: a hint for readers and for /stats. A death between A4 and A5 leaves it one behind: both
        # the reader and the next writer look one further.
        words[WORD_HEAD] = sequence
        words[WORD_HEARTBEAT] = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        self.head = sequence
        return sequence

    def beat(self) -> None:
        """Say that the writer lives, between frames."""
        self._words[WORD_HEARTBEAT] = time.clock_gettime_ns(time.CLOCK_BOOTTIME)

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
        needed = self._catalog.columns + columns
        if needed <= self.header.width:
            return
        width = aligned(max(needed, int(self.header.width * _GROWTH)), 8)
        header = self.header
        self._rebuild(self._shape(header.interval_ns, self._capacity, width, header.generation + 1))

    def add_metric(self, metric: Metric) -> None:
        """Enter a metric. One with the same name and another definition is refused with MetricError."""
        known = self.metrics.get(metric.name)
        if known is None:
            self._enter(KIND_METRIC, entries.metric_body(metric))
        elif known != metric:
            raise MetricError(
                f"metric {metric.name!r} is in ring {self.source!r} as {known}, and can't also be {metric}; "
                "choose another name, or remove the ring with --unlink"
            )

    def add_series(self, metric: Metric, label_values: tuple[str, ...]) -> Series:
        """The series with these label values, entered if it is new. Raises NoSpace where growth finds no room."""
        known = self.columns.get((metric.name, label_values))
        if known is not None:
            return known
        self.add_metric(metric)
        self.reserve(metric.columns)
        index, column = self._metric_index[metric.name], self._catalog.columns
        self._enter(KIND_SERIES, entries.series_body(index, label_values, column))
        return self.columns[metric.name, label_values]

    def note_limit(self, metric: str, limit: int) -> None:
        """Leave word for readers that samples of ``metric`` were dropped at that limit."""
        if self._catalog.limits.get(metric) != limit:
            self._enter(KIND_LIMIT, entries.limit_body(metric, limit))

    def _enter(self, kind: int, body: bytes) -> None:
        if self._refusal:
            raise WriterClosed(self.source, self._refusal)
        size = entries.entry_bytes(body)
        if self._catalog.used + size > self.header.catalog_bytes:
            header = self.header
            self._rebuild(self._shape(
                header.interval_ns, self._capacity, header.width, header.generation + 1, 2 * header.catalog_bytes + size
            ))
            if kind == KIND_SERIES:  # the rebuild may have freed columns before this one, or moved its metric
                fields = json.loads(body)
                body = entries.series_body(fields["m"], tuple(fields["v"]), self._catalog.columns)
        at = self._catalog.used
        data = entries.entry(kind, body, at, self._salt)
        start = HEADER_BYTES + at
        self._bytes[start : start + len(data)] = data
        entries.extend(self._catalog, data, at, self.header.width, self._salt)
        assert self._catalog.used == at + len(data), self._catalog.error
        self._words[WORD_CATALOG_USED] = self._catalog.used
        self._index_newest(kind)

    def _index_newest(self, kind: int) -> None:
        if kind == KIND_SERIES:
            series = self._catalog.series[-1]
            self.columns[series_key(series)] = series
        elif kind == KIND_METRIC:
            self._metric_index[self._catalog.metrics[-1].name] = len(self._catalog.metrics) - 1

    # ---- rebuilding ------------------------------------------------------------------------------------------

    def history(self) -> list[int]:
        """The sequences that the slots hold, oldest first. They were proven when the ring was opened."""
        oldest = max(self.head - self._capacity + 1, 1)
        words, start, step = self._words, self._slots_offset, self._slot_bytes
        return [s for s in range(oldest, self.head + 1)
                if words[(start + (s - 1) % self._capacity * step) >> 3] == s]

    def frame(self, sequence: int) -> Frame | None:
        """A frame of our own history, or None where it is not whole."""
        return self._frame_at(self._slots_offset + (sequence - 1) % self._capacity * self._slot_bytes, sequence)

    def _rebuild(self, shape: Header) -> None:
        """Build the segment of that shape beside this one, copy the history over, publish it by rename (I6).

        Columns absent in every frame are freed. On NoSpace the ring in use is untouched.
        """
        frames = [frame for s in self.history() if (frame := self.frame(s)) is not None][-shape.capacity :]
        kept = self._still_present(frames)
        old_fd, old_map, old_bytes, old_words = self._fd, self._map, self._bytes, self._words
        limits, metrics = self._catalog.limits, self._catalog.metrics
        self._publish(shape, metrics, kept, limits, frames)
        for frame in frames:
            frame.values.release()
        old_words.release()
        old_bytes.release()
        assert old_map is not None
        old_map.close()
        os.close(old_fd)
        log.info("ring rebuilt", extra={
            "ring": self.source, "frames": len(frames), "width": shape.width, "capacity": shape.capacity,
            "bytes": shape.segment_bytes,
        })

    def _still_present(self, frames: list[Frame]) -> list[Series]:
        """The series with a sample in any of the frames; all of them while the ring has not filled once."""
        if len(frames) < self._capacity - 1:
            return self._catalog.series
        missing = dict(enumerate(self._catalog.series))
        for frame in reversed(frames):
            for i, series in list(missing.items()):
                if any(frame.value(column) is not None for column in range(series.column, series.end)):
                    del missing[i]
            if not missing:
                break
        return [series for i, series in enumerate(self._catalog.series) if i not in missing]

    def _publish(
        self, shape: Header, metrics: list[Metric], series: list[Series], limits: dict[str, int],
        frames: Sequence[Frame] = (),
    ) -> None:
        """Build a whole segment under the temporary name, then rename it over the published one."""
        temporary = building_path(self.namespace, self.source)
        fd, map_ = build(self.source, temporary, shape.segment_bytes, self.group)
        previous = self._fd, self._map, getattr(self, "header", None)
        head = self.head
        try:
            with memoryview(map_) as raw:
                raw[IMMUTABLE_START : IMMUTABLE_START + len(shape.immutable())] = shape.immutable()
                with raw[:HEADER_BYTES].cast("Q") as words:
                    words[WORD_VERSION] = LAYOUT_VERSION
                    words[WORD_SEAL] = shape.salt
            self._adopt(fd, map_, shape)
            for metric in metrics:
                self._enter(KIND_METRIC, entries.metric_body(metric))
            moved = [(one, self.add_series(one.metric, one.label_values)) for one in series]
            for name, limit in limits.items():
                self.note_limit(name, limit)
            self._copy_frames(frames, moved)
            self.head = head
            self._words[WORD_HEAD] = head
            self._sign()
            # Magic last, then the name: no reader can find half a segment under either (I6).
            self._words[WORD_MAGIC] = MAGIC
            os.rename(temporary, self.path)
        except BaseException:
            self._abandon_new(fd, map_, previous, temporary)
            raise

    def _abandon_new(
        self, fd: int, map_: mmap.mmap, previous: tuple[int, mmap.mmap | None, Header | None], temporary: Path
    ) -> None:
        """Go back to the segment in use after a failure while the next one was being built."""
        if self._map is map_:
            self._words.release()
            self._bytes.release()
        old_fd, old_map, old_header = previous
        if old_map is not None and old_header is not None:
            self._adopt(old_fd, old_map, old_header)
            self._read_catalog()
        with contextlib.suppress(BufferError):
            map_.close()
        os.close(fd)
        temporary.unlink(missing_ok=True)

    def _copy_frames(self, frames: Sequence[Frame], moved: list[tuple[Series, Series]]) -> None:
        """Write proven frames under their own sequence, each column where its series now lives."""
        in_place = all(old.column == new.column for old, new in moved)
        columns = self._catalog.columns
        for frame in frames:
            if in_place:
                values: array[float] | memoryview[float] = frame.values[: min(frame.count, columns)]
            else:
                values = array("d", self._absent[:columns])
                for old, new in moved:
                    if old.end <= frame.count:
                        values[new.column : new.end] = array("d", frame.values[old.column : old.end])
            self.head = frame.sequence - 1
            self.append(values, frame.timestamp_ns, frame.monotonic_ns, frame.flags)

    # ---- the end ---------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Release the lock and leave the segment to the readers and the next writer."""
        if self._map is None:
            return
        if not self._refusal:
            self._words[WORD_PID] = 0
        self._refusal = self._refusal or "this writer is closed; open another"
        self._staging_d.release()
        self._staging_q.release()
        self._words.release()
        self._bytes.release()
        self._map.close()
        self._map = None
        os.close(self._fd)
        self._lock.release()

    def __enter__(self) -> RingWriter:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _boot_id() -> bytes:
    try:
        text = Path("/proc/sys/kernel/random/boot_id").read_text()
        return bytes.fromhex(text.strip().replace("-", ""))[:16].ljust(16, b"\0")
    except (OSError, ValueError):
        return bytes(16)


def _disown() -> None:
    # A fork of the writer holds no lock (I5): it must not append into the ring that its parent writes.
    for writer in list(_writers):
        writer._refusal = "this process is a fork of its writer; open a ring of its own under another name"


os.register_at_fork(after_in_child=_disown)
