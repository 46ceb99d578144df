"""Tables: the live values of one process of an application, each in shared memory of its own.

A ring has frames: what was, once an interval. A table has values: what is, now. The process that owns it stores into
its map at every increment, so that not even SIGKILL loses one, and readers copy it at every scrape. The processes of
an application each have a table; :mod:`shm.table.merge` makes one set of series of them.

    fogmetrics.NAMESPACE.APPLICATION.PID-TOKEN.table    of a process, alive or dead
    fogmetrics.NAMESPACE.APPLICATION.PID-TOKEN.new      being built
    fogmetrics.NAMESPACE.APPLICATION.retired.table      what the dead had counted, see shm.table.dead
    fogmetrics.NAMESPACE.APPLICATION.retired.lock       of whoever folds the dead into that

    offset   bytes   table                      all words little-endian u64
    0        4096    header
    4096     C       catalog                    C = header.catalog_bytes; its entries are those of a ring's catalog
    4096+C   8 × W   values, float64            W = header.width

    header: immutable, covered by its seal      header: mutable
    0    magic "FOGTABL1", written last         512  catalog bytes used, a hint
    8    layout version
    16   seal over bytes 24…159
    24   file bytes
    32   width, in columns
    40   catalog bytes
    48   creation time of the process's first table, Unix ns
    56   pid
    64   token: tells processes of one pid apart
    72   reserved, 0
    96   application, 64 bytes, UTF-8, NUL-padded

A value is one aligned word, stored as one, so a reader sees what was there before or after and nothing between. Values
of different columns are not of one moment: a scrape may have an observation's bucket and not its sum yet, as with any
client library. Columns are those of shm.metric, but for a histogram's buckets: each counts what is in it and above the
next lower bound, so that to observe is to add to two words, and merging sums them up.

Whether a process lives is what its lock says (fcntl.lockf on its table): the kernel frees it at any death, whatever
the pid namespace, and tells everybody who may open the file. A lock that is lost while its process lives, as when a
program closes all descriptors there are, hides the process's gauges; what it counts stays, since nobody folds a table
that /proc shows in its process's memory.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import re
import stat
import struct
from array import array
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shm import catalog
from shm.errors import RingCorrupt, RingForeign, RingLayout, RingMissing, WriterBusy
from shm.files import DIRECTORY
from shm.metric import Metric
from shm.ring.layout import HEADER_BYTES, MAX_SEGMENT_BYTES, MAX_WIDTH, SOURCE_BYTES, check_byte_order
from shm.ring.lock import WriterLock
from shm.ring.protocol import header_seal

MAGIC: Final = int.from_bytes(b"FOGTABL1", "little")
LAYOUT_VERSION: Final = 1
IMMUTABLE_START: Final = 24
IMMUTABLE_END: Final = 160
CATALOG_USED: Final = 512
MAX_TABLE_BYTES: Final = 1 << 31

RETIRED: Final = "retired"
# The source whose ring has the history of the applications' series: of what others have, too, it never is the owner.
HISTORY_SOURCE: Final = "applications"
_IMMUTABLE: Final = struct.Struct("<QQQQQQ24x64s")
_IDENTITY: Final = re.compile(r"(?:[0-9]{1,10}-[0-9a-f]{16}|retired)\Z")
_APPLICATION: Final = re.compile(r"[A-Za-z0-9_-]+\Z")
# The files of tables that this process owns, (device, inode): closing any descriptor of one would free its lock
# (fcntl(2)), and the lock says nothing to who has it. Those that a reader is done with are kept for the next one.
own_files: dict[tuple[int, int], list[int]] = {}
_FLOCK: Final = struct.Struct("hhqqi4x")  # struct flock of 64-bit Linux: type, whence, start, length, pid


@dataclass(frozen=True, slots=True)
class TableHeader:
    """The immutable part of a table's header. ``salt`` is its seal."""

    application: str
    width: int
    catalog_bytes: int
    created_ns: int
    pid: int
    token: int

    @property
    def values_offset(self) -> int:
        return HEADER_BYTES + self.catalog_bytes

    @property
    def file_bytes(self) -> int:
        return self.values_offset + 8 * self.width

    @property
    def salt(self) -> int:
        return header_seal(self.immutable())

    def immutable(self) -> bytes:
        """Bytes 24…159 of the header."""
        return _IMMUTABLE.pack(
            self.file_bytes, self.width, self.catalog_bytes, self.created_ns, self.pid, self.token,
            self.application.encode().ljust(SOURCE_BYTES, b"\0"),
        )  # fmt: skip

    def behind_magic(self) -> bytes:
        """Bytes 8…159 of the file: all of the header but the magic, which is written last."""
        return struct.pack("<QQ", LAYOUT_VERSION, self.salt) + self.immutable()


def identity(pid: int, token: int) -> str:
    """The part of a table's file name that tells the processes of an application apart."""
    return f"{pid}-{token:016x}"


def table_path(namespace: str, application: str, who: str) -> Path:
    """``who``: an identity, or RETIRED."""
    return DIRECTORY / f"fogmetrics.{namespace}.{application}.{who}.table"


def fold_lock_path(namespace: str, application: str) -> Path:
    return DIRECTORY / f"fogmetrics.{namespace}.{application}.{RETIRED}.lock"


def table_of(file_name: str, namespace: str) -> tuple[str, str] | None:
    """(application, identity) of the table in ``namespace`` that has this file name, else None."""
    parts = file_name.split(".")
    if len(parts) != 5 or (parts[0], parts[1], parts[4]) != ("fogmetrics", namespace, "table"):
        return None
    if not _APPLICATION.match(parts[2]) or not _IDENTITY.match(parts[3]):
        return None
    return parts[2], parts[3]


def listed(namespace: str, names: Iterable[str] | None = None) -> dict[str, list[str]]:
    """The identities of the tables of each application of the namespace, sorted. ``names``: of the files, if known."""
    found: dict[str, list[str]] = {}
    for name in sorted(os.listdir(DIRECTORY) if names is None else names):
        table = table_of(name, namespace)
        if table is not None:
            found.setdefault(table[0], []).append(table[1])
    return found


def files_of(namespace: str, application: str) -> list[Path]:
    """What there is in shared memory of an application's tables, whatever its state; without the lock."""
    files = DIRECTORY.glob(f"fogmetrics.{namespace}.{application}.*")
    return sorted(path for path in files if path.name.count(".") == 4 and path.suffix != ".lock")


def applications_of(namespace: str) -> list[str]:
    """The applications of which there is anything in shared memory: tables, what dead processes left, locks."""
    files = DIRECTORY.glob(f"fogmetrics.{namespace}.*")
    return sorted({path.name.split(".")[2] for path in files if path.name.count(".") == 4})


def unlink(namespace: str, application: str, *, lock_too: bool = False) -> list[Path]:
    """Remove an application's tables, on purpose, what the dead had counted included; the paths that were removed.

    Raises WriterBusy while one of its processes lives.
    """
    lock = WriterLock.acquire(fold_lock_path(namespace, application), application)
    try:
        files = files_of(namespace, application)
        check_idle(namespace, application)
        removed = files + ([lock.path] if lock_too else [])
        for path in removed:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise RingForeign(application, f"{path} can't be removed: {error.strerror}; remove it") from error
        return removed
    finally:
        lock.release()


def check_idle(namespace: str, application: str) -> None:
    """Raises WriterBusy while a process of the application lives."""
    for path in files_of(namespace, application):
        try:
            fd = open_table(path)
        except OSError:  # gone, a link, or nothing that one of our processes could have a lock on
            continue
        try:
            if in_use(fd):
                raise WriterBusy(application, _pid_of(path))
        finally:
            let_go(fd)


def _pid_of(path: Path) -> int:
    pid = path.name.split(".")[3].partition("-")[0]
    return int(pid) if pid.isdecimal() else 0


class TableReader:
    """One table, opened for reading alone. ``catalog`` is what :meth:`refresh` has proven of it so far.

    ``owners``: user ids whose tables are believed; ``serial``: no other reader of this process has the same. Raises
    RingMissing, RingForeign, RingCorrupt, which name the application and the file.
    """

    _serials = itertools.count()

    def __init__(self, namespace: str, application: str, who: str, owners: Collection[int]) -> None:
        self.application = application
        self.who = who
        self.path = table_path(namespace, application, who)
        check_byte_order(application)
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
            let_go(self._fd)
            raise
        self.catalog = catalog.Catalog()
        self.salt = self.header.salt
        self.serial = next(self._serials)

    def _checked(self, owners: Collection[int]) -> TableHeader:
        status = os.fstat(self._fd)
        if not stat.S_ISREG(status.st_mode):
            raise RingForeign(self.application, f"{self.path} is not a regular file; remove it")
        if status.st_uid not in owners:
            raise RingForeign(
                self.application,
                f"{self.path} belongs to user {status.st_uid}, who is not trusted; name that user in "
                "[applications] users, or remove it",
            )
        header = read_header(self.application, os.pread(self._fd, HEADER_BYTES, 0), status.st_size)
        if header.application != self.application or self.who not in (RETIRED, identity(header.pid, header.token)):
            raise RingCorrupt(
                self.application,
                f"the table is of {header.application!r}, {identity(header.pid, header.token)}, but the file is "
                f"{self.path.name}",
            )
        return header

    def refresh(self) -> bool:
        """Read on in the catalog; True when that brought something."""
        used = self.catalog.used
        announced = int.from_bytes(os.pread(self._fd, 8, CATALOG_USED), "little")
        if announced == used:
            return False
        data = os.pread(self._fd, max(self.header.catalog_bytes - used, 0), HEADER_BYTES + used)
        catalog.extend(self.catalog, data, announced, self.header.width, self.salt)
        return self.catalog.used != used

    def columns_of(self, metric: Metric) -> int:
        """How many columns a series of the metric has here."""
        return catalog.columns_of(metric, self.catalog.extra.get(metric.name))

    def values(self) -> array[float]:
        """A copy of the values: float64, one a column, as many as the catalog names. Raises RingCorrupt for a table
        that was cut short."""
        size = 8 * self.catalog.columns
        data = os.pread(self._fd, size, self.header.values_offset)
        if len(data) != size:
            raise RingCorrupt(self.application, f"{self.path} was cut short")
        return array("d", data)

    def read_into(self, target: memoryview) -> bool:
        """The same into the bytes ``target``; False when the table was cut short."""
        return os.preadv(self._fd, (target,), self.header.values_offset) == len(target)

    def in_place(self) -> bool:
        """Whether its name still leads to this file."""
        return os.fstat(self._fd).st_nlink > 0

    def alive(self) -> bool:
        """Whether its process lives."""
        return in_use(self._fd)

    def mapped(self) -> bool:
        """Whether its process stores into it although the lock is gone: closing *all* descriptors, as some programs do
        when they begin, frees it. False where /proc does not tell, as of another pid namespace."""
        status = os.fstat(self._fd)
        file = f" {os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x} {status.st_ino} "
        try:
            with open(f"/proc/{self.header.pid}/maps", errors="replace") as maps:
                return any(file in line for line in maps)
        except OSError:
            return False

    def close(self) -> None:
        let_go(self._fd)


class OpenTables:
    """The tables of one application, kept open from one look to the next. ``owners``: as for a reader."""

    def __init__(self, namespace: str, application: str, owners: Collection[int]) -> None:
        self._of = namespace, application
        self._owners = owners
        self._tables: dict[str, TableReader] = {}

    def __len__(self) -> int:
        return len(self._tables)

    def __iter__(self) -> Iterator[TableReader]:
        return iter(self._tables.values())

    def get(self, who: str) -> TableReader | None:
        """The one that is open, whether it is up to date or not."""
        return self._tables.get(who)

    def keep(self, wanted: Collection[str]) -> None:
        """Close those of all other identities."""
        for who in [who for who in self._tables if who not in wanted]:
            self._tables.pop(who).close()

    def refreshed(self, who: str) -> TableReader:
        """That table as it is now: opened, or opened anew where another file has its name, and read on in.

        Raises what TableReader does, and OSError.
        """
        self._drop_replaced(who)
        table = self._tables.get(who)
        if table is None:
            table = self._tables[who] = TableReader(*self._of, who, self._owners)
        table.refresh()
        return table

    def let_go(self) -> None:
        """Close the tables that have lost their names: as long as somebody has them open, their memory is not free."""
        for who in list(self._tables):
            self._drop_replaced(who)

    def close(self) -> None:
        self.keep(())

    def _drop_replaced(self, who: str) -> None:
        table = self._tables.get(who)
        if table is not None and not table.in_place():
            self._tables.pop(who).close()


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
    return (status.st_dev, status.st_ino) in own_files or is_locked(fd)


def is_locked(fd: int) -> bool:
    """Whether another process holds a record lock on the file."""
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    return bool(_FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, asked))[0] != fcntl.F_UNLCK)


def read_header(application: str, page: bytes, file_bytes: int) -> TableHeader:
    """The header of the table whose first page is ``page``. Raises RingCorrupt, naming the field and its value."""
    if len(page) < HEADER_BYTES:
        raise RingCorrupt(application, f"a table has {len(page)} bytes, less than its {HEADER_BYTES}-byte header")
    magic, version, seal = struct.unpack_from("<QQQ", page)
    if magic != MAGIC:
        raise RingCorrupt(application, f"magic is {magic:#x}, not {MAGIC:#x}: not a fogmetrics table")
    if version != LAYOUT_VERSION:
        raise RingLayout(
            application, f"a table has the layout version {version}, this program reads {LAYOUT_VERSION}; run the "
            "same release on both sides", version,
        )  # fmt: skip
    immutable = page[IMMUTABLE_START:IMMUTABLE_END]
    if header_seal(immutable) != seal:
        raise RingCorrupt(application, f"the seal of a table's header is {seal:#x}, the header's bytes give another")
    size, width, catalog_bytes, created_ns, pid, token, raw = _IMMUTABLE.unpack(immutable)
    try:
        name = raw.rstrip(b"\0").decode()
    except UnicodeDecodeError:
        raise RingCorrupt(application, f"the application of a table is {raw[:16]!r}…, not UTF-8") from None
    if not 0 < width <= MAX_WIDTH:
        raise RingCorrupt(application, f"the width of a table is {width}, not within 1…{MAX_WIDTH}")
    if not 0 < catalog_bytes <= MAX_SEGMENT_BYTES or catalog_bytes % 8:
        raise RingCorrupt(application, f"the catalog of a table has {catalog_bytes} bytes, no multiple of 8")
    header = TableHeader(name, width, catalog_bytes, created_ns, pid, token)
    if size != header.file_bytes or size != file_bytes or size > MAX_TABLE_BYTES:
        raise RingCorrupt(
            application, f"a table's bytes are {size}; its layout gives {header.file_bytes}, the file has {file_bytes}"
        )
    return header
