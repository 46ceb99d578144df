"""Take and load snapshots: a copy of a ring's segment on disk, from which a writer restores lost shared memory.

    DIRECTORY/fogmetrics.NAMESPACE.SOURCE.snapshot            the last snapshot, whole
    DIRECTORY/fogmetrics.NAMESPACE.SOURCE.snapshot.new        being written; the next snapshot overwrites it
    DIRECTORY/fogmetrics.NAMESPACE.SOURCE.snapshot.before     one with newer frames than the ring copied after it
    DIRECTORY/fogmetrics.NAMESPACE.SOURCE.snapshot.corrupt    set aside by a writer that could not read all of it
    DIRECTORY/fogmetrics.NAMESPACE.SOURCE.snapshot.layout-N   the same, of another release

A snapshot is taken while the writer appends: slots first, catalog and header last, so that the catalog names every
column of the copied frames. A slot that is written while it is copied is torn in the copy, and its seal fails as for a
reader. So neither the writer nor the copy waits, and restoring a snapshot proves every frame by the same seals.

A file gets the name only when all of it is on disk: a power failure leaves the previous snapshot. The pid in its header
is 0 if the writer had stopped in good order: then the snapshot has all published frames. Otherwise the writer may have
appended more after it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from shm.errors import ConfigurationError, RingCorrupt, RingError, RingMissing
from shm.files import DIRECTORY, aside_path, check_name, open_segment, ring_path
from shm.ring.layout import WORD_HEAD, Header
from shm.ring.segment import StoredSegment

log = logging.getLogger(__name__)

# Bytes per copy: a small block lets the collector's thread have the interpreter soon.
_BLOCK_BYTES: Final = 1 << 18
_NOT_OURS: Final = 1 << 64  # above every head: a file that is unreadable or another user's is never replaced


def file_of(directory: Path, namespace: str, source: str) -> Path:
    return directory / f"fogmetrics.{namespace}.{source}.snapshot"


def take(directory: Path, namespace: str, source: str, opened: tuple[int, Header] | None = None) -> int:
    """Write a snapshot of the source's ring; its size in bytes.

    ``opened``: a descriptor of the ring, which is closed, and its header; by default the published ring is opened.
    Raises OSError (BlockingIOError while another snapshot is taken), RingMissing, RingCorrupt; the previous snapshot
    is unchanged then.
    """
    ring, header = opened or open_segment(source, ring_path(namespace, source), os.O_RDONLY, os.geteuid())
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        final = file_of(directory, namespace, source)
        temporary = final.with_name(f"{final.name}.new")
        disk = _create(temporary)
        try:
            _copy(source, ring, disk, header.slots_offset, header.segment_bytes)
            _copy(source, ring, disk, 0, header.slots_offset)
            os.fsync(disk)
            _keep_longer(source, final, temporary)
            os.rename(temporary, final)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        finally:
            os.close(disk)
        _sync(directory)
        return header.segment_bytes
    finally:
        os.close(ring)


def load(directory: Path, namespace: str, source: str) -> StoredSegment | None:
    """Open and prove the source's snapshot; None if there is no readable one. The caller closes it.

    A damaged snapshot, or one of another layout, is renamed; an unreadable one, or another user's, is left in place.
    Each is logged.
    """
    path = file_of(directory, namespace, source)
    try:
        # The file may be compressed or sparse: it is read, never mapped.
        fd, header = open_segment(source, path, os.O_RDONLY, os.geteuid(), on_disk=True)
    except RingMissing:
        return None
    except RingCorrupt as error:
        _set_aside(source, path, error)
        return None
    except (RingError, OSError) as error:
        log.error("snapshot refused", extra={"ring": source, "path": str(path), "error": str(error)})
        return None
    stored = StoredSegment(fd, header)
    try:
        damaged = stored.read()
    except OSError as error:  # not even its catalog
        stored.close()
        log.error("snapshot refused", extra={"ring": source, "path": str(path), "error": str(error)})
        return None
    if damaged:  # its proven part is restored; the file is kept, since the next snapshot has only that part
        _set_aside(source, path, RingCorrupt(source, "the catalog does not name all columns of the frames"))
    return stored


@contextlib.contextmanager
def completing(stored: StoredSegment, directory: Path | None, namespace: str) -> Iterator[None]:
    """Within the block, ``stored`` also has the frames that only its snapshot in ``directory`` holds."""
    past = load(directory, namespace, stored.header.source) if directory is not None else None
    if past is None:
        yield
        return
    with contextlib.closing(past):
        stored.complete(past)
        yield


def unlink(directory: Path, namespace: str, source: str = "*") -> list[Path]:
    """Remove the snapshots of a source, or of all, including those set aside; the paths that were removed."""
    check_name("namespace", namespace)
    if source != "*":
        check_name("the name of a source", source)
    removed = sorted(directory.glob(f"{file_of(directory, namespace, source).name}*"))
    for path in removed:
        path.unlink(missing_ok=True)
    return removed


def check_directory(directory: Path, where: str) -> None:
    """Raises ConfigurationError if ``directory`` can't be a directory on disk; it is created with the first snapshot.

    ``where``: how the message names the table.
    """
    text = str(directory)
    rule = ""
    if "\0" in text or not text.strip():
        rule = "which is not a path"
    elif text.startswith("~"):
        rule = "but ~ is not expanded in a configuration"
    elif directory.exists() and not directory.is_dir():
        rule = "which is not a directory"
    elif DIRECTORY in (resolved := directory.resolve(), *resolved.parents):
        rule = "which is in shared memory, and lost with it"
    if rule:
        raise ConfigurationError(f"{where} snapshot_dir is {text!r}, {rule}; give the path of a directory on disk")


def _create(path: Path) -> int:
    """Create or empty the file to be written, and lock it until it is closed.

    Raises BlockingIOError while another holds the lock: an abandoned thread, or a container that shares the directory.
    A process's death frees its lock, and the file it left is overwritten.
    """
    while True:
        disk = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        try:
            fcntl.flock(disk, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine = os.fstat(disk)
            if not stat.S_ISREG(mine.st_mode) or mine.st_uid != os.geteuid() or mine.st_nlink > 1:
                raise PermissionError(errno.EPERM, "it is not a regular file of this user; remove it", str(path))
            # Check that the file still has the name: the last holder may have renamed it between open and lock.
            if mine.st_nlink and os.stat(path, follow_symlinks=False).st_ino == mine.st_ino:
                os.ftruncate(disk, 0)
                return disk
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(disk)
            raise
        os.close(disk)


def _keep_longer(source: str, final: Path, new: Path) -> None:
    """Rename the last snapshot to ``.before`` if the new one has no frames as new, so that its history is not lost.

    This happens if the ring was created without its history: the disk was mounted too late, or the file was refused.
    """
    kept = final.with_name(f"{final.name}.before")
    before, now = _head_of(final), _head_of(new)
    if before > now and before >= _head_of(kept):
        log.error("snapshot kept", extra={
            "ring": source, "as": str(kept), "error": "the ring was created without it and is older",
        })  # fmt: skip
        os.rename(final, kept)


def _head_of(path: Path) -> int:
    """The head in the file's header, a hint; -1 if there is no file."""
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK)) as file:
            if os.fstat(file.fileno()).st_uid == os.geteuid():
                return int.from_bytes(os.pread(file.fileno(), 8, 8 * WORD_HEAD), "little")
    except FileNotFoundError:
        return -1
    except OSError:
        pass
    return _NOT_OURS


def _set_aside(source: str, path: Path, error: RingCorrupt) -> None:
    aside = aside_path(path, error)
    log.error("snapshot set aside", extra={"ring": source, "as": str(aside), "error": str(error)})
    with contextlib.suppress(OSError):
        os.rename(path, aside)


def _copy(source: str, ring: int, disk: int, start: int, end: int) -> None:
    """Copy bytes ``start`` to ``end`` of the ring to the same offset on disk. Other threads run meanwhile."""
    while start < end:
        block = os.pread(ring, min(_BLOCK_BYTES, end - start), start)
        if not block:
            raise RingCorrupt(source, "its file was cut short while its snapshot was taken")
        view = memoryview(block)
        while view:
            view = view[os.pwrite(disk, view, start + len(block) - len(view)) :]
        start += len(block)


def _sync(directory: Path) -> None:
    """Make the rename durable."""
    fd = os.open(directory, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
