"""Open a writer's segment: resume the published one, or build a new one with its history and publish that.

the published segment …           what the writer does
--------------------------------  -------------------------------------------------------------------------------
is whole, configuration as now    resumes it in place
has another capacity, interval,   rebuilds it: builds a new segment with its history, and publishes that instead
boot id, or a damaged catalog
lacks frames                      rebuilds it, with the missing frames that the snapshot has
is unreadable                     renames it; builds one with its frames if only size or blocks are wrong, else as next
does not exist                    builds one, with the snapshot's history if there is a snapshot, else empty

A rebuild only reads the segment in use: if the rebuild fails, the writer continues with that segment.
"""

from __future__ import annotations

import contextlib
import logging
import os
import struct
import time
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from types import MappingProxyType
from typing import Final

from shm import catalog
from shm.create import create
from shm.errors import MetricError, NoSpace, RingCorrupt, RingError, RingForeign, RingLayout, RingMissing
from shm.files import aside_path, attach, building_path, in_the_way, open_segment, ring_path
from shm.metric import Metric, Series, SeriesKey, series_key
from shm.ring import disk_copy
from shm.ring.layout import (
    ABSENT,
    FLAG_TICK,
    KIND_LIMIT,
    KIND_METRIC,
    KIND_SERIES,
    MAX_WIDTH,
    SLOT_PAYLOAD,
    WORD_HEAD,
    Header,
    aligned,
)
from shm.ring.segment import StoredSegment, WritableSegment

log = logging.getLogger(__name__)

_GROWTH: Final = 1.5  # wider by half each time: few rebuilds, at most a third of the columns idle
_ENTRY_ALLOWANCE: Final = 160  # bytes of catalog per column; a series of two labels takes about 80
_CATALOG_MIN: Final = 4096
_PAYLOAD_HEAD: Final = struct.Struct("<qqQQ")  # timestamp, monotonic, count, flags; packed into private bytes only


Opened = tuple[WritableSegment, bool]


def open_ring(namespace: str, fresh: Header, group: str, snapshot_dir: Path | None) -> Opened:
    """Open, rebuild or create the segment of ``fresh.source``: the segment to write to, and whether it continues.

    It does not if published frames may be missing: its newest cumulative values may then be older than those that
    readers have seen. The caller holds the source's lock. ``fresh``: the header of an empty segment of this
    configuration. Raises NoSpace, RingForeign, RingError, ConfigurationError.
    """
    path = ring_path(namespace, fresh.source)
    try:
        segment = WritableSegment(*attach(fresh.source, path, os.geteuid(), writable=True), path)
    except RingMissing:
        return _begin(namespace, fresh, group, snapshot_dir)
    except RingCorrupt as error:
        return _replace_unreadable(namespace, fresh, group, snapshot_dir, error)
    try:
        return _resume(namespace, segment, fresh, group, snapshot_dir)
    except BaseException:
        segment.close()
        raise


def _resume(namespace: str, segment: WritableSegment, fresh: Header, group: str, snapshot_dir: Path | None) -> Opened:
    damaged = segment.resume()
    found = len(segment.history())
    with contextlib.ExitStack() as stack:
        if segment.lost > 1:
            stack.enter_context(disk_copy.completing(segment, snapshot_dir, namespace))
        # Ask before the rebuild: in the new segment, the loss is no longer visible.
        continues = not segment.lost_newest
        header = segment.header
        required = (
            damaged
            or (header.capacity, header.interval_ns) != (fresh.capacity, fresh.interval_ns)
            or len(segment.history()) > found
        )
        if required or header.boot_id != fresh.boot_id:
            # After damage, columns beyond the catalog's proven part have samples of unknown series. The rebuild drops
            # them, so that no new series gets them.
            after = successor(segment, interval_ns=fresh.interval_ns, capacity=fresh.capacity)
            try:
                rebuilt = publish(namespace, after, group, segment, still_present(segment))
            except NoSpace:
                if required:
                    raise
                # Only the monotonic times are another boot's: rates across the reboot then use the wall clock.
            else:
                segment.close()
                segment = rebuilt
        segment.sign()
        return segment, continues


def _replace_unreadable(
    namespace: str, fresh: Header, group: str, snapshot_dir: Path | None, error: RingCorrupt
) -> Opened:
    """Set aside a published segment that raised ``error``, and publish a new one with the frames left in it."""
    path = ring_path(namespace, fresh.source)
    left = None if isinstance(error, RingLayout) else _salvage(fresh.source, path)
    aside = aside_path(path.with_suffix(""), error)
    log.error("segment set aside", extra={"ring": fresh.source, "as": str(aside), "error": str(error)})
    os.rename(path, aside)
    try:
        return _begin(namespace, fresh, group, snapshot_dir, left)
    except NoSpace:
        if isinstance(error, RingLayout):
            raise
        # A damaged file is kept for diagnosis only if there is room for the ring as well.
        aside.unlink(missing_ok=True)
        if left is not None:
            left.close()  # while it is open, the unlinked file's memory is not free
            left = None
        return _begin(namespace, fresh, group, snapshot_dir)
    finally:
        if left is not None:
            left.close()


def _salvage(source: str, path: Path) -> StoredSegment | None:
    """The frames of a file with an intact header and a wrong size or missing blocks; None if the header is bad."""
    try:
        fd, header = open_segment(source, path, os.O_RDONLY, os.geteuid(), harmed=True)
    except RingError:
        return None
    stored = StoredSegment(fd, header)
    if os.fstat(fd).st_size < header.slots_offset:  # without the catalog, nothing names the frames' columns
        stored.close()
        return None
    stored.read()
    return stored


def _begin(
    namespace: str, fresh: Header, group: str, snapshot_dir: Path | None, left: StoredSegment | None = None
) -> Opened:
    """Publish a new segment: with the frames ``left`` of the old one, the snapshot's history, or empty."""
    past = disk_copy.load(snapshot_dir, namespace, fresh.source) if snapshot_dir is not None else None
    with contextlib.ExitStack() as stack:
        if past is not None:
            stack.enter_context(contextlib.closing(past))
        if left is not None:
            if past is not None:
                left.complete(past)
            if left.history():
                past = left
        if past is None:
            return publish(namespace, fresh, group), True
        header = successor(past, interval_ns=fresh.interval_ns, capacity=fresh.capacity)
        segment = publish(namespace, header, group, past, still_present(past))
        # Frames published after the snapshot are lost with shared memory; a cut file may have lost its last frames.
        continues = not past.lost_newest and (past is left or past.ended_well)
    log.info("history restored", extra={
        "ring": fresh.source, "frames": len(segment.history()), "from": str(snapshot_dir or ""),
    })  # fmt: skip
    return segment, continues


# ---- building the next segment ----------------------------------------------------------------------------------


def shape(
    source: str, interval_ns: int, capacity: int, width: int, *, generation: int = 0, catalog_bytes: int = 0
) -> Header:
    """The header of a segment to be built, with at least ``catalog_bytes`` of catalog. Raises MetricError."""
    if width > MAX_WIDTH:
        raise MetricError(f"ring {source!r} would need {width} columns; the layout has at most {MAX_WIDTH}")
    wanted = max(catalog_bytes, _CATALOG_MIN, width * _ENTRY_ALLOWANCE)
    return Header(source, capacity, width, interval_ns, time.time_ns(), aligned(wanted, 64), generation, _boot_id())


def successor(
    old: StoredSegment, *, interval_ns: int = 0, capacity: int = 0, width: int = 0, catalog_room: int = 0
) -> Header:
    """The header of the segment that replaces ``old``; omitted arguments stay as in ``old``.

    ``catalog_room``: bytes of catalog to leave free.
    """
    header = old.header
    return shape(
        header.source, interval_ns or header.interval_ns, capacity or header.capacity, width or header.width,
        generation=header.generation + 1,
        # Twice the used bytes: all entries fit, however long their labels are, and as many again.
        catalog_bytes=2 * old.catalog.used + catalog_room,
    )  # fmt: skip


def grown_width(width: int, needed: int) -> int:
    """The width of a full ring's successor, which needs ``needed`` columns after some were freed.

    Unchanged if a quarter stays free: series that come and go must not widen a ring for ever.
    """
    if needed <= width * 3 // 4:
        return width
    return max(needed, min(aligned(max(needed, int(width * _GROWTH)), 8), MAX_WIDTH))


def still_present(old: StoredSegment, staged: Set[SeriesKey] = frozenset()) -> list[Series]:
    """The series to keep in a rebuild: all but those that are absent in every frame of a full ring.

    Also kept: series added since the oldest frame, all series until the ring has filled once, and the ``staged`` ones,
    which have a sample in the frame that is about to be appended.
    """
    history = old.history()
    oldest = old.frame(history[0]) if history else None
    if oldest is None or len(history) < old.header.capacity - 1:
        return old.catalog.series
    missing = {
        i: series
        for i, series in enumerate(old.catalog.series)
        if series.end <= oldest.count and series_key(series) not in staged
    }
    for sequence in reversed(history):
        frame = old.frame(sequence)
        if frame is not None:
            for i, series in list(missing.items()):
                if any(frame.value(column) is not None for column in range(series.column, series.end)):
                    del missing[i]
        if not missing:
            break
    return [series for i, series in enumerate(old.catalog.series) if i not in missing]


def publish(
    namespace: str,
    header: Header,
    group: str,
    old: StoredSegment | None = None,
    kept: Sequence[Series] = (),
    redefined: Mapping[str, Metric] = MappingProxyType({}),
) -> WritableSegment:
    """Build a whole segment with ``old``'s frames and its series ``kept``, and publish it under the source's name.

    ``redefined``: new definitions of metrics of ``old``, by name; their kept series must fit them. Raises NoSpace,
    ConfigurationError; RingForeign if another user's file has the name. The published segment is unchanged then.
    """
    temporary = building_path(namespace, header.source)
    fd, mapped = create(header.source, temporary, header.segment_bytes, group)
    with contextlib.ExitStack() as undo:
        undo.callback(temporary.unlink, missing_ok=True)
        segment = WritableSegment(fd, mapped, header, ring_path(namespace, header.source))
        undo.callback(segment.close)
        segment.write_header()
        if old is not None:
            _carry_catalog(old, kept, segment, redefined)
            _carry_frames(old, kept, segment)
        # Magic last, then the name: no reader takes an incomplete segment for a whole one (I6).
        segment.finish()
        path = ring_path(namespace, header.source)
        try:
            os.rename(temporary, path)
        except OSError as error:
            raise RingForeign(header.source, in_the_way(path, error)) from error
        undo.pop_all()
    return segment


def _carry_catalog(
    old: StoredSegment, kept: Sequence[Series], new: WritableSegment, redefined: Mapping[str, Metric]
) -> None:
    """Add all metrics, the kept series in their order without gaps between their columns, and the limits."""
    metrics = [redefined.get(metric.name, metric) for metric in old.catalog.metrics]
    bodies = [(KIND_METRIC, catalog.metric_body(metric)) for metric in metrics]
    column = 0
    for series in kept:
        index = old.catalog.index[series.metric.name]
        bodies.append((KIND_SERIES, catalog.series_body(index, series.label_values, column)))
        column += series.metric.columns
    bodies += [(KIND_LIMIT, catalog.limit_body(metric, limit)) for metric, limit in old.catalog.limits.items()]
    for kind, body in bodies:
        fits = new.enter(kind, body)
        assert fits, "successor() leaves room for all entries of the old catalog"


def _carry_frames(old: StoredSegment, kept: Sequence[Series], new: WritableSegment) -> None:
    """Copy the newest frames, as many as fit, under their sequences, each sample to its series' new column."""
    blocks = _blocks(kept)
    size = new.header.slot_bytes - SLOT_PAYLOAD
    absent = ABSENT * new.header.width
    later_ns = _monotonic_shift_ns(old, new.header)
    copied = set()
    for sequence in old.history()[-new.header.capacity :]:
        frame = old.frame(sequence)
        if frame is None:
            continue
        # The frame may be older than the last series: only columns below its count are copied. Blocks keep their order,
        # so these come first again, and series at or beyond the new count are younger than the frame.
        count = sum(max(min(end, frame.count) - start, 0) for start, end in blocks)
        payload = bytearray(_PAYLOAD_HEAD.pack(frame.timestamp_ns, frame.monotonic_ns + later_ns, count, frame.flags))
        with frame.values.cast("B") as values:
            for start, end in blocks:
                payload += values[8 * start : 8 * max(min(end, frame.count), start)]
        payload += absent[: size - len(payload)]
        new.store(sequence, payload)
        copied.add(sequence)
    new.hold(copied, old.head)
    new.put(8 * WORD_HEAD, old.head)
    # Without frames, only a debug line: a new ring gets its width from the first collection.
    log.log(logging.INFO if copied else logging.DEBUG, "ring rebuilt", extra={
        "ring": new.header.source, "frames": len(copied), "width": new.header.width, "capacity": new.header.capacity,
        "bytes": new.header.segment_bytes,
    })  # fmt: skip


def _monotonic_shift_ns(old: StoredSegment, new: Header) -> int:
    """The offset that moves an earlier boot's monotonic times onto this boot's clock; 0 if the boot is the same.

    Moved times are mostly below zero. Rates and ages across a reboot are then as right as the wall clock was.
    """
    if old.header.boot_id != new.boot_id:
        for sequence in reversed(old.history()):
            frame = old.frame(sequence)
            if frame is not None and frame.flags & FLAG_TICK:
                return frame.timestamp_ns - frame.monotonic_ns - (time.time_ns() - time.monotonic_ns())
    return 0


def _blocks(kept: Sequence[Series]) -> list[tuple[int, int]]:
    """The old columns of the kept series as (start, end), adjacent ones joined."""
    blocks: list[tuple[int, int]] = []
    for series in kept:
        if blocks and blocks[-1][1] == series.column:
            blocks[-1] = (blocks[-1][0], series.end)
        else:
            blocks.append((series.column, series.end))
    return blocks


def _boot_id() -> bytes:
    try:
        text = Path("/proc/sys/kernel/random/boot_id").read_text()
        return bytes.fromhex(text.strip().replace("-", ""))[:16].ljust(16, b"\0")
    except (OSError, ValueError):
        return bytes(16)
