"""Read tables: TableReader reads one, OpenTables keeps those of an application open between scrapes."""

from __future__ import annotations

import itertools
import os
import stat
from array import array
from collections.abc import Collection, Iterator
from pathlib import Path

from shm import catalog
from shm.errors import RingCorrupt, RingError, RingForeign, RingMissing
from shm.files import NOT_A_FILE
from shm.metric import Metric
from shm.ring.layout import HEADER_BYTES
from shm.table.descriptors import close_table, in_use, open_table
from shm.table.format import CATALOG_USED, RETIRED, TableHeader, identity, read_header, table_path


class _Backoff:
    """Leaves out tries after errors: the first is repeated at once, then after 1, 3, 7 … at most 63 calls."""

    def __init__(self) -> None:
        self._of: object = None  # the state that the error was of; another one is tried at once
        self._failures = 0
        self._left = 0

    def waits(self, state: object) -> bool:
        """Whether to leave out this try, since ``state`` is still that of the error."""
        self._left -= 1
        return self._left >= 0 and state == self._of

    def note(self, failed: object) -> None:
        """The outcome of a try: the state that failed, None for success."""
        self._failures = self._failures + 1 if failed is not None and failed == self._of else int(failed is not None)
        self._of, self._left = failed, (1 << min(max(self._failures - 1, 0), 6)) - 1


class TableReader:
    """One table, opened read-only. ``catalog``: the entries that :meth:`refresh` has proven so far.

    ``owners``: user ids whose tables are trusted; ``serial``: unique among the readers of this process. Raises
    RingMissing, RingForeign, RingCorrupt, naming the application and the file.
    """

    _serials = itertools.count()

    def __init__(self, namespace: str, application: str, who: str, owners: Collection[int]) -> None:
        self.application = application
        self.who = who
        self.path = table_path(namespace, application, who)
        try:
            self._fd = open_table(self.path)
        except FileNotFoundError:
            raise RingMissing(application, f"there is no table {self.path}") from None
        except OSError as error:
            if error.errno in NOT_A_FILE:
                raise RingForeign(application, f"{self.path} is not a regular file; remove it") from None
            raise RingForeign(
                application, f"{self.path} can't be opened: {error.strerror}; give this user the application's group"
            ) from error
        try:
            self.header = self._checked(owners)
        except BaseException:
            close_table(self._fd)
            raise
        self.catalog = catalog.Catalog()
        self._backoff = _Backoff()
        self.serial = next(self._serials)

    def _checked(self, owners: Collection[int]) -> TableHeader:
        status = os.fstat(self._fd)
        if not stat.S_ISREG(status.st_mode):
            raise RingForeign(self.application, f"{self.path} is not a regular file; remove it")
        if status.st_uid not in owners:
            raise RingForeign(
                self.application,
                f"{self.path} belongs to user {status.st_uid}, which is not trusted; add that user to "
                "the trusted users, or remove the file",
            )
        header = read_header(self.application, os.pread(self._fd, HEADER_BYTES, 0), status.st_size)
        if status.st_blocks * 512 < header.file_bytes:
            # Its process reserved all of it. A file of holes costs its user nothing.
            raise RingCorrupt(
                self.application,
                f"{self.path} has holes: {status.st_blocks * 512} bytes are allocated of {header.file_bytes}",
            )
        if header.application != self.application or self.who not in (RETIRED, identity(header.pid, header.token)):
            raise RingCorrupt(
                self.application,
                f"the table is of {header.application!r}, {identity(header.pid, header.token)}, but the file is "
                f"{self.path.name}",
            )
        return header

    def refresh(self) -> None:
        """Read new entries of the catalog; after an error, not at every call while it announces no others."""
        used = self.catalog.used
        announced = int.from_bytes(os.pread(self._fd, 8, CATALOG_USED), "little")
        if announced != used and not self._backoff.waits(announced):
            catalog.extend_in_pieces(
                self.catalog,
                lambda at, size: os.pread(self._fd, size, HEADER_BYTES + at),
                self.header.catalog_bytes,
                announced,
                self.header.width,
                self.header.salt,
            )
            self._backoff.note(announced if self.catalog.error else None)

    def columns_of(self, metric: Metric) -> int:
        """How many columns a series of the metric has in this table."""
        return catalog.columns_of(metric, self.catalog.extra.get(metric.name))

    def values(self) -> array[float]:
        """A copy of the values: float64, one per column that the catalog names. Raises RingCorrupt if the table was cut
        short."""
        values = array("d", bytes(8 * self.catalog.columns))
        if os.preadv(self._fd, (values,), self.header.values_offset) != 8 * len(values):
            raise RingCorrupt(
                self.application, f"{self.path} was cut short; its process creates a new one at its next start"
            )
        return values

    def in_place(self) -> bool:
        """Whether the table's file still has its name."""
        return os.fstat(self._fd).st_nlink > 0

    def alive(self) -> bool:
        """Whether its process is alive, by its lock."""
        return in_use(self._fd)

    def mapped(self) -> bool:
        """Whether its process has it mapped, even without the lock: a program that closes *all* descriptors, as some do
        at their start, frees it. False if /proc does not show the process, as in another pid namespace."""
        status = os.fstat(self._fd)
        file = f" {os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x} {status.st_ino} "
        try:
            with open(f"/proc/{self.header.pid}/maps", errors="replace") as maps:
                return any(file in line for line in maps)
        except OSError:
            return False

    def close(self) -> None:
        close_table(self._fd)


class OpenTables:
    """The tables of one application, kept open between reads. ``owners``: user ids whose tables are trusted."""

    def __init__(self, namespace: str, application: str, owners: Collection[int]) -> None:
        self._of = namespace, application
        self._owners = owners
        self._tables: dict[str, TableReader] = {}
        self._refused: dict[str, tuple[_Backoff, RingError]] = {}

    def __len__(self) -> int:
        return len(self._tables)

    def __iter__(self) -> Iterator[TableReader]:
        return iter(self._tables.values())

    def keep(self, wanted: Collection[str]) -> None:
        """Close the tables of all other identities."""
        for who in [who for who in self._tables if who not in wanted]:
            self._tables.pop(who).close()
        self._refused = {who: refused for who, refused in self._refused.items() if who in wanted}

    def refreshed(self, who: str) -> TableReader:
        """That table, opened if needed, or opened again if its file was replaced, with its new catalog entries read.

        Raises the errors of TableReader, and OSError.
        """
        self._drop_replaced(who)
        table = self._tables.get(who)
        if table is None:
            table = self._tables[who] = self._opened(who)
        table.refresh()
        return table

    def _opened(self, who: str) -> TableReader:
        backoff, error = self._refused.pop(who, (_Backoff(), None))
        state = _state(table_path(*self._of, who))
        if error is not None and backoff.waits(state):
            self._refused[who] = backoff, error
            raise error.with_traceback(None)
        try:
            return TableReader(*self._of, who, self._owners)
        except RingMissing:
            raise
        except RingError as refusal:
            backoff.note(state)
            self._refused[who] = backoff, refusal
            raise

    def close_replaced(self) -> None:
        """Close the tables whose files were removed or replaced, so that their memory is freed."""
        for who in list(self._tables):
            self._drop_replaced(who)

    def close(self) -> None:
        self.keep(())

    def _drop_replaced(self, who: str) -> None:
        table = self._tables.get(who)
        if table is not None and not table.in_place():
            self._tables.pop(who).close()


def _state(path: Path) -> tuple[int, int] | None:
    """(inode, change time) of a file, which a write to it and a change of its rights move."""
    try:
        status = os.stat(path, follow_symlinks=False)
    except OSError:
        return None
    return status.st_ino, status.st_ctime_ns
