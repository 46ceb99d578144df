"""TableFile: create, publish and extend the file of this process's table."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from shm import catalog
from shm.catalog import MetricExtra
from shm.create import create as build
from shm.errors import NoSpace
from shm.metric import Metric, SeriesKey
from shm.ring.layout import HEADER_BYTES, KIND_METRIC, KIND_SERIES, MAX_WIDTH, aligned
from shm.table.descriptors import leads_to, own_files
from shm.table.format import CATALOG_USED, MAGIC, MAX_TABLE_BYTES, TableHeader, identity, table_path

_FIRST_WIDTH: Final = 64
_FIRST_CATALOG_BYTES: Final = 8192
_never_unmapped: Final[list[mmap.mmap | None]] = []
_MAX_CATALOG_BYTES: Final = MAX_TABLE_BYTES - HEADER_BYTES - 8 * MAX_WIDTH


@dataclass(slots=True)
class Contents:
    """The metrics and series of a table: each metric's index in the catalog, each series' first column."""

    index: dict[str, int] = field(default_factory=dict)
    columns: dict[SeriesKey, int] = field(default_factory=dict)
    width: int = 0  # columns taken

    def entries(self, key: SeriesKey, metric: Metric, extra: MetricExtra) -> list[tuple[int, bytes]]:
        """The catalog entries, (kind, body), that the series needs if it is added next."""
        series = KIND_SERIES, catalog.series_body(self.index.get(key[0], len(self.index)), key[1], self.width)
        return [series] if key[0] in self.index else [(KIND_METRIC, catalog.metric_body(metric, extra)), series]

    def add(self, key: SeriesKey, metric: Metric, extra: MetricExtra) -> list[tuple[int, bytes]]:
        """Add the series after the others; its catalog entries."""
        entries = self.entries(key, metric, extra)
        self.index.setdefault(key[0], len(self.index))
        self.columns[key] = self.width
        self.width += catalog.columns_of(metric, extra)
        return entries


class TableFile:
    """One file of a table, mapped. It is built under another name; readers see it once it is published.

    ``entries``: its whole catalog, made from ``contents``, sealed. Raises NoSpace; no file is left then.
    """

    def __init__(self, header: TableHeader, path: Path, group: str, contents: Contents, entries: bytes) -> None:
        self.header = header
        self.contents = contents
        self.used = len(entries)  # bytes of the catalog
        self.who = identity(header.pid, header.token)
        self._path, self._building = path, path.with_suffix(".new")
        self._fd, mapped = build(header.application, self._building, header.file_bytes, group, "count fewer series")
        status = os.fstat(self._fd)
        self._file = status.st_dev, status.st_ino
        own_files[self._file] = []  # before anything else in this process can open it
        # Stores go through the map, never through the descriptor: if the program closes all descriptors, its number
        # may belong to another file.
        self._map: mmap.mmap | None = mapped
        self.values: memoryview[float] = memoryview(mapped)[header.values_offset :].cast("d")
        fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        behind_magic = header.behind_magic()
        mapped[8 : 8 + len(behind_magic)] = behind_magic
        mapped[HEADER_BYTES : HEADER_BYTES + self.used] = entries
        mapped[CATALOG_USED : CATALOG_USED + 8] = self.used.to_bytes(8, "little")

    def publish(self) -> None:
        """Give the file its name, replacing the file that has it. Raises NoSpace."""
        assert self._map is not None
        self._map[0:8] = MAGIC.to_bytes(8, "little")
        try:
            os.rename(self._building, self._path)
        except OSError as error:
            raise NoSpace(self.header.application, f"{self._path} can't be written: {error.strerror}") from error

    def published(self) -> bool:
        with contextlib.suppress(OSError):
            status = os.stat(self._path, follow_symlinks=False)
            return (status.st_dev, status.st_ino) == self._file
        return False

    def append(self, key: SeriesKey, metric: Metric, extra: MetricExtra, initial: bytes) -> bool:
        """Add a series whose columns have the word ``initial``; False if there is no room. Raises MetricError."""
        assert self._map is not None
        contents, columns = self.contents, catalog.columns_of(metric, extra)
        entries = catalog.packed(contents.entries(key, metric, extra), self.header.salt, self.used)
        start, used = HEADER_BYTES + self.used, self.used + len(entries)
        end, announced = HEADER_BYTES + used, used.to_bytes(8, "little")
        index, column, width = contents.index.get(key[0], len(contents.index)), contents.width, contents.width + columns
        if width > self.header.width or used > self.header.catalog_bytes:
            return False
        self.fill(column, columns, initial)  # first: readers that see the entry read the columns
        # From here on no call and no jump: a signal handler can't raise when half of this is done.
        self._map[start:end] = entries
        self._map[CATALOG_USED : CATALOG_USED + 8] = announced
        contents.index[key[0]] = index
        contents.columns[key] = column
        contents.width = width
        self.used = used
        return True

    def fill(self, column: int, columns: int, word: bytes) -> None:
        """Store the word into each of these columns bit by bit: arithmetic might change the absent sample's NaN."""
        self.values[column : column + columns] = memoryview(word * columns).cast("d")

    def discard(self) -> None:
        """Close and remove a file that was not published."""
        self.close()
        with contextlib.suppress(OSError):
            os.unlink(self._building)

    def close(self) -> None:
        """Unmap and unlock the file, which stays."""
        kept = own_files.pop(self._file, [])
        if not leads_to(self._fd, self._file):
            # The program closed all descriptors: the map's would be another file's, which unmapping would close.
            _never_unmapped.append(self._map)
        self._map = None  # unmapped with its last view: another thread may be about to use one
        self.values = memoryview(b"").cast("d")
        for fd in [self._fd, *kept]:
            if leads_to(fd, self._file):
                os.close(fd)


def grown(
    old: TableFile | None, namespace: str, application: str, group: str, series: Iterable[tuple[SeriesKey, Metric, str]]
) -> TableFile:
    """Create a file for these series, (key, metric, mode), without their values. Raises NoSpace, MetricError.

    It is another file of the same table as ``old``, and larger where the series take more than half of the old one;
    without ``old``, a new table's first file.
    """
    created = time.time_ns() if old is None else old.header.created_ns
    contents, entries = Contents(), list[tuple[int, bytes]]()
    for key, metric, mode in series:
        entries += contents.add(key, metric, MetricExtra(mode, created))
    used = sum(catalog.entry_bytes(body) for _, body in entries)
    width, room = (_FIRST_WIDTH, _FIRST_CATALOG_BYTES) if old is None else (old.header.width, old.header.catalog_bytes)
    if contents.width > width // 2:
        width = min(aligned(2 * contents.width, 64), MAX_WIDTH)
    if used > room // 2:
        room = min(aligned(2 * used, 4096), _MAX_CATALOG_BYTES)
    if contents.width > width or used > room:
        raise NoSpace(
            application,
            f"a table has at most {MAX_WIDTH} columns and {_MAX_CATALOG_BYTES} bytes of catalog; drop a label with "
            "many values",
        )
    token = int.from_bytes(os.urandom(8), "little") or 1 if old is None else old.header.token
    header = TableHeader(application, width, room, created, os.getpid(), token)
    path = table_path(namespace, application, identity(header.pid, header.token))
    return TableFile(header, path, group, contents, catalog.packed(entries, header.salt))
