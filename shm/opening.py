"""How a writer comes by its segment when it starts: it resumes what is published, or begins anew, from a snapshot if it
can.

    published is …                    then
    --------------------------------  -------------------------------------------------------------------------------
    whole, and of this configuration  resumed where it is
    of another capacity or interval,  rebuilt: built beside, with its history, and published in its place
    another boot, catalog damaged
    nothing                           the snapshot is restored, else an empty segment published
    not to be read                    set aside by name; then the same
"""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

from shm import snapshot
from shm.errors import NoSpace, RingCorrupt, RingLayout, RingMissing
from shm.layout import Header
from shm.rebuild import publish, set_aside, still_present, successor
from shm.segment import attach_writable, ring_path
from shm.writable import WritableSegment

log = logging.getLogger(__name__)


def open_ring(namespace: str, fresh: Header, group: str, snapshot_dir: Path | None) -> tuple[WritableSegment, int]:
    """(the segment to write to, how many frames it has from before). The caller holds the source's lock.

    ``fresh``: an empty segment of the configuration. Raises NoSpace, RingForeign, RingError, ConfigurationError.
    """
    try:
        segment = WritableSegment(*attach_writable(fresh.source, ring_path(namespace, fresh.source)))
    except RingMissing:
        return _begin(namespace, fresh, group, snapshot_dir)
    except RingCorrupt as error:
        aside = set_aside(namespace, fresh.source, error)
        try:
            return _begin(namespace, fresh, group, snapshot_dir)
        except NoSpace:
            if isinstance(error, RingLayout):
                raise
            # The damaged one is kept for whoever wants to look at it, not at the price of the ring.
            aside.unlink(missing_ok=True)
            return _begin(namespace, fresh, group, snapshot_dir)
    try:
        return _resume(namespace, segment, fresh, group)
    except BaseException:
        segment.close()
        raise


def _resume(namespace: str, segment: WritableSegment, fresh: Header, group: str) -> tuple[WritableSegment, int]:
    found, damaged = segment.resume()
    header = segment.header
    shape = header.capacity, header.interval_ns, header.boot_id
    if damaged or shape != (fresh.capacity, fresh.interval_ns, fresh.boot_id):
        # After damage, columns past the catalog's proven part hold samples of series that nobody knows any more. The
        # rebuild leaves them out, so that no new series is credited with them.
        header = successor(segment, interval_ns=fresh.interval_ns, capacity=fresh.capacity)
        rebuilt = publish(namespace, header, group, segment, still_present(segment))
        segment.close()
        segment = rebuilt
    segment.sign()
    return segment, found


def _begin(namespace: str, fresh: Header, group: str, snapshot_dir: Path | None) -> tuple[WritableSegment, int]:
    """Publish the first segment: with the snapshot's history where there is one, else an empty one."""
    past = snapshot.load(snapshot_dir, namespace, fresh.source) if snapshot_dir is not None else None
    if past is None:
        return publish(namespace, fresh, group), 0
    with contextlib.closing(past):
        header = successor(past, interval_ns=fresh.interval_ns, capacity=fresh.capacity)
        segment = publish(namespace, header, group, past, still_present(past))
    frames = len(segment.history())
    log.info("history restored", extra={"ring": fresh.source, "frames": frames, "from": str(snapshot_dir)})
    return segment, frames
