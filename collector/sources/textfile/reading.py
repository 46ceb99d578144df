"""One file of the directory, read whole or refused: whatever lies under its name, reading it ends.

Programs write as they like, so what is there is looked at before it is opened, and once more behind it:

R1  stat(2), following symbolic links, says that it is a regular file, no larger than allowed. Only then it is opened:
    to open a device may already do something (rewind a tape, start a watchdog), to open a FIFO waits for its writer.
R2  It is opened O_NONBLOCK, for the moment in which the name may have got to be a FIFO's; fstat(2) must say again that
    it is regular. Not O_NOFOLLOW: a link to a file elsewhere is how files are shared between directories.
R3  At most one byte more than allowed is read, whatever the size was.
R4  Size and times are the same behind the last read as before the first, else somebody wrote meanwhile: refused, for
    it may be half of one text and half of another. A file that is replaced by rename(2) is not changed but for its
    ctime, which is left out: the open one is read to its end, the next collection reads the new one.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import Final, NamedTuple

from shm.errors import FogmetricsError

_FLAGS: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_KINDS: Final = {
    stat.S_IFDIR: "a directory", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}  # fmt: skip


class Refused(FogmetricsError):
    """A file that can't be read as it is, or not be used."""


class State(NamedTuple):
    """What tells one content of a file from another: as much as stat(2) has."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


def state_of(path: str, max_bytes: int) -> State:
    """R1. Raises Refused; FileNotFoundError where there is nothing by that name."""
    try:
        return _regular(os.stat(path), max_bytes)
    except FileNotFoundError:
        if os.path.islink(path):
            raise Refused("it is a symbolic link to nothing; remove it, or make what it names") from None
        raise
    except OSError as error:
        raise Refused(f"it can't be looked at: {error.strerror}; see its permissions and its links") from None


def read(path: str, max_bytes: int) -> tuple[State, str]:
    """R2 to R4: the file's text, and of which state it is. Raises Refused, FileNotFoundError."""
    try:
        fd = os.open(path, _FLAGS)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Refused(f"it can't be opened: {error.strerror}; let the collector's user read it") from None
    try:
        before = _regular(os.fstat(fd), max_bytes)
        data = _content(fd, max_bytes)
        after = _state(os.fstat(fd))
        changed = len(data) != before.size or (after.size, after.mtime_ns) != (before.size, before.mtime_ns)
    except OSError as error:
        raise Refused(f"it can't be read: {error.strerror}; see the file system it is on") from None
    finally:
        with contextlib.suppress(OSError):
            os.close(fd)
    if changed:
        raise Refused("it was written to while it was read; write under another name, then rename it")
    try:
        return before, data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise Refused(
            f"line {line}: the byte 0x{data[error.start]:02x} is not UTF-8; write the file in UTF-8"
        ) from None


def _content(fd: int, max_bytes: int) -> bytes:
    parts, left = [], max_bytes + 1
    while left > 0 and (part := os.read(fd, min(left, 1 << 20))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _regular(found: os.stat_result, max_bytes: int) -> State:
    kind = stat.S_IFMT(found.st_mode)
    if kind != stat.S_IFREG:
        raise Refused(f"it is {_KINDS.get(kind, 'no file')}, and only regular files are read; remove it, or rename it")
    if found.st_size > max_bytes:
        raise Refused(
            f"it has {found.st_size} bytes, more than {max_bytes}; make it smaller, or raise [source.textfile] "
            "max_file_bytes"
        )
    return _state(found)


def _state(found: os.stat_result) -> State:
    return State(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
