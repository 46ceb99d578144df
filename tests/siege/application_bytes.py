"""Bytes of tables: values that are read while they are stored, and files that are damaged, foreign or no tables at all.

A damaged file stands beside a living process's table of the same application, and beside another application. The
exporter's pages must go on to show what those two have, and whoever folds the dead must go on to fold.
``python -m tests.siege.application_bytes PROGRAM NAMESPACE …``, see :mod:`tests.siege.processes`.
"""

from __future__ import annotations

import contextlib
import os
import random
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

from exporter.app import Exporter
from exporter.http.negotiation import Format
from exporter.http.parameters import MetricsQuery
from exporter.status import stats as reports
from fogmetrics.config import Config
from fogmetrics.settings.tables import ApplicationsConfig, ShmConfig
from shm.errors import FogmetricsError
from shm.files import DIRECTORY
from shm.metric import Metric
from shm.ring.layout import HEADER_BYTES, IMMUTABLE_START
from shm.ring.protocol import header_seal
from shm.table import dead as dead_tables
from shm.table.format import IMMUTABLE_END, RETIRED, identity, read_header, table_path
from shm.table.process import ProcessTable
from shm.table.reader import TableReader
from tests.application import cell_of
from tests.siege.application_tables import HITS, TAKEN, count, identities, shown
from tests.siege.harness import require
from tests.siege.processes import Done, fork, kill_all, main, reaped

WEST, EAST = "west", "east"
_STRANGER: Final = 54321  # a user id that nobody has
_EVERYTHING: Final = MetricsQuery()
_WEST_LINE: Final = b'\nhits_total{of="west"} 5.0\n'
_EAST_LINE: Final = b'\nhits_total{of="east"} 3.0\n'


# ---- values --------------------------------------------------------------------------------------------------


def torn(namespace: str, seconds: str) -> Done:
    """A value that alternates between two words, all of whose bytes differ, is read as one of them."""
    two = struct.unpack("<2d", bytes(range(0x11, 0x19)) + bytes(range(0x41, 0x49)))
    words = {struct.pack("<d", value) for value in two}

    def alternate() -> None:
        table = ProcessTable(namespace, "app")
        cells = [cell_of(table, Metric("level", "gauge", "A level.", label_names=("of",)), str(n)) for n in range(7)]
        for turn in range(1 << 40):
            for cell in cells:
                cell.set(two[turn & 1])

    pid, reads = fork(alternate), 0
    try:
        deadline = time.monotonic() + float(seconds)
        table: TableReader | None = None
        while time.monotonic() < deadline:
            found = identities(namespace)
            if table is None:
                if found:
                    table = TableReader(namespace, "app", found[0], {os.geteuid()})
                continue
            table.refresh()
            data = table.values().tobytes()
            if table.catalog.columns < 7:
                continue
            for at in range(0, len(data), 8):
                word = data[at : at + 8]
                require(word in words or not reads, f"a value was read that nobody stored: {word.hex()}")
            reads += all(data[at : at + 8] in words for at in range(0, len(data), 8))
    finally:
        kill_all([pid])
    return {"copies of values that alternate": reads}


# ---- files ---------------------------------------------------------------------------------------------------


class Scene:
    """A living process in each of two applications, one that died in the first, and the exporter."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.pids = [self._live(WEST, 5.0), self._live(EAST, 3.0)]
        reaped(fork(lambda: self._count(WEST, "dead", 7.0)))
        [dead] = [who for who in identities(namespace, WEST) if not who.startswith(f"{self.pids[0]}-")]
        self.path = table_path(namespace, WEST, dead)
        self.whole = self.path.read_bytes()
        self.retired = table_path(namespace, WEST, RETIRED)
        dead_tables.fold(namespace, WEST)
        self.whole_retired = self.retired.read_bytes()
        self.exporter = Exporter(Config(shm=ShmConfig(namespace=namespace), applications=ApplicationsConfig(label="")))

    def _live(self, application: str, value: float) -> int:
        def live() -> None:
            self._count(application, application, value)
            time.sleep(600)

        return fork(live)

    def _count(self, application: str, of: str, value: float) -> None:
        table = ProcessTable(self.namespace, application)
        count(table, of, value)
        if application == WEST:
            cell_of(table, TAKEN)
        for number in range(5):
            table.cell(HITS, (f"{of}{number}",))

    def ready(self) -> None:
        """Wait for the two processes."""
        deadline = time.monotonic() + 20
        while _EAST_LINE not in self.page() or _WEST_LINE not in self.page():
            require(time.monotonic() < deadline, f"the processes of the scene are not shown: {self.page()!r}")
            time.sleep(0.01)

    def page(self) -> bytes:
        return b"".join(self.exporter.metrics_parts(_EVERYTHING, Format.TEXT))

    def put(self, path: Path, data: bytes) -> None:
        building = path.with_name(f"harm.{self.namespace}")
        building.write_bytes(data)
        os.rename(building, path)

    def clear(self) -> None:
        """Only the two that live, and nothing of the dead."""
        for path in DIRECTORY.glob(f"fogmetrics.{self.namespace}.*"):
            if not any(f".{pid}-" in path.name and path.suffix == ".table" for pid in self.pids):
                with contextlib.suppress(IsADirectoryError):
                    path.unlink()
                if path.is_dir():
                    path.rmdir()

    def look(self, what: str) -> None:
        page = self.page()
        for line in (_WEST_LINE, _EAST_LINE):
            require(line in page, f"{what}: a page lacks {line.decode()}, of a process that lives:\n{page.decode()}")
        told = reports.stats(self.exporter.rings, self.exporter.own.series, self.exporter.applications)
        for name in (WEST, EAST):
            require(told["applications"][name]["processes"] == 1, f"{what}: /stats says {told['applications'][name]}")
        fresh, said = reports.health(self.exporter.rings, self.exporter.applications)
        require(fresh and {WEST, EAST} <= set(said["applications"]), f"{what}: /health says {said}")

    def fold(self, what: str) -> None:
        try:
            dead_tables.fold(self.namespace, WEST)
        except FogmetricsError:  # in a word of ours; whoever folds logs it
            pass
        except Exception as error:  # noqa: BLE001 - the promise
            require(False, f"{what}: whoever folds the dead gets {type(error).__name__}: {error}")

    def close(self) -> None:
        self.exporter.close()
        kill_all(self.pids)


def harmed(namespace: str, times: str, seed: str) -> Done:
    """Each kind of damage, to a dead process's table and to the retired's."""
    scene = Scene(namespace)
    counts: Counter[str] = Counter()
    rng = random.Random(int(seed))

    def try_(kind: str, what: str, *acts: Callable[[], object]) -> None:
        scene.clear()
        for act in acts:
            act()
        scene.look(what)
        scene.fold(what)
        scene.look(f"{what}, folded")
        counts[kind] += 1

    try:
        scene.ready()
        for what, data in _damaged(scene.whole, rng, int(times)):
            put = partial(scene.put, scene.path, data)
            try_("damaged tables", f"a dead process's table, {what}", put)
        whole = partial(scene.put, scene.path, scene.whole)
        for what, data in _damaged(scene.whole_retired, rng, int(times)):
            put = partial(scene.put, scene.retired, data)
            try_("damaged tables of the dead", f"the table of the dead, {what}", whole, put)
        for what, act in _strange(scene):
            try_("no tables at all", what, act)
        scene.clear()
        require(shown(namespace, WEST), "what lives is no longer shown")
    finally:
        scene.close()
    return dict(counts)


def _damaged(whole: bytes, rng: random.Random, times: int) -> Iterator[tuple[str, bytes]]:
    """(what, bytes): flips anywhere, fields set and sealed again, files cut, extended and with holes."""
    used = HEADER_BYTES + int.from_bytes(whole[512:520], "little")
    header = read_header("any", whole[:HEADER_BYTES], len(whole))
    regions = {"header": (0, IMMUTABLE_END), "catalog": (HEADER_BYTES, used),
               "values": (header.values_offset, header.values_offset + 64), "anywhere": (0, len(whole))}  # fmt: skip
    for _ in range(times):
        for name, (start, end) in regions.items():
            data = bytearray(whole)
            at = rng.randrange(start, max(end, start + 1))
            data[at] ^= 1 << rng.randrange(8)
            yield f"bit flipped in the {name}, byte {at}", bytes(data)
    for at in range(IMMUTABLE_START, 72, 8):
        for value in (0, 1, 1 << 20, 1 << 31, 1 << 40, (1 << 64) - 1):
            data = bytearray(whole)
            data[at : at + 8] = value.to_bytes(8, "little")
            data[16:24] = header_seal(bytes(data[IMMUTABLE_START:IMMUTABLE_END])).to_bytes(8, "little")
            yield f"header word {at} {value:#x} and sealed again", bytes(data)
    for value in (0, 8, 1 << 20, (1 << 64) - 1):
        yield f"catalog's bytes {value:#x}", whole[:512] + value.to_bytes(8, "little") + whole[520:]
    for size in {0, 1, 8, 511, 4095, 4096, 4097, used - 1, used, len(whole) - 8, len(whole) - 1}:
        yield f"cut to {size}", whole[:size]
    yield "extended", whole + bytes(4096)
    yield "zeros", bytes(len(whole))
    for start, end in ((HEADER_BYTES, used), (used - 32, len(whole)), (0, HEADER_BYTES)):
        yield f"a hole at {start}", whole[:start] + bytes(end - start) + whole[end:]
    yield "random bytes behind the header", whole[:HEADER_BYTES] + rng.randbytes(len(whole) - HEADER_BYTES)


def _strange(scene: Scene) -> Iterator[tuple[str, Callable[[], object]]]:
    """(what, how it comes there): what has a table's name and is none, or is not this process's."""
    put = partial(partial, scene.put)
    stray = identity(1, 1)
    yield "a table under another identity", put(table_path(scene.namespace, WEST, stray), scene.whole)
    yield "a table of another application", put(table_path(scene.namespace, EAST, stray), scene.whole)
    yield "a process's table as that of the dead", put(scene.retired, scene.whole)
    yield "the table of the dead as a process's", put(scene.path, scene.whole_retired)
    for path, name in ((scene.path, "a process's"), (scene.retired, "the dead's")):
        yield f"{name}: a FIFO", partial(os.mkfifo, path)
        yield f"{name}: a directory", path.mkdir
        for to in ("/nowhere", str(path), "/dev/zero"):
            yield f"{name}: a link to {to}", partial(path.symlink_to, to)
        if os.geteuid() == 0:

            def foreign(path: Path = path) -> None:
                scene.put(path, scene.whole)
                os.chown(path, _STRANGER, -1)

            yield f"{name}: another user's", foreign


if __name__ == "__main__":
    raise SystemExit(main({"torn": torn, "harmed": harmed}))
