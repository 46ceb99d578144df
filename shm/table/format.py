"""The layout of a table: the current values of one process of an application, in shared memory.

A ring has frames, the history once per interval. A table has the current values. The process that owns a table stores
into its map at every increment, so that not even SIGKILL loses one, and readers copy it at every scrape. Each process
of an application has a table; :mod:`shm.table.merge` merges them into one set of series.

    fogmetrics.NAMESPACE.APPLICATION.PID-TOKEN.table    the table of a process, alive or dead
    fogmetrics.NAMESPACE.APPLICATION.PID-TOKEN.new      being built
    fogmetrics.NAMESPACE.APPLICATION.retired.table      the table of the dead: ended processes' values (shm.table.dead)
    fogmetrics.NAMESPACE.APPLICATION.retired.lock       its lock: one process folds or removes at a time

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
    64   token: random, differs between processes with the same pid
    72   reserved, 0
    96   application, 64 bytes, UTF-8, NUL-padded

A value is one aligned word with one store, so that a reader sees the old or the new value. Values of different columns
are not a snapshot of one moment: a scrape may include an observation in its bucket but not yet in the sum, as with any
client library. Columns are those of shm.metric, except that a histogram's buckets are not cumulative: an observation
adds to two words, and the merge computes cumulative counts.

A process is alive while it holds the lock on its table (fcntl.lockf): the kernel frees the lock however the process
dies, and shows it across pid namespaces to every process that may open the file. If a living process loses its lock, as
by closing all descriptors, its gauges vanish from scrapes. Its counts stay, since a table that /proc shows in its
process's memory map is never folded.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from shm import files
from shm.errors import RingCorrupt
from shm.files import DIRECTORY, NAME
from shm.ring.discovery import owned
from shm.ring.layout import HEADER_BYTES, MAX_SEGMENT_BYTES, MAX_WIDTH, SOURCE_BYTES, proven_header, text_of
from shm.ring.protocol import header_seal

MAGIC: Final = int.from_bytes(b"FOGTABL1", "little")
LAYOUT_VERSION: Final = 1
IMMUTABLE_END: Final = 160
CATALOG_USED: Final = 512
MAX_TABLE_BYTES: Final = 1 << 31

RETIRED: Final = "retired"
TABLE: Final = ".table"  # the ending of published tables
_IMMUTABLE: Final = struct.Struct("<QQQQQQ24x64s")
_IDENTITY: Final = re.compile(r"(?:[0-9]{1,10}-[0-9a-f]{16}|retired)\Z")


@dataclass(slots=True)
class TableHeader:
    """The immutable part of a table's header, with the sizes that it determines. ``salt`` is its seal."""

    application: str
    width: int
    catalog_bytes: int
    created_ns: int
    pid: int
    token: int
    values_offset: int = field(init=False)
    file_bytes: int = field(init=False)
    salt: int = field(init=False)

    def __post_init__(self) -> None:
        self.values_offset = HEADER_BYTES + self.catalog_bytes
        self.file_bytes = self.values_offset + 8 * self.width
        self.salt = header_seal(self.immutable())

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
    """The part of a table's file name that is unique to a process of the application."""
    return f"{pid}-{token:016x}"


def table_path(namespace: str, application: str, who: str) -> Path:
    """The path of a table's file. ``who``: the identity of its process, or RETIRED."""
    return DIRECTORY / f"fogmetrics.{namespace}.{application}.{who}.table"


def fold_lock_path(namespace: str, application: str) -> Path:
    return DIRECTORY / f"fogmetrics.{namespace}.{application}.{RETIRED}.lock"


def listed(
    namespace: str, names: Iterable[str] | None = None, *, application: str = "", owners: Collection[int] | None = None
) -> dict[str, list[str]]:
    """The sorted identities of the tables of each application, or of that one.

    ``names``: the files in /dev/shm, if known. ``owners``: user ids; without the tables of all others.
    """
    start = files.file_start(namespace) + (f"{application}." if application else "")
    if names is None:
        # All of them, however many: a fold forgets the tables that are not listed.
        names = [name for name in os.listdir(DIRECTORY) if name.startswith(start) and name.endswith(TABLE)]
        names = names if owners is None else owned(names, owners)
    found: dict[str, list[str]] = {}
    for name in sorted(names):
        parts = name.split(".")
        if len(parts) != 5 or (parts[0], parts[1], parts[4]) != ("fogmetrics", namespace, "table"):
            continue
        if NAME.match(parts[2]) and _IDENTITY.match(parts[3]):
            found.setdefault(parts[2], []).append(parts[3])
    return found


def files_of(namespace: str, application: str) -> list[Path]:
    """All files of an application's tables, in any state; not the lock."""
    return files.files_of(namespace, application, files.TABLE_DOTS)


def applications_of(namespace: str) -> list[str]:
    """The applications that have any file in shared memory, locks included."""
    return files.sources_of(namespace, files.TABLE_DOTS)


def read_header(application: str, page: bytes, file_bytes: int) -> TableHeader:
    """Decode and check the header in ``page``, a table's first page. Raises RingCorrupt, naming the field and value."""
    immutable = proven_header(application, "table", page, MAGIC, LAYOUT_VERSION, IMMUTABLE_END)
    size, width, catalog_bytes, created_ns, pid, token, raw = _IMMUTABLE.unpack(immutable)
    name = text_of(application, "the application of a table", raw)
    if not 0 < width <= MAX_WIDTH:
        raise RingCorrupt(application, f"the width of a table is {width}, not within 1…{MAX_WIDTH}")
    if not 0 < catalog_bytes <= MAX_SEGMENT_BYTES or catalog_bytes % 8:
        raise RingCorrupt(application, f"the catalog of a table has {catalog_bytes} bytes, not a multiple of 8")
    header = TableHeader(name, width, catalog_bytes, created_ns, pid, token)
    if size != header.file_bytes or size != file_bytes or size > MAX_TABLE_BYTES:
        raise RingCorrupt(
            application, f"a table's bytes are {size}; its layout gives {header.file_bytes}, the file has {file_bytes}"
        )
    return header
