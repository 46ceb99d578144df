"""Reads one file of the directory completely, or refuses it; reading never blocks.

Any program may write there, so a file is checked before and after it is opened:

R1  Before opening, stat(2), which follows symbolic links, must report a regular file within the size limit: opening a
    device may have effects (rewind a tape, start a watchdog), and opening a FIFO waits for its writer.
R2  It is opened with O_NONBLOCK, in case the name has become a FIFO since, and fstat(2) must report a regular file
    again. O_NOFOLLOW is not used: links share files between directories.
R3  At most one byte more than allowed is read, whatever the size was.
R4  Size and mtime must be the same after the last read as before the first. Otherwise a program wrote meanwhile, and
    the text may be a mix of two: the file is refused. If the file was replaced by rename(2), only its ctime changes,
    which is not compared: the open file is read to its end, and the next collection reads the new one.
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
    """A file that can't be read or used. The message has the reason and a remedy."""


class State(NamedTuple):
    """Fields of stat(2) that change when a file's content does."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


def state_of(path: str, max_bytes: int) -> State:
    """The state of a file that may be opened (R1). Raises Refused; FileNotFoundError if it does not exist."""
    try:
        return _regular(os.stat(path), max_bytes)
    except FileNotFoundError:
        if os.path.islink(path):
            raise Refused("it is a symbolic link to a missing file; remove the link, or create the file") from None
        raise
    except OSError as error:
        raise Refused(f"stat fails: {error.strerror}; check its permissions and its links") from None


def read(path: str, max_bytes: int) -> tuple[State, str]:
    """Read a file (R2 to R4): (its state, its text). Raises Refused, FileNotFoundError."""
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
        raise Refused(f"it can't be read: {error.strerror}; check its file system") from None
    finally:
        with contextlib.suppress(OSError):
            os.close(fd)
    if changed:
        raise Refused("it was written to while it was read; write under another name, then rename it")
    try:
        return before, data.decode("utf-8-sig")  # editors on Windows write a byte order mark
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1  # not of ``data``: without the mark
        raise Refused(
            f"line {line}: the byte 0x{error.object[error.start]:02x} is not UTF-8; write the file in UTF-8"
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
        raise Refused(f"it is {_KINDS.get(kind, 'not a file')}, and only regular files are read; remove or rename it")
    if found.st_size > max_bytes:
        raise Refused(
            f"it has {found.st_size} bytes, more than {max_bytes}; make it smaller, or raise [source.textfile] "
            "max_file_bytes"
        )
    return _state(found)


def _state(found: os.stat_result) -> State:
    return State(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
