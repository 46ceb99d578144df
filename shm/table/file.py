"""The file of a table, as the process has it whose table it is."""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from shm.metric import SeriesKey
from shm.table.descriptors import leads_to, own_files
from shm.table.format import TableHeader

if TYPE_CHECKING:
    from shm.table.cells import Place


class Entry(NamedTuple):
    """One entry of the catalog on its way: where it goes, and of which series. ``columns``: 0 of a metric's."""

    at: int
    data: bytes
    key: SeriesKey
    columns: int


class LiveFile:
    """One file of a table, as its owner holds it."""

    def __init__(self, fd: int, mapped: mmap.mmap, header: TableHeader) -> None:
        self.fd = fd
        self.header = header
        self.salt = header.salt
        self.used = self.columns = 0  # of the catalog's bytes, and of the values
        self.index: dict[str, int] = {}  # of the metrics in the catalog
        self.moved: list[tuple[Place, int]] = []
        self.before: LiveFile | None = None  # the file whose words moved here, until it is let go
        status = os.fstat(fd)
        self._file = status.st_dev, status.st_ino
        own_files[self._file] = []  # before anybody in this process can open it
        self._map: mmap.mmap | None = mapped
        self.values: memoryview[float] = memoryview(mapped)[header.values_offset :].cast("d")

    def store(self, offset: int, data: bytes) -> None:
        """By the map, never by the descriptor: a program that closes all descriptors may give its number to a file of
        its own."""
        assert self._map is not None
        self._map[offset : offset + len(data)] = data

    def is_at(self, path: Path) -> bool:
        try:
            status = os.stat(path, follow_symlinks=False)
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == self._file

    def close(self) -> None:
        kept = own_files.pop(self._file, [])
        # The map goes with the last view of it: a thread may be about to use one.
        self._map = None
        self.values = memoryview(b"").cast("d")
        for fd in [self.fd, *kept]:
            if leads_to(fd, self._file):
                os.close(fd)
