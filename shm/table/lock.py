"""The lock by which other processes see that the process of a table is alive, and what it keeps from being removed.

The kernel frees it however the process dies. It is a lock of the open file, not of the process: a record lock
(fcntl.lockf) would be freed when a reader in the same process closes its own descriptor of the table.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from shm.errors import WriterBusy
from shm.files import remove
from shm.ring.lock import WRITE_LOCK, record_lock
from shm.table.format import files_of, fold_lock_path


def hold(path: Path) -> int:
    """Open and lock this process's table. Closing the returned descriptor unlocks it."""
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, WRITE_LOCK)
    return fd


def in_use(path: Path) -> bool:
    """Whether the process of the table, this one or another, is alive. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        return record_lock(fd) is not None
    finally:
        os.close(fd)


def check_idle(namespace: str, application: str) -> None:
    """Raises WriterBusy while a process of the application is alive."""
    for path in files_of(namespace, application):
        try:
            alive = in_use(path)
        except OSError:  # removed, a link, or a file that no process of this user can have locked
            continue
        if alive:
            pid = path.name.split(".")[3].partition("-")[0]
            raise WriterBusy(application, int(pid) if pid.isdecimal() else 0)


def unlink(namespace: str, application: str, *, lock_too: bool = False) -> list[Path]:
    """Remove an application's tables, including the table of the dead; the paths that were removed.

    Raises WriterBusy while one of its processes is alive. ``lock_too``: as in :func:`shm.files.remove`.
    """

    def idle() -> list[Path]:
        files = files_of(namespace, application)
        check_idle(namespace, application)
        return files

    return remove(application, fold_lock_path(namespace, application), idle, lock_too)
