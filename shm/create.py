"""Create a segment: a file in /dev/shm of which every byte is reserved, mapped read-write, for its writer alone.

``multiprocessing.shared_memory`` creates it. The object is closed at once and the file opened by descriptor: the
writer's views outlive it, and a SharedMemory that is garbage-collected while views exist prints a BufferError.
"""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Callable
from multiprocessing import shared_memory
from pathlib import Path
from types import FunctionType
from typing import Any, Final

from shm.errors import ConfigurationError, NoSpace
from shm.files import DIRECTORY
from shm.owners import group_number

MODE: Final = 0o640  # the group may read, nobody but the owner may write (I8)
_MEMINFO: Final = Path("/proc/meminfo")
# Of the memory that the kernel calls available, what one segment may take: the rest is for whoever asks next.
_MOST_OF_MEMORY: Final = 0.8


class _NoTracker:
    """Stands in for multiprocessing.resource_tracker, which unlinks segments when their creator is killed."""

    @staticmethod
    def register(name: str, kind: str) -> None: ...

    unregister = register


def _untracked(method: Callable[..., Any]) -> Callable[..., Any]:
    """A copy of a method of SharedMemory that finds _NoTracker where its module has the resource tracker.

    Python 3.13 has ``track=False`` for this. Registering and unregistering again leaves a moment in which a SIGKILL
    costs the ring, and starts the tracker's process.
    """
    assert isinstance(method, FunctionType)
    copy = FunctionType(
        method.__code__, {**vars(shared_memory), "resource_tracker": _NoTracker}, method.__name__, method.__defaults__
    )
    copy.__kwdefaults__ = method.__kwdefaults__
    return copy


class _SharedMemory(shared_memory.SharedMemory):
    """SharedMemory whose lifetime is the file's, not a process's."""

    __init__ = _untracked(shared_memory.SharedMemory.__init__)
    unlink = _untracked(shared_memory.SharedMemory.unlink)


def create(source: str, path: Path, size: int, group: str = "") -> tuple[int, mmap.mmap]:
    """Create the file ``path`` of ``size`` bytes, all reserved, and map it read-write: (fd, map).

    Raises NoSpace, with what is needed and how to get it, when the memory is not there; nothing is left behind
    then (I7). The caller holds the writer's lock: what a dead writer left under this name is removed.
    """
    group_id = group_number(group)
    path.unlink(missing_ok=True)
    _refuse_beyond_memory(source, size)
    fd = -1
    try:
        _SharedMemory(path.name, create=True, size=size).close()
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        # A hole in a full tmpfs is a SIGBUS for a process that touches it, reader or writer; this is a clean error.
        os.posix_fallocate(fd, 0, size)
        if group_id is not None:
            os.fchown(fd, -1, group_id)
        os.fchmod(fd, MODE)  # after creation, so that no umask takes the group's bit away
        return fd, mmap.mmap(fd, size)
    except BaseException as error:
        if fd >= 0:
            os.close(fd)
        path.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        if error.errno == errno.EPERM:  # of fchown
            raise ConfigurationError(
                f"group is {group!r}, and this user may not give files to that group; "
                "add the user to the group, or leave the key empty"
            ) from error
        raise NoSpace(source, _no_space(path, size, error)) from error


def _refuse_beyond_memory(source: str, size: int) -> None:
    """A tmpfs may be larger than what memory is left: to reserve that has the kernel kill processes, of anybody."""
    try:
        available = next(line for line in _MEMINFO.read_text().splitlines() if line.startswith("MemAvailable:"))
        most = int(available.split()[1]) * 1024 * _MOST_OF_MEMORY
    except (OSError, StopIteration, ValueError, IndexError):
        return  # nothing is refused where this is unknown
    if size > most:
        raise NoSpace(
            source,
            f"its segment needs {size / 2**20:.1f} MiB of shared memory, but of this host's available memory it may "
            f"have {most / 2**20:.1f} MiB, {_MOST_OF_MEMORY:.0%}; lower its capacity",
        )


def _no_space(path: Path, size: int, error: OSError) -> str:
    if error.errno in (errno.EACCES, errno.EROFS, errno.ENOENT):
        return f"{path} could not be created: {error.strerror}; see that {DIRECTORY} is writable"
    try:
        usage = os.statvfs(DIRECTORY)
        free = f"{usage.f_bavail * usage.f_frsize / 2**20:.1f} MiB are free"
    except OSError:
        free = "what is free is unknown"
    aside = sorted(DIRECTORY.glob(f"{path.stem}.layout-*"))
    return (
        f"its segment needs {size / 2**20:.1f} MiB of shared memory, but in {DIRECTORY} {free} ({error.strerror}); "
        "make it larger (docker run --shm-size=256m, or mount -o remount,size=…), or lower its capacity"
        + (f"; or remove {aside[0]}, the history of another release" if aside else "")
    )
