"""Name, open, check, map and remove segment files. :mod:`shm.create` creates them.

A segment is POSIX shared memory: a file in /dev/shm. File names contain namespace and source, so that discovery is one
directory listing, and tests and a second instance use separate files. :mod:`shm.ring.protocol` lists the names by
state; fogmetrics.NAMESPACE.SOURCE.lock is the writer's lock (I5), which is not removed when the writer ends.

Segments are opened with ``os.open``: ``multiprocessing.shared_memory`` attaches read-write only, and its resource
tracker unlinks segments when a process that attached to them ends (python/cpython#82300, #153279).
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import mmap
import os
import re
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from shm.errors import (
    ConfigurationError,
    RingCorrupt,
    RingError,
    RingForeign,
    RingLayout,
    RingMissing,
)
from shm.ring.layout import HEADER_BYTES, IMMUTABLE_START, SOURCE_BYTES, Header, read_header
from shm.ring.lock import WriterLock

DIRECTORY: Final = Path("/dev/shm")  # noqa: S108 -- where shm_open puts them
_PREFIX: Final = "fogmetrics"
# errno of open(2) with O_NOFOLLOW for a link, a socket, and, to write, a directory
NOT_A_FILE: Final = (errno.ELOOP, errno.ENXIO, errno.EISDIR)
RING: Final = ".ring"  # the ending of published segments
RING_DOTS, TABLE_DOTS = 3, 4  # number of dots in the file names
NAME: Final = re.compile(rf"[A-Za-z0-9_-]{{1,{SOURCE_BYTES}}}\Z")  # no dots, which separate fields of the file name


def check_name(what: str, name: str) -> str:
    """``name`` if it can be part of a segment's name, else ConfigurationError."""
    if not NAME.match(name):
        raise ConfigurationError(
            f"{what} is {name!r}; use 1 to {SOURCE_BYTES} letters, digits, '_' and '-': it becomes a file name"
        )
    return name


def file_start(namespace: str) -> str:
    """The beginning of the names of all files of a namespace."""
    return f"{_PREFIX}.{namespace}."


def ring_path(namespace: str, source: str) -> Path:
    return DIRECTORY / f"{_PREFIX}.{namespace}.{source}.ring"


def building_path(namespace: str, source: str) -> Path:
    return DIRECTORY / f"{_PREFIX}.{namespace}.{source}.new"


def lock_path(namespace: str, source: str) -> Path:
    return DIRECTORY / f"{_PREFIX}.{namespace}.{source}.lock"


def aside_path(base: Path, error: RingCorrupt) -> Path:
    """The name under which an unreadable file is set aside: ``base`` with an ending that depends on ``error``.

    A damaged file replaces the one set aside before it. A file of another layout gets an unused name, and is kept. So
    does a damaged one if the name is another user's file.
    """
    ending = f"layout-{error.version}" if isinstance(error, RingLayout) else "corrupt"
    for number in itertools.count():
        path = base.with_name(f"{base.name}.{ending}-{number}" if number else f"{base.name}.{ending}")
        if not os.path.lexists(path) or (ending == "corrupt" and removable(path)):
            break
    return path


def in_the_way(path: Path, error: OSError) -> str:
    """A sentence about a file that can't be removed or replaced, most likely another user's."""
    try:
        whose = f"belongs to user {path.lstat().st_uid} and "
    except OSError:
        whose = ""
    return f"{path} {whose}can't be replaced: {error.strerror}; remove it as that user, or choose another namespace"


def files_of(namespace: str, name: str, dots: int = RING_DOTS) -> list[Path]:
    """All files of a source's ring, or of an application's tables (TABLE_DOTS), whatever their state; not the lock.

    Only those that this user may remove, as in :func:`sources_of`: other users can create files under any name.
    """
    files = DIRECTORY.glob(f"{_PREFIX}.{namespace}.{name}.*")
    return sorted(path for path in files if path.name.count(".") == dots and path.suffix != ".lock" and removable(path))


def sources_of(namespace: str, dots: int = RING_DOTS) -> list[str]:
    """The sources, or the applications (TABLE_DOTS), that have any file in shared memory, the lock included."""
    check_name("namespace", namespace)
    files = DIRECTORY.glob(f"{file_start(namespace)}*")
    found = {path.name.split(".")[2] for path in files if path.name.count(".") == dots and removable(path)}
    return sorted(filter(NAME.match, found))


def elsewhere() -> str:
    """Where a user may have meant to remove files, if a namespace has none: the namespaces with files of this user."""
    found = {path.name.split(".")[1] for path in DIRECTORY.glob(f"{_PREFIX}.*.*") if removable(path)}
    names = sorted(name for name in found if NAME.match(name))
    return f"namespaces with files: {', '.join(names)}" if names else "no namespace has any"


def removable(path: Path) -> bool:
    """Whether this user may remove it: /dev/shm is sticky, so only its owner and root may. False for a directory."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return os.geteuid() in (0, status.st_uid) and not stat.S_ISDIR(status.st_mode)


def rings_in(names: Iterable[str], namespace: str) -> list[str]:
    """The sources with a published segment in ``namespace``, sorted. ``names``: the files in /dev/shm."""
    start = file_start(namespace)
    found = (name[len(start) : -len(RING)] for name in names if name.startswith(start) and name.endswith(RING))
    return sorted(source for source in found if NAME.match(source))


def attach(source: str, path: Path, owner: int, *, writable: bool = False) -> tuple[int, mmap.mmap, Header]:
    """Map a published segment: (fd, map, header). Read-only (I8), or ``writable`` for the writer that holds its lock.

    Raises RingMissing, RingForeign if it is not a regular file of user ``owner``, RingCorrupt if its header, its size
    and its allocated blocks do not agree (I7, I9), RingError if there is not enough address space.
    """
    flags, rights = (os.O_RDWR, mmap.PROT_READ | mmap.PROT_WRITE) if writable else (os.O_RDONLY, mmap.PROT_READ)
    fd, header = open_segment(source, path, flags, owner)
    try:
        return fd, mmap.mmap(fd, header.segment_bytes, prot=rights), header
    except BaseException as error:
        os.close(fd)
        if not isinstance(error, (OSError, ValueError)):
            raise
        raise RingError(source, f"{path} can't be mapped: {error}") from error  # no address space, or cut since


def open_segment(
    source: str, path: Path, flags: int, owner: int, *, on_disk: bool = False, harmed: bool = False
) -> tuple[int, Header]:
    """Open a segment and check its file and header: (fd, header).

    ``on_disk``: fewer blocks than bytes are allowed, since file systems compress. ``harmed``: any size and holes are
    allowed, for callers that read what is left of the file and don't map it.
    """
    try:
        fd = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise RingMissing(source, f"there is no segment {path}; is its collector running?") from None
    except OSError as error:
        if error.errno in NOT_A_FILE:
            raise RingForeign(source, f"{path} is not a regular file; remove it") from None
        remedy = "see that it is a file of this user" if on_disk else "give this user the group of that file"
        raise RingForeign(source, f"{path} can't be opened: {error.strerror}; {remedy}") from error
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise RingForeign(source, f"{path} is not a regular file; remove it")
        if status.st_uid != owner:
            remedy = "chown it" if on_disk else "remove it, or name that user as the owner"
            raise RingForeign(source, f"{path} belongs to user {status.st_uid}, expected {owner}; {remedy}")
        page = os.pread(fd, HEADER_BYTES, 0)
        size = int.from_bytes(page[IMMUTABLE_START : IMMUTABLE_START + 8], "little") if harmed else status.st_size
        header = read_header(source, page, size)
        if header.source != source:
            raise RingCorrupt(source, f"source is {header.source!r}, but the file is {path.name}")
        if status.st_blocks * 512 < header.segment_bytes and not (on_disk or harmed):
            # A hole: on a full tmpfs, the writer that maps the file would die of a SIGBUS when it touches the page.
            allocated = status.st_blocks * 512
            raise RingCorrupt(source, f"{allocated} bytes are allocated of {header.segment_bytes}: it has holes")
        return fd, header
    except BaseException:
        os.close(fd)
        raise


def change_of(path: Path, inode: int, size: int) -> str:
    """How another process changed a published file that is open here, as a phrase; empty while it is as published."""
    try:
        status = os.stat(path, follow_symlinks=False)
    except OSError:
        return "was removed"
    if status.st_ino != inode:  # while the file is open, no other file gets its inode number
        return "lost its name to another file"
    if status.st_size != size:
        return f"was cut or extended to {status.st_size} bytes"
    if status.st_blocks * 512 < size:
        return "had a hole cut into it"
    return ""


def unlink(namespace: str, source: str, *, lock_too: bool = False) -> list[Path]:
    """Remove all files of a source's ring, as :func:`remove` does; the paths that were removed."""
    check_name("namespace", namespace)
    check_name("the name of a source", source)
    return remove(source, lock_path(namespace, source), lambda: files_of(namespace, source), lock_too)


def remove(name: str, lock: Path, find: Callable[[], list[Path]], lock_too: bool) -> list[Path]:
    """Remove the files that ``find`` returns, under the lock at that path; the paths that were removed.

    ``lock_too``: also remove the lock file, when a whole namespace is removed; a writer that starts meanwhile notices
    at its first frame, and ends. Raises WriterBusy while a writer holds the lock, RingForeign for another user's file.
    """
    with contextlib.suppress(OSError):
        if not stat.S_ISREG(lock.lstat().st_mode):  # then it is no writer's, and nobody could take it
            lock.unlink()
    held = WriterLock.acquire(lock, name, of_any_user=os.geteuid() == 0)
    try:
        removed = find() + ([lock] if lock_too else [])
        for path in removed:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise RingForeign(name, f"{path} can't be removed: {error.strerror}; remove it") from error
        return removed
    finally:
        held.release()
