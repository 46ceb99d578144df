"""A ring's snapshot: the segment's own bytes in a file on disk, for the day when shared memory was emptied.

    DIRECTORY/fogmetrics.NAMESPACE.SOURCE.snapshot            the last one, whole
    DIRECTORY/fogmetrics.NAMESPACE.SOURCE.snapshot.new        being written; the next one removes it
    DIRECTORY/fogmetrics.NAMESPACE.SOURCE.snapshot.corrupt    set aside by a writer that could not read it
    DIRECTORY/fogmetrics.NAMESPACE.SOURCE.snapshot.layout-N   the same, of another release

A snapshot is taken beside a writer that goes on: slots first, catalog and header last, so that it names every column
that a copied frame knows. A slot that was being written while it was copied is torn in the copy, and its seal says so,
as it would to a reader. So nothing waits: not the writer for the copy, nor the copy for the writer; and every frame of
a snapshot is proven, by the same seals, when it is restored.

A file takes the name only when all of it is on disk: a power failure leaves the snapshot before it.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from pathlib import Path
from typing import Final

from shm.errors import RingCorrupt, RingError, RingMissing
from shm.segment import aside_path, attach_readonly, open_segment, ring_path
from shm.stored import StoredSegment

log = logging.getLogger(__name__)

# Copied at once: small enough that a tick waits for the interpreter no longer than between two of them.
_BLOCK_BYTES: Final = 1 << 18
_NOT_SUPPORTED: Final = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)


def file_of(directory: Path, namespace: str, source: str) -> Path:
    return directory / f"fogmetrics.{namespace}.{source}.snapshot"


def take(directory: Path, namespace: str, source: str) -> int:
    """Write the snapshot of the source's published ring; its bytes. One caller at a time for each source.

    Raises OSError, RingMissing, RingCorrupt; the snapshot before it stays then.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    final = file_of(directory, namespace, source)
    temporary = final.with_name(f"{final.name}.new")
    ring, header = attach_readonly(source, ring_path(namespace, source), os.geteuid())
    try:
        temporary.unlink(missing_ok=True)
        disk = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            _reserve(disk, header.segment_bytes)
            _copy(source, ring, disk, header.slots_offset, header.segment_bytes)
            _copy(source, ring, disk, 0, header.slots_offset)
            os.fsync(disk)
        finally:
            os.close(disk)
        os.rename(temporary, final)
        _sync(directory)
        return header.segment_bytes
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(ring)


def load(directory: Path, namespace: str, source: str) -> StoredSegment | None:
    """The snapshot's proven history, to be closed by the caller; None where there is none that can be read.

    One that is damaged or of another layout is set aside by name, one that is not ours is left where it is; both
    are said in the log.
    """
    path = file_of(directory, namespace, source)
    try:
        # What the directory holds may be compressed or sparse: it is read, never mapped.
        fd, header = open_segment(source, path, os.O_RDONLY, os.geteuid(), on_disk=True)
    except RingMissing:
        return None
    except RingCorrupt as error:
        aside = aside_path(path, error)
        log.error("snapshot set aside", extra={"ring": source, "as": str(aside), "error": str(error)})
        with contextlib.suppress(OSError):
            os.rename(path, aside)
        return None
    except (RingError, OSError) as error:
        log.error("snapshot refused", extra={"ring": source, "path": str(path), "error": str(error)})
        return None
    stored = StoredSegment(fd, header)
    try:
        stored.read()
    except BaseException:
        stored.close()
        raise
    return stored


def unlink(directory: Path, namespace: str, source: str = "*") -> list[Path]:
    """Remove a source's snapshots on purpose, or all; those set aside included. The paths that were removed."""
    removed = sorted(directory.glob(f"{file_of(directory, namespace, source).name}*"))
    for path in removed:
        path.unlink(missing_ok=True)
    return removed


def _reserve(disk: int, size: int) -> None:
    """All of it before the first byte: a full disk is an error before the copy is made, not in its middle."""
    try:
        os.posix_fallocate(disk, 0, size)
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise


def _copy(source: str, ring: int, disk: int, start: int, end: int) -> None:
    """Bytes ``start`` to ``end`` of the ring to the same place on disk. The interpreter is free meanwhile."""
    while start < end:
        block = os.pread(ring, min(_BLOCK_BYTES, end - start), start)
        if not block:
            raise RingCorrupt(source, "its file was cut short while its snapshot was taken")
        view = memoryview(block)
        while view:
            view = view[os.pwrite(disk, view, start + len(block) - len(view)) :]
        start += len(block)


def _sync(directory: Path) -> None:
    """Make the rename itself durable."""
    fd = os.open(directory, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
