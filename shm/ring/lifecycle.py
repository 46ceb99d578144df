"""How a writer gets its segment: it resumes the published one, or builds another from what is left and publishes it.

published is …                    then
--------------------------------  -------------------------------------------------------------------------------
whole, and of this configuration  resumed where it is
of another capacity or interval,  rebuilt: built beside, with its history, and published in its place
another boot, catalog damaged
lacking frames                    the same, with those that the snapshot has of them
not to be read                    set aside by name; its frames are taken over if only size or blocks are wrong,
nothing                           else the snapshot's, else it begins empty

While a segment is rebuilt the one in use is only read: whatever fails, its writer goes on with it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import struct
import time
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from shm import catalog
from shm.create import create
from shm.errors import MetricError, NoSpace, RingCorrupt, RingError, RingLayout, RingMissing
from shm.files import aside_path, attach_writable, building_path, open_segment, ring_path
from shm.metric import Metric, Series, SeriesKey, series_key
from shm.ring import disk_copy
from shm.ring.layout import (
    ABSENT,
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
_ENTRY_ALLOWANCE: Final = 160  # bytes of catalog set aside per column; a series of two labels takes about 80
_CATALOG_MIN: Final = 4096
_PAYLOAD_HEAD: Final = struct.Struct("<qqQQ")  # timestamp, monotonic, count, flags; packed into private bytes only


@dataclass(frozen=True, slots=True)
class Opened:
    """The segment to write to. ``frames``: how many it has from before.

    ``continues``: False when it may lack frames that were published, so that cumulative values in it may be older than
    what readers were given.
    """

    segment: WritableSegment
    frames: int
    continues: bool


def open_ring(namespace: str, fresh: Header, group: str, snapshot_dir: Path | None) -> Opened:
    """Come by the segment of ``fresh.source``. The caller holds the source's lock.

    ``fresh``: an empty segment of the configuration. Raises NoSpace, RingForeign, RingError, ConfigurationError.
    """
    path = ring_path(namespace, fresh.source)
    try:
        segment = WritableSegment(*attach_writable(fresh.source, path), path)
    except RingMissing:
        return _begin(namespace, fresh, group, snapshot_dir)
    except RingCorrupt as error:
        return _begin_beside(namespace, fresh, group, snapshot_dir, error)
    try:
        return _resume(namespace, segment, fresh, group, snapshot_dir)
    except BaseException:
        segment.close()
        raise


def _resume(namespace: str, segment: WritableSegment, fresh: Header, group: str, snapshot_dir: Path | None) -> Opened:
    found, damaged = segment.resume()
    with contextlib.ExitStack() as stack:
        if segment.lost > 1:
            stack.enter_context(disk_copy.completing(segment, snapshot_dir, namespace))
        continues = not segment.lost_newest  # of this one: what is rebuilt from it announces no more than it has
        header = segment.header
        must = (
            damaged
            or (header.capacity, header.interval_ns) != (fresh.capacity, fresh.interval_ns)
            or len(segment.history()) > found
        )
        if must or header.boot_id != fresh.boot_id:
            # After damage, columns past the catalog's proven part hold samples of series that nobody knows any more.
            # The rebuild leaves them out, so that no new series is credited with them.
            after = successor(segment, interval_ns=fresh.interval_ns, capacity=fresh.capacity)
            try:
                rebuilt = publish(namespace, after, group, segment, still_present(segment))
            except NoSpace:
                if must:
                    raise
                # Only the monotonic times are of another boot: rates across it go by the wall clock then.
            else:
                segment.close()
                segment = rebuilt
        segment.sign()
        return Opened(segment, len(segment.history()), continues)


def _begin_beside(namespace: str, fresh: Header, group: str, snapshot_dir: Path | None, error: RingCorrupt) -> Opened:
    """Set aside what is published, which can't be used as ``error`` says, and begin with what is left of it."""
    left = None if isinstance(error, RingLayout) else _left_in(fresh.source, ring_path(namespace, fresh.source))
    aside = set_aside(namespace, fresh.source, error)
    try:
        return _begin(namespace, fresh, group, snapshot_dir, left)
    except NoSpace:
        if isinstance(error, RingLayout):
            raise
        # The damaged one is kept for whoever wants to look at it, not at the price of the ring.
        aside.unlink(missing_ok=True)
        if left is not None:
            left.close()  # it holds the room that was just made
            left = None
        return _begin(namespace, fresh, group, snapshot_dir)
    finally:
        if left is not None:
            left.close()


def _left_in(source: str, path: Path) -> StoredSegment | None:
    """The frames of a file whose header is whole and whose size or blocks are not."""
    try:
        fd, header = open_segment(source, path, os.O_RDONLY, os.geteuid(), harmed=True)
    except RingError:
        return None
    stored = StoredSegment(fd, header)
    if os.fstat(fd).st_size < header.slots_offset:  # without its catalog, frames are numbers without names
        stored.close()
        return None
    stored.read()
    return stored


def _begin(
    namespace: str, fresh: Header, group: str, snapshot_dir: Path | None, left: StoredSegment | None = None
) -> Opened:
    """Publish the first segment: with what is left of the one before, the snapshot's history, or nothing."""
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
            return Opened(publish(namespace, fresh, group), 0, continues=True)
        header = successor(past, interval_ns=fresh.interval_ns, capacity=fresh.capacity)
        segment = publish(namespace, header, group, past, still_present(past))
        # What was published after a snapshot is gone with shared memory; so may be the last frames of a cut file.
        continues = not past.lost_newest and (past is left or past.ended_well)
    frames = len(segment.history())
    log.info("history restored", extra={"ring": fresh.source, "frames": frames, "from": str(snapshot_dir or "")})
    return Opened(segment, frames, continues)


# ---- building the next one --------------------------------------------------------------------------------------


def shape(
    source: str, interval_ns: int, capacity: int, width: int, *, generation: int = 0, catalog_bytes: int = 0
) -> Header:
    """The header of a segment to be built; its catalog takes at least ``catalog_bytes``. Raises MetricError."""
    if width > MAX_WIDTH:
        raise MetricError(f"ring {source!r} would need {width} columns; the layout has at most {MAX_WIDTH}")
    wanted = max(catalog_bytes, _CATALOG_MIN, width * _ENTRY_ALLOWANCE)
    return Header(source, capacity, width, interval_ns, time.time_ns(), aligned(wanted, 64), generation, _boot_id())


def successor(
    old: StoredSegment, *, interval_ns: int = 0, capacity: int = 0, width: int = 0, catalog_room: int = 0
) -> Header:
    """The shape of the segment that follows ``old``; what is not given stays. ``catalog_room``: bytes to leave free."""
    header = old.header
    return shape(
        header.source, interval_ns or header.interval_ns, capacity or header.capacity, width or header.width,
        generation=header.generation + 1,
        # What the catalog holds must fit again, however long its labels are, and leave room for as much again.
        catalog_bytes=2 * old.catalog.used + catalog_room,
    )  # fmt: skip


def grown_width(width: int, needed: int) -> int:
    """The width for ``needed`` columns in a ring that ran out at ``width``, some of whose columns were freed.

    As it is while a quarter stays free: series that come and go must not widen a ring for ever.
    """
    if needed <= width * 3 // 4:
        return width
    return max(needed, min(aligned(max(needed, int(width * _GROWTH)), 8), MAX_WIDTH))


def still_present(old: StoredSegment, staged: Set[SeriesKey] = frozenset()) -> list[Series]:
    """All series but those that every frame held knows and none has a sample of.

    A series entered since the oldest frame is kept, sampled or not; so are all while the ring has not filled once, and
    those that are ``staged``: which have a sample in the frame that is about to be appended.
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
    """Build a whole segment and give it the source's name; ``old``'s frames and its series ``kept`` come along.

    ``redefined``: the new definitions of metrics of ``old``, by name; their kept series must fit them. Raises NoSpace,
    ConfigurationError; what is published stays as it is then.
    """
    temporary = building_path(namespace, header.source)
    fd, mapped = create(header.source, temporary, header.segment_bytes, group)
    segment = WritableSegment(fd, mapped, header, ring_path(namespace, header.source))
    try:
        segment.write_header()
        if old is not None:
            _carry_catalog(old, kept, segment, redefined)
            _carry_frames(old, kept, segment)
        # Magic last, then the name: no reader can find half a segment under either (I6).
        segment.finish()
        os.rename(temporary, ring_path(namespace, header.source))
    except BaseException:
        segment.close()
        temporary.unlink(missing_ok=True)
        raise
    return segment


def set_aside(namespace: str, source: str, error: RingCorrupt) -> Path:
    """Take the published segment's name from it, which can't be read as ``error`` says; its new path."""
    path = ring_path(namespace, source)
    aside = aside_path(path.with_suffix(""), error)
    log.error("segment set aside", extra={"ring": source, "as": str(aside), "error": str(error)})
    os.rename(path, aside)
    return aside


def _carry_catalog(
    old: StoredSegment, kept: Sequence[Series], new: WritableSegment, redefined: Mapping[str, Metric]
) -> None:
    """Enter all metrics, the kept series in their order without gaps between their columns, and the limits."""
    metrics = [redefined.get(metric.name, metric) for metric in old.catalog.metrics]
    bodies = [(KIND_METRIC, catalog.metric_body(metric)) for metric in metrics]
    column = 0
    for series in kept:
        index = old.metric_index[series.metric.name]
        bodies.append((KIND_SERIES, catalog.series_body(index, series.label_values, column)))
        column += series.metric.columns
    bodies += [(KIND_LIMIT, catalog.limit_body(metric, limit)) for metric, limit in old.catalog.limits.items()]
    for kind, body in bodies:
        fits = new.enter(kind, body)
        assert fits, "successor() leaves room for all that the old catalog holds"


def _carry_frames(old: StoredSegment, kept: Sequence[Series], new: WritableSegment) -> None:
    """Copy the newest frames, as many as fit, under their own sequences, each column where its series now lives."""
    blocks = _blocks(kept)
    size = new.header.slot_bytes - SLOT_PAYLOAD
    absent = ABSENT * new.header.width
    later_ns = _monotonic_shift_ns(old, new.header)
    copied = set()
    for sequence in old.history()[-new.header.capacity :]:
        frame = old.frame(sequence)
        if frame is None:
            continue
        # How much of each block the frame knew: it may be older than the last series. Blocks keep their order, so
        # what it knew comes first again, and its count still tells which series are younger.
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
    # Without frames it is no event to anybody: a new ring takes its shape with the first collection.
    log.log(logging.INFO if copied else logging.DEBUG, "ring rebuilt", extra={
        "ring": new.header.source, "frames": len(copied), "width": new.header.width, "capacity": new.header.capacity,
        "bytes": new.header.segment_bytes,
    })  # fmt: skip


def _monotonic_shift_ns(old: StoredSegment, new: Header) -> int:
    """What to add to the monotonic times of an earlier boot, so that they lie on this boot's clock, below zero mostly.

    Rates and ages are then right over a reboot, as far as the wall clock was. Within a boot nothing moves.
    """
    if old.header.boot_id == new.boot_id:
        return 0
    was_ns = old.clock_offset_ns()
    return 0 if was_ns is None else was_ns - (time.time_ns() - time.monotonic_ns())


def _blocks(kept: Sequence[Series]) -> list[tuple[int, int]]:
    """The old columns of the kept series as (start, end), neighbours joined."""
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
