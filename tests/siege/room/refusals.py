"""Programs of the check ``room``: ``python -m tests.siege.room.refusals small|docker|start NAMESPACE …``.

``small`` and ``docker`` mount a /dev/shm of their own; ``start`` is started in one.
"""

from __future__ import annotations

import contextlib
import functools
import random
import time
from array import array
from collections import Counter
from collections.abc import Callable
from typing import Final

from shm.errors import NoSpace, RingCorrupt, RingError
from shm.files import building_path, ring_path, unlink
from shm.metric import Metric
from shm.ring.layout import STALE_NAN_BITS
from shm.ring.reader import RingReader
from tests.rings import GAUGE, append_proof, corrupt_path, open_writer, proof, remove_files_of
from tests.siege.harness import require, violation_at
from tests.siege.processes import Done, asking, main, small_shm
from tests.siege.room import collectors
from tests.siege.room.full_shm import MIB, PAGE, Filler, free, granted, read, refused

_SMALL, _DOCKER = 8 * MIB, 64 * MIB
_LONG = 990  # characters of a label: four such fill the catalog
_OPERATIONS = 150  # in any order, on one ring
_COMPETITOR = 600  # columns of a ring of 1,000 frames: 5 MiB
_ABSENT: Final = array("d", STALE_NAN_BITS.to_bytes(8, "little"))


def growth(namespace: str, filler: Filler, counts: Counter[str]) -> None:
    """A ring of 3.2 MiB that must grow to 4.7 where 1 is free: refused, however often, and it goes on."""
    with open_writer(namespace, capacity=3000, columns=128) as writer:
        append_proof(writer, 3000)
        for left in (MIB, 10 * PAGE, 0):
            filler.leave(left)
            refused("growth by a series", namespace, lambda: writer.add_series(GAUGE, ("128",)), counts)
            refused("room for 500 series", namespace, lambda: writer.reserve(500), counts)
            append_proof(writer, 100)
            read(namespace, "s", writer.head, 128, counts)
        filler.give()
        writer.add_series(GAUGE, ("128",))
        append_proof(writer, 3)
        read(namespace, "s", writer.head, 129, counts)


def start(namespace: str, filler: Filler, counts: Counter[str]) -> None:
    """A start that does not fit leaves nothing, and its lock to the next one."""
    refused("a start with 24 MiB", namespace, lambda: open_writer(namespace, capacity=3000, columns=1000), counts)
    filler.leave(0)
    refused("a start without one page", namespace, lambda: open_writer(namespace), counts)
    filler.give()
    open_writer(namespace).close()


def catalog(namespace: str, filler: Filler, counts: Counter[str]) -> None:
    """Labels that are longer than what is left of the catalog."""
    with open_writer(namespace, capacity=3000, columns=2) as writer:
        append_proof(writer, 10)
        filler.leave(25 * PAGE)
        label = "0" * _LONG
        entered = 0
        with contextlib.suppress(NoSpace):
            for number in range(3, 12):
                writer.add_series(GAUGE, (f"{label}{number}",))
                entered += 1
        require(entered < 5, f"I7: the catalog of 4 KiB took {entered} labels of 1 KB")
        refused("a catalog that grows", namespace, lambda: writer.add_series(GAUGE, (f"{label}9",)), counts)
        long = Metric("other", "gauge", "h" * _LONG, "", ())
        refused("a metric", namespace, lambda: writer.add_metric(long), counts)
        append_proof(writer, 10)
        read(namespace, "s", 20, 2, counts)


def capacity(namespace: str, filler: Filler, counts: Counter[str]) -> None:
    """Another capacity at the start: refused, and with the old one the history is there."""
    with open_writer(namespace, capacity=2000, columns=16) as writer:
        append_proof(writer, 2100)
    filler.leave(MIB // 8)
    for other in (4000, 1999, 1000):
        starts = functools.partial(open_writer, namespace, capacity=other)
        refused(f"a start with {other} frames", namespace, starts, counts)
    with open_writer(namespace, capacity=2000) as writer:
        require((writer.head, writer.resumed) == (2100, 2000), f"I3: {writer.resumed} frames of 2000 were resumed")
        append_proof(writer, 5)
    read(namespace, "s", 2105, 16, counts)


def publication(namespace: str, filler: Filler, counts: Counter[str]) -> None:
    """A ring whose file was removed can't be published again until there is room."""
    with open_writer(namespace, capacity=2000, columns=16) as writer:
        append_proof(writer, 2000)
        ring_path(namespace, "s").unlink()
        filler.leave(0)
        for _ in range(3):
            refused("publication again", namespace, writer.keep_published, counts)
            append_proof(writer, 5)
        filler.give()
        writer.keep_published()
        read(namespace, "s", 2015, 16, counts)


def freeing(namespace: str, filler: Filler, counts: Counter[str]) -> None:
    """Columns to free and a definition to change, and no room for either."""

    def append_ten(frames: int) -> None:
        for sequence in range(writer.head + 1, writer.head + 1 + frames):
            writer.append(proof(sequence, 10) + _ABSENT * (writer.column_count - 10), sequence, sequence)

    with open_writer(namespace, capacity=64, columns=900) as writer:
        append_proof(writer)
        append_ten(70)
        filler.leave(2 * PAGE)
        refused("freeing columns", namespace, writer.prune, counts)
        changed = Metric(GAUGE.name, "gauge", "Another help.", "", GAUGE.label_names)
        refused("another definition", namespace, lambda: writer.redefine([changed]), counts)
        append_ten(5)
        read(namespace, "s", 76, 900, counts)
        filler.give()
        require(writer.prune(), "columns were to be freed, and nothing was done")
        read(namespace, "s", 76, 10, counts)


def holes(namespace: str, filler: Filler, counts: Counter[str]) -> None:
    """A segment whose memory is not all reserved is refused by readers, and begun anew by its writer."""
    with open_writer(namespace, capacity=1000, columns=8) as writer:
        append_proof(writer, 10)
    path = ring_path(namespace, "s")
    data = path.read_bytes()
    with path.open("wb") as file:  # as a writer without posix_fallocate would have made it
        file.write(data[:PAGE])
        file.truncate(len(data))
    filler.leave(0)
    try:
        RingReader(namespace, "s").close()
        require(False, f"I7: a reader took a segment with holes, of {len(data)} bytes")
    except RingCorrupt as error:
        require("holes" in str(error), f"I7: a segment with holes was refused for another reason: {error}")
    filler.give()
    open_writer(namespace, capacity=1000).close()
    require(corrupt_path(namespace, "s").exists(), "I7: a writer took a segment with holes")
    counts["segments with holes"] += 1


def competition(namespace: str, filler: Filler, counts: Counter[str]) -> None:
    """Two programs that want 5 MiB each of 8: at most one gets them, and nothing of the other is left."""
    at = time.monotonic() + 2
    program = "tests.siege.room.refusals", "start"
    with asking(*program, namespace, "s", at) as first, asking(*program, namespace, "t", at) as second:
        asked = {"s": first()["granted"], "t": second()["granted"]}
    granted = [source for source, got in asked.items() if got]
    require(len(granted) <= 1, f"I7: two segments of 5 MiB were granted in 8: {granted}")
    for source in asked:
        require(not building_path(namespace, source).exists(), f"I6: half a segment of {source} is left")
        require(
            ring_path(namespace, source).exists() == (source in granted), f"I6: the ring {source} is or is not left"
        )
    counts["competitions for the last room"] += 1


def start_at(namespace: str, source: str, at: str) -> Done:
    """Start a writer of 5 MiB at that moment, and write to all of it."""
    time.sleep(max(float(at) - time.monotonic(), 0))
    try:
        with open_writer(namespace, source, capacity=1000) as writer:
            writer.reserve(_COMPETITOR)
            for number in range(_COMPETITOR):
                writer.add_series(GAUGE, (str(number),))
            append_proof(writer, 1000)
        return {"granted": 1}
    except NoSpace:
        unlink(namespace, source)
        return {"granted": 0}


def any_order(namespace: str, filler: Filler, counts: Counter[str], chance: random.Random) -> None:
    """Whatever a writer does, in any order, while room comes and goes: granted or refused, no frame is lost."""
    writer, held, other = open_writer(namespace, capacity=64, columns=1), 0, 0  # held: how many frames

    def reopen(capacity: int) -> None:
        nonlocal writer, held
        writer.close()
        if granted(f"a start with {capacity} frames", namespace, lambda: start_with(capacity), counts):
            held = min(held, capacity)
        else:
            start_with(writer.header.capacity)  # as it was: that needs no room
        require(writer.head == head, f"I3: {writer.head} was resumed, not {head}")

    def start_with(capacity: int) -> None:
        nonlocal writer
        writer = open_writer(namespace, capacity=capacity)

    def redefine() -> None:
        writer.redefine([Metric(GAUGE.name, "gauge", f"Help {other}.", "", GAUGE.label_names)])

    def publish() -> None:
        ring_path(namespace, "s").unlink(missing_ok=True)
        if not granted("publication again", namespace, writer.keep_published, counts):
            filler.give()
            writer.keep_published()

    for _ in range(_OPERATIONS):
        filler.leave(chance.choice((0, 0, PAGE, 10 * PAGE, MIB // 10, MIB))) if chance.random() < 0.5 else filler.give()
        head, other = writer.head, other + 1
        add, new = functools.partial(writer.add_series, writer.metrics[GAUGE.name]), str(len(writer.columns))
        what, operation = chance.choice((
            ("a series", functools.partial(add, (new,))),
            ("a long series", functools.partial(add, (new.zfill(_LONG),))),
            ("more columns", functools.partial(writer.reserve, chance.choice((1, 50, 200)))),
            ("a changed metric", redefine),
            ("", publish),
            ("", functools.partial(reopen, chance.choice((16, 64, 64, 300)))),
        ))  # fmt: skip
        counts["operations in any order"] += 1
        if what:
            granted(what, namespace, operation, counts)
        else:
            operation()
        frames = chance.choice((1, 3, writer.header.capacity + 5))
        append_proof(writer, frames)
        held = min(held + frames, writer.header.capacity)
        read(namespace, "s", writer.head, len(writer.columns), counts)
    require(len(writer.history()) == held, f"I3: {len(writer.history())} frames are left of {held}")
    writer.close()


SCENARIOS: tuple[Callable[[str, Filler, Counter[str]], None], ...] = (
    growth, start, catalog, capacity, publication, freeing, holes, collectors.too_large, collectors.in_use,
    collectors.without_file, collectors.that_grows, collectors.redefined, competition,
)  # fmt: skip


def small(namespace: str, times: str, seed: str) -> Done:
    """All scenarios in 8 MiB, each in a /dev/shm that is empty again."""
    small_shm(_SMALL)
    counts: Counter[str] = Counter()
    chance = random.Random(int(seed))

    def in_any_order(namespace: str, filler: Filler, counts: Counter[str]) -> None:
        any_order(namespace, filler, counts, chance)

    for scenario in (*SCENARIOS, in_any_order) * int(times):
        with Filler(namespace) as filler, violation_at(f"I7: {scenario.__name__}", RingError, OSError):
            scenario(namespace, filler, counts)
        remove_files_of(namespace)
        require(free() == _SMALL, f"I7: after {scenario.__name__} {_SMALL - free()} bytes are not given back")
    return dict(counts)


def docker(namespace: str) -> Done:
    """In Docker's 64 MiB: a day of 1,000 series fits once, and not twice."""
    small_shm(_DOCKER)
    counts: Counter[str] = Counter()
    with open_writer(namespace, capacity=5760) as writer:
        writer.reserve(1000)
        for number in range(1000):
            writer.add_series(GAUGE, (str(number),))
        append_proof(writer, 50)
        refused("growth beyond 1,000 series", namespace, lambda: writer.reserve(1), counts)
        refused(
            "a second ring of 1,000",
            namespace,
            lambda: open_writer(namespace, "t", capacity=5760, columns=1000),
            counts,
        )
        with Filler(namespace) as filler:
            filler.leave(0)
            append_proof(writer, 50)
            read(namespace, "s", 100, 1000, counts)
    return dict(counts)


if __name__ == "__main__":
    raise SystemExit(main({"small": small, "docker": docker, "start": start_at}))
