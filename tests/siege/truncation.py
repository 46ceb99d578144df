"""Attack I7: a segment is cut, holed, overwritten, extended or removed under its users, and SIGBUS ends none of them.

A saboteur of the same user does all of that to a ring without pause, while a collector appends to it and readers read
windows, latest frames and catalogs. Every accepted frame must be the one that was appended; every process must live to
the end, and the ring must then be whole again, with its numbers going on.

Then holes are cut into a ring that readers have open: nothing of it is served, no reader allocates a page of it, and
another ring is served as before.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Callable
from typing import Final

from exporter.rings import RingSet
from shm.errors import RingError, RingLost
from shm.files import ring_path
from shm.ring.layout import IMMUTABLE_END
from shm.ring.reader import RingReader
from shm.ring.writer import RingWriter
from tests.rings import append_proof, check_all, open_writer, punch_hole, sequences
from tests.rings import check as check_frame
from tests.siege.harness import Counts, Effort, Mutant, own_namespace, require, violation_at
from tests.siege.processes import Done, asking, main

_COLUMNS: Final = 256  # a slot of half a page, in a file of many: cuts fall anywhere
_CAPACITY: Final = 64
_PAGE_BYTES: Final = 4096

MUTANTS = (
    Mutant(
        "truncation", "the interpreter stores into the map", "shm.ring.staging:Staging.copy",
        patch="""
            def fault(self, target, offset, hints):
                target[offset] = 0
                return original(self, target, offset, hints)
        """,
        says="ended by SIGBUS",
    ),
    Mutant(
        "truncation", "a reader touches its map", "shm.ring.read_only_map:ReadOnlyMap.copy",
        code="scratch.map[: scratch.fill([self._bytes[one] for one in ranges])]",
        becomes='b"".join([bytes(self._bytes[one]) for one in ranges])',
        says="ended by SIGBUS",
    ),
    Mutant(
        "truncation", "a reader does not look for holes", "shm.ring.read_only_map:ReadOnlyMap.whole",
        patch="def fault(self): return True", says="filled a hole",
    ),
    Mutant(
        "truncation", "the writer does not look at its file", "shm.ring.segment:WritableSegment.trouble",
        patch='def fault(self): return ""', says="is not whole again",
    ),
    Mutant(
        "truncation", "a ring published again forgets its numbers", "shm.ring.segment:StoredSegment.read_again",
        patch="def fault(self, catalog, head): original(self, catalog, 0)", says="twice",
    ),
)  # fmt: skip


def check(effort: Effort) -> Counts:
    seconds = effort.seconds(4, 180)
    with own_namespace() as namespace, contextlib.ExitStack() as stack:
        # One second more than the saboteur's: it ends before.
        arguments = namespace, seconds + 1
        answers = [
            stack.enter_context(asking("tests.siege.truncation", user, *arguments, timeout=seconds + 60))
            for user in _USERS
        ]
        harms = _harm(namespace, seconds, effort.random())
        written, read, exported = [answer() for answer in answers]
        _require_whole(namespace, int(written["head"]))
    with own_namespace() as namespace:
        holes = _cut_holes(namespace, effort.many(40, 4000), effort.random())
    return {
        "times a file was harmed": harms,
        "frames appended": written["appended"],
        "rings published again": written["published"],
        "frames read": int(read["frames"]) + int(exported["frames"]),
        "refused rings": int(read["errors"]) + int(exported["errors"]),
        "holes beside readers": holes,
    }


def _write(namespace: str, seconds: str) -> Done:
    """Check the ring's file and append, as a collector does, without pause; no number may be given twice."""
    deadline = time.monotonic() + float(seconds)
    appended = published = head = 0
    writer = _reopen(namespace)
    with contextlib.closing(writer):
        while time.monotonic() < deadline:
            generation = writer.header.generation
            try:
                writer.keep_published()
                append_proof(writer)
            except RingLost:  # cut as fast as it was published: the collector then starts again
                writer.close()
                writer = _reopen(namespace)
                head = writer.head  # set aside as corrupt, the ring may have begun anew
                continue
            require(writer.head > head, f"frame {writer.head} was numbered twice: {head} was appended before")
            appended, head = appended + 1, writer.head
            published += writer.header.generation != generation
            time.sleep(0.0002)
    return {"appended": appended, "published": published, "head": head}


def _reopen(namespace: str) -> RingWriter:
    while True:
        with contextlib.suppress(RingError):
            return open_writer(namespace, capacity=_CAPACITY, columns=_COLUMNS)


def _read(namespace: str, seconds: str) -> Done:
    deadline = time.monotonic() + float(seconds)
    frames = errors = 0
    while time.monotonic() < deadline:
        try:
            with RingReader(namespace, "s") as reader:
                for _ in range(20):
                    latest = reader.latest()
                    if latest is not None:
                        check_frame(latest, _COLUMNS)
                        frames += 1
                    window = reader.frames(0)
                    check_all(window, _COLUMNS)
                    frames += len(window.sequence)
                    labels = [series.label_values[0] for series in reader.series]
                    assert labels == [str(column) for column in range(len(labels))]
        except RingError:
            errors += 1
    return {"frames": frames, "errors": errors}


def _read_as_exporter(namespace: str, seconds: str) -> Done:
    deadline = time.monotonic() + float(seconds)
    frames = errors = 0
    rings = RingSet(namespace)
    while time.monotonic() < deadline:
        for ring in rings.refresh():
            window = ring.reader.frames(0, None)
            check_all(window, _COLUMNS)
            frames += len(window.sequence)
        errors += len(rings.errors)
    rings.close()
    return {"frames": frames, "errors": errors}


_USERS: Final[dict[str, Callable[[str, str], Done]]] = {
    "writer": _write, "reader": _read, "exporter": _read_as_exporter,
}  # fmt: skip


def _harm(namespace: str, seconds: float, random_: random.Random) -> int:
    """Harm the ring's file in every way, each time a moment after it is there; the number of times."""
    path = ring_path(namespace, "s")
    harms = 0
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(random_.uniform(0, 0.008))
        with contextlib.suppress(FileNotFoundError), path.open("r+b") as file:
            size = os.fstat(file.fileno()).st_size
            kind = random_.randrange(7)
            if kind == 0:
                path.unlink()
            elif kind == 1:
                os.ftruncate(file.fileno(), random_.randrange(size + 1))
            elif kind == 2:
                os.ftruncate(file.fileno(), 0)
                os.ftruncate(file.fileno(), size)
            elif kind == 3:
                file.write(random_.randbytes(IMMUTABLE_END))
            elif kind == 4:
                os.ftruncate(file.fileno(), size + random_.randrange(1, 1 << 20))
            elif kind == 5:
                punch_hole(path, _page(random_, size), _PAGE_BYTES)
            else:  # cut again and again: into the moment between a look and a store
                for _ in range(20):
                    os.truncate(path, random_.randrange(size + 1))
            harms += 1
    return harms


def _page(random_: random.Random, size: int) -> int:
    """Where one of the file's pages begins."""
    return random_.randrange(size // _PAGE_BYTES + 1) * _PAGE_BYTES


def _cut_holes(namespace: str, holes: int, random_: random.Random) -> int:
    """Cut that many holes, one after the other, into a ring that readers have open, and mend it again."""
    path = ring_path(namespace, "s")
    rings = RingSet(namespace)
    with (
        contextlib.closing(rings),
        open_writer(namespace, capacity=_CAPACITY, columns=_COLUMNS) as writer,
        open_writer(namespace, "whole", capacity=_CAPACITY, columns=_COLUMNS) as other,
    ):
        append_proof(writer, _CAPACITY)
        for _ in range(holes):
            append_proof(other)
            with RingReader(namespace, "s") as reader:
                require(reader.latest() is not None, "a ring without holes is not read")
                require({ring.source for ring in rings.refresh()} == {"s", "whole"}, "a ring without holes is refused")
                start = _page(random_, writer.header.segment_bytes - _PAGE_BYTES)
                punch_hole(path, start, random_.choice((1, 7)) * _PAGE_BYTES)
                allocated = path.stat().st_blocks
                served = [ring.reader.frames(0, None) for ring in rings.rings.values() if ring.source == "s"]
                for ring in rings.refresh():
                    check_all(ring.reader.frames(0, None), _COLUMNS)
                read = [*sequences(reader), reader.latest(), *reader.series, *reader.frames().sequence]
                require(path.stat().st_blocks == allocated, "a reader filled a hole")
                require(not any(read), "frames of a ring with holes are served")
                require(not any(len(window.sequence) for window in served), "a window of a ring with holes is served")
                require(rings.rings.keys() == {"whole"}, f"the exporter has the rings {set(rings.rings)}")
                require(reader.replaced, "a reader does not say that its ring has holes")
            writer.keep_published()
            append_proof(writer, _CAPACITY)
    return holes


def _require_whole(namespace: str, head: int) -> None:
    """The ring that the writer left is whole, with its newest frames."""
    with violation_at("the ring is not whole again", RingError), RingReader(namespace, "s") as reader:
        newest = reader.newest_sequence()
        require(newest == head, f"it ends with frame {newest}, not {head}")
        require(len(reader.series) == _COLUMNS, f"it has {len(reader.series)} series")
        check_all(reader.frames(), _COLUMNS)


if __name__ == "__main__":
    raise SystemExit(main(_USERS))
