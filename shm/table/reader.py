"""Read tables: TableReader reads one, OpenTables keeps those of an application open between scrapes."""

from __future__ import annotations

import itertools
import os
import stat
from array import array
from collections.abc import Collection, Iterator

from shm import catalog
from shm.errors import RingCorrupt, RingForeign, RingMissing
from shm.metric import Metric
from shm.ring.layout import HEADER_BYTES
from shm.table.descriptors import close_table, in_use, open_table
from shm.table.format import CATALOG_USED, RETIRED, TableHeader, identity, read_header, table_path


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
            raise RingForeign(
                application, f"{self.path} can't be opened: {error.strerror}; give this user the application's group"
            ) from error
        try:
            self.header = self._checked(owners)
        except BaseException:
            close_table(self._fd)
            raise
        self.catalog = catalog.Catalog()
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
        if header.application != self.application or self.who not in (RETIRED, identity(header.pid, header.token)):
            raise RingCorrupt(
                self.application,
                f"the table is of {header.application!r}, {identity(header.pid, header.token)}, but the file is "
                f"{self.path.name}",
            )
        return header

    def refresh(self) -> None:
        """Read new entries of the catalog."""
        used = self.catalog.used
        announced = int.from_bytes(os.pread(self._fd, 8, CATALOG_USED), "little")
        if announced != used:
            data = os.pread(self._fd, max(self.header.catalog_bytes - used, 0), HEADER_BYTES + used)
            catalog.extend(self.catalog, data, announced, self.header.width, self.header.salt)

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

    def __len__(self) -> int:
        return len(self._tables)

    def __iter__(self) -> Iterator[TableReader]:
        return iter(self._tables.values())

    def keep(self, wanted: Collection[str]) -> None:
        """Close the tables of all other identities."""
        for who in [who for who in self._tables if who not in wanted]:
            self._tables.pop(who).close()

    def refreshed(self, who: str) -> TableReader:
        """That table, opened if needed, or opened again if its file was replaced, with its new catalog entries read.

        Raises the errors of TableReader, and OSError.
        """
        self._drop_replaced(who)
        table = self._tables.get(who)
        if table is None:
            table = self._tables[who] = TableReader(*self._of, who, self._owners)
        table.refresh()
        return table

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
