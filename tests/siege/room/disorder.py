"""Programs of the check ``room``: ``python -m tests.siege.room.disorder at_random|watch NAMESPACE …``.

Three rings in a small /dev/shm whose room comes and goes, and what may happen to them in any order, beside a real
collector and a reader that looks at all of them all the time.
"""

from __future__ import annotations

import contextlib
import random
import select
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from shm.errors import RingError
from shm.files import building_path, ring_path
from shm.metric import Metric
from shm.ring.discovery import RingList
from shm.ring.reader import RingReader
from shm.ring.writer import RingWriter
from tests.rings import files_of
from tests.siege import processes as apart
from tests.siege.harness import require
from tests.siege.room.collectors import head_beyond
from tests.siege.room.full_shm import (
    MIB,
    NUMBER,
    PAGE,
    Filler,
    append,
    beside,
    configured,
    finished,
    opened,
    read,
    right,
    tries,
)

_SIZE = 8 * MIB
_SOURCES = ("a", "b", "c")
_LABEL = 800  # characters: five such fill the smallest catalog
_MOST_SERIES = 600


@dataclass
class _Held:
    """One ring as it must be."""

    source: str
    capacity: int
    writer: RingWriter | None = None
    head: int = 0
    frames: int = 0
    hidden: bool = False  # its file was removed, and it could not be published again yet


class Disorder:
    def __init__(self, namespace: str, filler: Filler, chance: random.Random) -> None:
        self.namespace, self.filler, self.chance = namespace, filler, chance
        self.counts: Counter[str] = Counter()
        self.rings = [_Held(source, 64) for source in _SOURCES]
        self.number = 0  # of the newest series
        self.helps = 0

    def step(self) -> None:
        kinds: list[tuple[int, Callable[[_Held], None]]] = [
            (20, self.append), (12, self.add_series), (6, self.add_long), (6, self.reserve), (5, self.free_columns),
            (3, self.redefine), (10, self.reopen), (3, self.remove), (20, self.room), (10, self.read), (4, self.litter),
        ]  # fmt: skip
        kind = self.chance.choices([one for _, one in kinds], [weight for weight, _ in kinds])[0]
        ring = self.chance.choice(self.rings)
        kind(ring)
        if ring.writer is None:
            self.reopen(ring)
        self.counts["operations"] += 1

    def tries(self, what: str, operation: Callable[[], object]) -> bool:
        return tries(what, self.namespace, operation, self.counts)

    def append(self, ring: _Held) -> None:
        if ring.writer:
            frames = self.chance.choice((1, 3, ring.capacity + 5))
            # Now and then most are absent for a whole capacity, so that there are columns to free.
            keep = self.chance.choice((1, 1, 7))
            append(ring.writer, frames, known=lambda number: number % keep == 0)
            ring.head += frames
            ring.frames = min(ring.frames + frames, ring.capacity)
            self.counts["frames appended"] += frames

    def add_series(self, ring: _Held) -> None:
        if ring.writer:
            for _ in range(self.chance.choice((1, 5, 40))):
                self.add(ring.writer, 1)

    def add_long(self, ring: _Held) -> None:
        if ring.writer:
            self.add(ring.writer, _LABEL)

    def add(self, writer: RingWriter, characters: int) -> None:
        self.number += 1
        label = str(self.number % 4096).zfill(characters)
        if len(writer.columns) < _MOST_SERIES:
            self.tries("a series", lambda: writer.add_series(NUMBER, (label,)))

    def reserve(self, ring: _Held) -> None:
        writer = ring.writer
        if writer and writer.width < 2 * _MOST_SERIES:
            columns = self.chance.choice((1, 50, 400))

            def reserve() -> None:
                writer.reserve(columns)

            self.tries("more columns", reserve)

    def free_columns(self, ring: _Held) -> None:
        if ring.writer:
            self.tries("freeing columns", ring.writer.free)

    def redefine(self, ring: _Held) -> None:
        writer = ring.writer
        if writer:
            self.helps += 1
            changed = Metric("other", "gauge", f"Help {self.helps}.", "", ())

            def redefine() -> None:
                writer.redefine([changed])
                writer.add_metric(changed)

            self.tries("a metric", redefine)

    def reopen(self, ring: _Held) -> None:
        if ring.writer:
            ring.writer.close()
            ring.writer = None
            # With its last map goes its history; unless a rebuild that found room has published it meanwhile.
            if ring.hidden and not ring_path(self.namespace, ring.source).exists():
                ring.head = ring.frames = 0
            ring.hidden = False
        capacity = self.chance.choice((ring.capacity, ring.capacity, 16, 64, 300, 5000))

        def start() -> None:
            ring.writer = opened(self.namespace, ring.source, capacity)

        if self.tries(f"a start with {capacity} frames", start):
            with contextlib.suppress(RingError):  # its own capacity needs no new room, if the ring is there
                ring.writer = opened(self.namespace, ring.source, ring.capacity)
                require(ring.writer.head == ring.head, f"I3: {ring.writer.head} was resumed, not {ring.head}")
        else:
            ring.capacity = capacity
            ring.frames = min(ring.frames, capacity)
        if ring.writer:
            require(ring.writer.head == ring.head, f"I3: {ring.writer.head} was resumed, not {ring.head}")

    def remove(self, ring: _Held) -> None:
        if ring.writer:
            ring_path(self.namespace, ring.source).unlink(missing_ok=True)
            ring.hidden = self.tries("publication", ring.writer.keep_published)

    def room(self, ring: _Held) -> None:
        if self.chance.random() < 0.6:
            self.filler.leave(self.chance.choice((0, 0, PAGE, 10 * PAGE, MIB // 10, MIB, 3 * MIB)))
        else:
            self.filler.give(self.chance.choice((None, PAGE, MIB, 2 * MIB)))
        self.counts["fillings"] += 1

    def read(self, ring: _Held) -> None:
        if ring.writer:
            ring.hidden = ring.hidden and self.tries("publication", ring.writer.keep_published)
            ring.hidden = ring.hidden or not ring_path(self.namespace, ring.source).exists()
            if not ring.hidden:
                self.counts["frames read"] += read(self.namespace, ring.source, ring.head, ring.frames)

    def litter(self, ring: _Held) -> None:
        """What a writer leaves that dies while it builds: half a segment under the name of one being built."""
        if ring.writer and not ring.hidden:
            ring.writer.close()
            ring.writer = None
            whole = ring_path(self.namespace, ring.source).read_bytes()
            path = building_path(self.namespace, ring.source)
            with contextlib.suppress(OSError), path.open("wb") as file:
                # Little of it: the next start frees it, and what is free was looked at before.
                file.write(whole[: self.chance.randrange(min(len(whole), 65_536))])
            require(ring.source in RingList(self.namespace).sources(), "a published ring is not found")
            self.counts["frames read"] += read(self.namespace, ring.source, ring.head, ring.frames)
            self.reopen(ring)
            require(not path.exists(), f"I6: half a segment was left behind: {path}")
            self.counts["half-built segments"] += 1


def at_random(namespace: str, operations: str, seed: str) -> apart.Done:
    """That many operations; a collector and a reader of all the rings go on beside them, and end well."""
    apart.small_shm(_SIZE)
    other = f"{namespace}-c"
    with contextlib.ExitStack() as stack:
        path = stack.enter_context(configured(other))
        collector = stack.enter_context(beside("collector", "node", "--config", path))
        begun = head_beyond(collector, other, 3)
        watcher = stack.enter_context(beside("tests.siege.room.disorder", "watch", namespace, other))
        filler = stack.enter_context(Filler(namespace))
        disorder = Disorder(namespace, filler, random.Random(int(seed)))
        for _ in range(int(operations)):
            disorder.step()
        for ring in disorder.rings:
            if ring.writer:
                ring.writer.close()
        filler.leave(0)
        disorder.counts["frames of real collectors"] = head_beyond(collector, other, begun + 3)
        collector.terminate()
        finished(collector, "the collector beside all this")
        said, _ = finished(watcher, "the reader beside all this")
        disorder.counts["frames read"] += int(said.split()[-1])
        left = [path.name for path in files_of(namespace) if path.suffix == ".new"]
        require(not left, f"I6: {left} is left")
    return dict(disorder.counts)


def watch(*namespaces: str) -> apart.Done:
    """Read every ring there is until standard input ends; prints how many frames."""
    frames = 0
    while not select.select([sys.stdin], [], [], 0.02)[0]:
        for namespace in namespaces:
            for source in RingList(namespace).sources():
                with contextlib.suppress(RingError), RingReader(namespace, source) as reader:
                    frame = reader.latest()
                    if frame is not None:
                        right(reader, frame)
                    frames += len(reader.frames().sequence)
    print(frames, flush=True)
    raise SystemExit(0)


if __name__ == "__main__":
    raise SystemExit(apart.main({"at_random": at_random, "watch": watch}))
