"""How a writer comes by its segment when it starts: it resumes what is published, or begins anew with what is left.

published is …                    then
--------------------------------  -------------------------------------------------------------------------------
whole, and of this configuration  resumed where it is
of another capacity or interval,  rebuilt: built beside, with its history, and published in its place
another boot, catalog damaged
lacking frames                    the same, with those that the snapshot has of them
not to be read                    set aside by name; its frames are taken over if only size or blocks are wrong,
nothing                           else the snapshot's, else it begins empty
"""

from __future__ import annotations

import contextlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from shm.errors import NoSpace, RingCorrupt, RingError, RingLayout, RingMissing
from shm.files import attach_writable, open_segment, ring_path
from shm.ring import disk_copy
from shm.ring.layout import Header
from shm.ring.rebuild import publish, set_aside, still_present, successor
from shm.ring.segment import StoredSegment
from shm.ring.writable import WritableSegment

log = logging.getLogger(__name__)


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
