"""A ring's snapshot: the segment's own bytes in a file on disk, for the day when shared memory was emptied.

    DIRECTORY/fogmetrics.NAMESPACE.SOURCE.snapshot            the last one, whole
    DIRECTORY/fogmetrics.NAMESPACE.SOURCE.snapshot.new        being written; the next one takes it over
    DIRECTORY/fogmetrics.NAMESPACE.SOURCE.snapshot.before     reached further than the ring that was copied after it
    DIRECTORY/fogmetrics.NAMESPACE.SOURCE.snapshot.corrupt    set aside by a writer that could not read all of it
    DIRECTORY/fogmetrics.NAMESPACE.SOURCE.snapshot.layout-N   the same, of another release

A snapshot is taken beside a writer that goes on: slots first, catalog and header last, so that it names every column
that a copied frame knows. A slot that was being written while it was copied is torn in the copy, and its seal says so,
as it would to a reader. So nothing waits: not the writer for the copy, nor the copy for the writer; and every frame of
a snapshot is proven, by the same seals, when it is restored.

A file takes the name only when all of it is on disk: a power failure leaves the snapshot before it. The pid in its
header tells how it came about: 0, its writer had ended in good order, and it has all that was published; else the
writer went on after it.
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

# Copied at once: small enough that a tick waits for the interpreter no longer than between two of them.
_BLOCK_BYTES: Final = 1 << 18
_NOT_SUPPORTED: Final = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)
_NOT_OURS: Final = 1 << 64  # beyond every head: what can't be read, or is another's, is never replaced


def file_of(directory: Path, namespace: str, source: str) -> Path:
    return directory / f"fogmetrics.{namespace}.{source}.snapshot"


def take(directory: Path, namespace: str, source: str, opened: tuple[int, Header] | None = None) -> int:
    """Write the snapshot of the source's ring; its bytes.

    ``opened``: a descriptor of the ring, which is closed, and its header; by default the published one is opened.
    Raises OSError (BlockingIOError while another takes one), RingMissing, RingCorrupt; the snapshot before it stays.
    """
    ring, header = opened or open_segment(source, ring_path(namespace, source), os.O_RDONLY, os.geteuid())
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        final = file_of(directory, namespace, source)
        temporary = final.with_name(f"{final.name}.new")
        disk = _create(temporary)
        try:
            _reserve(disk, header.segment_bytes)
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
    """The snapshot's proven history, to be closed by the caller; None where there is none that can be read.

    One that is damaged or of another layout is set aside by name, one that is not ours or can't be read is left where
    it is; all of them are said in the log.
    """
    path = file_of(directory, namespace, source)
    try:
        # What the directory holds may be compressed or sparse: it is read, never mapped.
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
        _, damaged = stored.read()
    except OSError as error:  # not even its catalog
        stored.close()
        log.error("snapshot refused", extra={"ring": source, "path": str(path), "error": str(error)})
        return None
    if damaged:  # restored as far as it is proven, and kept: the next snapshot has no more than that
        _set_aside(source, path, RingCorrupt(source, "the catalog does not name all columns of the frames"))
    return stored


@contextlib.contextmanager
def completing(stored: StoredSegment, directory: Path | None, namespace: str) -> Iterator[None]:
    """For as long as the block lasts, ``stored`` also has the frames that only its snapshot in ``directory`` has."""
    past = load(directory, namespace, stored.header.source) if directory is not None else None
    if past is None:
        yield
        return
    with contextlib.closing(past):
        stored.complete(past)
        yield


def unlink(directory: Path, namespace: str, source: str = "*") -> list[Path]:
    """Remove a source's snapshots on purpose, or all; those set aside included. The paths that were removed."""
    check_name("namespace", namespace)
    if source != "*":
        check_name("the name of a source", source)
    removed = sorted(directory.glob(f"{file_of(directory, namespace, source).name}*"))
    for path in removed:
        path.unlink(missing_ok=True)
    return removed


def check_directory(directory: Path, where: str) -> None:
    """ConfigurationError for what can't be meant; whether it can be made and written shows when one is taken.

    ``where``: how the message names the table.
    """
    text = str(directory)
    rule = ""
    if "\0" in text or not text.strip():
        rule = "which is no path"
    elif text.startswith("~"):
        rule = "and nothing stands for ~ in a configuration"
    elif directory.exists() and not directory.is_dir():
        rule = "which is no directory"
    elif DIRECTORY in (resolved := directory.resolve(), *resolved.parents):
        rule = "which is in shared memory, and emptied with it"
    if rule:
        raise ConfigurationError(f"{where} snapshot_dir is {text!r}, {rule}; give the path of a directory on disk")


def _create(path: Path) -> int:
    """The file to be written, empty and ours alone until it is closed.

    Raises BlockingIOError while another writes one: a thread that was given up waiting for, a container that shares the
    directory. A dead one's lock is gone with it, and its file is taken over.
    """
    while True:
        disk = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        try:
            fcntl.flock(disk, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine = os.fstat(disk)
            if not stat.S_ISREG(mine.st_mode) or mine.st_uid != os.geteuid() or mine.st_nlink > 1:
                raise PermissionError(errno.EPERM, "it is no file of this user's own; remove it", str(path))
            # It has its name still: the one before may have given it away between the opening and the lock.
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
    """Give the last snapshot another name if the new one does not reach as far, so that no accident costs both.

    As when the disk was mounted only after the ring was begun without its history, or the file was refused.
    """
    kept = final.with_name(f"{final.name}.before")
    before, now = _head_of(final), _head_of(new)
    if before > now and before >= _head_of(kept):
        log.error("snapshot kept", extra={
            "ring": source, "as": str(kept), "error": "the ring was begun without it, and does not reach as far",
        })  # fmt: skip
        os.rename(final, kept)


def _head_of(path: Path) -> int:
    """The head as the file's header hints; -1 where there is no file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return -1
    except OSError:
        return _NOT_OURS
    try:
        if os.fstat(fd).st_uid != os.geteuid():
            return _NOT_OURS
        return int.from_bytes(os.pread(fd, 8, 8 * WORD_HEAD), "little")
    except OSError:
        return _NOT_OURS
    finally:
        os.close(fd)


def _set_aside(source: str, path: Path, error: RingCorrupt) -> None:
    aside = aside_path(path, error)
    log.error("snapshot set aside", extra={"ring": source, "as": str(aside), "error": str(error)})
    with contextlib.suppress(OSError):
        os.rename(path, aside)


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
