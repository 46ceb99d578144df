"""Open, close and remove tables.

A process holds a record lock on its own table, and closing any descriptor of the file frees it.
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

# The files of tables that this process owns, (device, inode), which the lock does not show to its holder. Descriptors
# that a reader is done with are kept for the next one.
own_files: Final[dict[tuple[int, int], list[int]]] = {}


def open_table(path: Path) -> int:
    """A descriptor of the file, for reading, to be given to :func:`let_go`. Raises OSError; never waits."""
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
    """Whether that is still a descriptor of the file (device, inode). A program that closes all descriptors, those of
    others too, may have given its number to a file of its own."""
    try:
        status = os.fstat(fd)
    except OSError:
        return False
    return (status.st_dev, status.st_ino) == file


def let_go(fd: int) -> None:
    """Close a descriptor of a table; one of our own is kept, since closing it would free the lock."""
    status = os.fstat(fd)
    kept = own_files.get((status.st_dev, status.st_ino))
    if kept is None:
        os.close(fd)
    else:
        kept.append(fd)


def in_use(fd: int) -> bool:
    """Whether the table's process lives, this one or another."""
    status = os.fstat(fd)
    return (status.st_dev, status.st_ino) in own_files or record_lock(fd) is not None


def check_idle(namespace: str, application: str) -> None:
    """Raises WriterBusy while a process of the application lives."""
    for path in files_of(namespace, application):
        try:
            fd = open_table(path)
        except OSError:  # gone, a link, or nothing that one of our processes could have a lock on
            continue
        try:
            if in_use(fd):
                pid = path.name.split(".")[3].partition("-")[0]
                raise WriterBusy(application, int(pid) if pid.isdecimal() else 0)
        finally:
            let_go(fd)


def unlink(namespace: str, application: str, *, lock_too: bool = False) -> list[Path]:
    """Remove an application's tables, on purpose, what the dead had counted included; the paths that were removed.

    Raises WriterBusy while one of its processes lives. ``lock_too``: as in :func:`shm.files.remove`.
    """

    def idle() -> list[Path]:
        files = files_of(namespace, application)
        check_idle(namespace, application)
        return files

    return remove(application, fold_lock_path(namespace, application), idle, lock_too)
