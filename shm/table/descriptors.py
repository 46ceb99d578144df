"""Open, close and remove table files, without freeing the lock of this process's own table.

A process holds a record lock on its own table, and closing any descriptor of the file frees the lock. A lock of the
open file (F_OFD_SETLK) would need none of this, but a fork shares it: a process that is killed as it forks would seem
alive until its child has run.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

from shm.errors import WriterBusy
from shm.files import remove
from shm.ring.lock import record_lock
from shm.table.format import files_of, fold_lock_path

# The table files of this process, (device, inode): F_GETLK does not show a lock to its holder. The values are
# descriptors that a reader no longer needs, kept for the next reader.
own_files: Final[dict[tuple[int, int], list[int]]] = {}


def open_table(path: Path) -> int:
    """A read-only descriptor of the file, to be closed by :func:`close_table`. Never waits. Raises OSError."""
    if own_files:
        status = os.stat(path, follow_symlinks=False)
        file = status.st_dev, status.st_ino
        kept = own_files.get(file, [])
        with contextlib.suppress(IndexError):
            while kept:
                fd = kept.pop()
                if leads_to(fd, file):
                    return fd
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)


def leads_to(fd: int, file: tuple[int, int]) -> bool:
    """Whether ``fd`` is still a descriptor of the file (device, inode). If the program closes all descriptors, the
    number may belong to another file."""
    try:
        status = os.fstat(fd)
    except OSError:
        return False
    return (status.st_dev, status.st_ino) == file


def close_table(fd: int) -> None:
    """Close a descriptor of a table. One of this process's table is kept: closing it would free the lock."""
    status = os.fstat(fd)
    kept = own_files.get((status.st_dev, status.st_ino))
    if kept is None:
        os.close(fd)
    else:
        kept.append(fd)


def in_use(fd: int) -> bool:
    """Whether the table's process, this one or another, is alive."""
    status = os.fstat(fd)
    return (status.st_dev, status.st_ino) in own_files or record_lock(fd) is not None


def path_in_use(path: Path) -> bool:
    """:func:`in_use` of the file at that path. Raises OSError."""
    fd = open_table(path)
    try:
        return in_use(fd)
    finally:
        close_table(fd)


def check_idle(namespace: str, application: str) -> None:
    """Raises WriterBusy while a process of the application is alive."""
    for path in files_of(namespace, application):
        try:
            alive = path_in_use(path)
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
