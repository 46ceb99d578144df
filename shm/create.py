"""Create a segment: a file in /dev/shm with all of its memory reserved, mapped read-write for its writer.

``multiprocessing.shared_memory`` creates the file. Its object is closed at once and the file opened by ``os.open``: the
writer's views outlive it, and a SharedMemory that is garbage-collected while views exist prints a BufferError.
"""

from __future__ import annotations

import contextlib
import errno
import math
import mmap
import os
from collections.abc import Callable
from multiprocessing import shared_memory
from pathlib import Path
from types import FunctionType
from typing import Any, Final

from shm.errors import ConfigurationError, NoSpace
from shm.files import DIRECTORY, in_the_way
from shm.owners import group_number

MODE: Final = 0o640  # the owner may write, the group may read (I8)
_MEMINFO: Final = Path("/proc/meminfo")
# The share of available memory (MemAvailable) that one segment may take; the rest is left to other processes.
_MOST_OF_MEMORY: Final = 0.8


class _NoTracker:
    """Replaces multiprocessing.resource_tracker, which unlinks segments when their creator is killed."""

    @staticmethod
    def register(name: str, kind: str) -> None: ...

    unregister = register


def _untracked(method: Callable[..., Any]) -> Callable[..., Any]:
    """A copy of a method of SharedMemory that uses _NoTracker instead of the resource tracker.

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
    """SharedMemory that no process's end unlinks."""

    __init__ = _untracked(shared_memory.SharedMemory.__init__)
    unlink = _untracked(shared_memory.SharedMemory.unlink)


def create(
    source: str, path: Path, size: int, group: str = "", smaller: str = "lower its capacity"
) -> tuple[int, mmap.mmap]:
    """Create the file ``path`` of ``size`` bytes, all reserved, and map it read-write: (fd, map).

    Raises NoSpace if the memory can't be reserved: with the size needed and the remedies, ``smaller`` among them. No
    file is left then (I7). The caller holds the writer's lock, so a file with this name is a dead writer's: it is
    removed. NoSpace too if it is another user's, which can't be removed: the segment in use stays in use.
    """
    group_id = group_number(group)
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise NoSpace(source, in_the_way(path, error)) from error
    _refuse_beyond_memory(source, size, smaller)
    fd = -1
    try:
        _SharedMemory(path.name, create=True, size=size).close()
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        # A process that touches a hole on a full tmpfs gets a SIGBUS; this fails with ENOSPC now.
        os.posix_fallocate(fd, 0, size)
        if group_id is not None:
            os.fchown(fd, -1, group_id)
        os.fchmod(fd, MODE)  # after creation: the umask may have removed the group's bit
        return fd, mmap.mmap(fd, size)
    except BaseException as error:
        if fd >= 0:
            os.close(fd)
        with contextlib.suppress(OSError):  # another user's, created at this moment
            path.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        if error.errno == errno.EPERM:  # of fchown
            raise ConfigurationError(
                f"group is {group!r}, and this user may not give files to that group; "
                "add the user to the group, or leave the key empty"
            ) from error
        raise NoSpace(source, _no_space(path, size, smaller, error)) from error


def _refuse_beyond_memory(source: str, size: int, smaller: str) -> None:
    """Raise NoSpace if the size is more than 80 % of available memory.

    A tmpfs may be larger than that; reserving so much would have the kernel kill processes.
    """
    try:
        available = next(line for line in _MEMINFO.read_text().splitlines() if line.startswith("MemAvailable:"))
        most = int(available.split()[1]) * 1024 * _MOST_OF_MEMORY
    except (OSError, StopIteration, ValueError, IndexError):
        return  # available memory is unknown: refuse nothing
    if size > most:
        raise NoSpace(
            source,
            f"its segment needs {size / 2**20:.1f} MiB of shared memory, but it may take at most "
            f"{most / 2**20:.1f} MiB, {_MOST_OF_MEMORY:.0%} of this host's available memory; {smaller}",
        )


def _no_space(path: Path, size: int, smaller: str, error: OSError) -> str:
    if error.errno == errno.EEXIST:
        return in_the_way(path, error)
    if error.errno in (errno.EACCES, errno.EROFS, errno.ENOENT):
        return f"{path} could not be created: {error.strerror}; make {DIRECTORY} writable"
    usage = os.statvfs(DIRECTORY)
    aside = sorted(DIRECTORY.glob(f"{path.stem}.layout-*"))
    return (
        f"its segment needs {math.ceil(size / 2**20 * 10) / 10:.1f} MiB of shared memory, but in {DIRECTORY} "
        f"{usage.f_bavail * usage.f_frsize / 2**20:.1f} MiB are free ({error.strerror}); "
        f"make it larger (docker run --shm-size=256m, or mount -o remount,size=…), or {smaller}"
        + (f"; or remove {aside[0]}, the history of another release" if aside else "")
    )
