"""Programs of the check ``room``: ``python -m tests.siege.room.refusals small|docker|start NAMESPACE …``.

``small`` and ``docker`` make a /dev/shm of their own; ``start`` is started in one.
"""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Callable

from shm.errors import NoSpace, RingCorrupt, RingError
from shm.files import building_path, ring_path, unlink
from shm.metric import Metric
from shm.ring.reader import RingReader
from tests.rings import corrupt_path, files_of
from tests.siege import processes as apart
from tests.siege.harness import require
from tests.siege.room.collectors import (
    collector_in_use,
    collector_redefined,
    collector_that_grows,
    collector_too_large,
    collector_without_file,
)
from tests.siege.room.full_shm import (
    MIB,
    NUMBER,
    PAGE,
    Filler,
    append,
    beside,
    finished,
    free,
    hollow,
    opened,
    read,
    refused,
)

_SMALL, _DOCKER = 8 * MIB, 64 * MIB
_LONG = 990  # characters of a label: four such fill the catalog
_WAIT_SECONDS = 30.0


# ---- one scenario after the other ------------------------------------------------------------------------------


def growth(namespace: str, filler: Filler, counts: Counter[str]) -> None:
    """A ring of 3.2 MiB that must grow to 4.7 where there is 1: refused, however often, and it goes on."""
    with opened(namespace, "s", 3000, columns=128) as writer:
        append(writer, 3000)
        for left in (MIB, 10 * PAGE, 0):
            filler.leave(left)
            refused("growth by a series", namespace, lambda: writer.add_series(NUMBER, ("128",)), counts)
            refused("room for 500 series", namespace, lambda: writer.reserve(500), counts)
            append(writer, 100)
            counts["frames read"] += read(namespace, "s", writer.head)
        filler.give()
        writer.add_series(NUMBER, ("128",))
        append(writer, 3)
        counts["frames read"] += read(namespace, "s", writer.head)


def start(namespace: str, filler: Filler, counts: Counter[str]) -> None:
    """A start that does not fit leaves nothing, and its lock to the next one."""
    refused("a start with 24 MiB", namespace, lambda: opened(namespace, "s", 3000, columns=1000), counts)
    filler.leave(0)
    refused("a start without one page", namespace, lambda: opened(namespace, "s", 8), counts)
    filler.give()
    opened(namespace, "s", 8).close()


def catalog(namespace: str, filler: Filler, counts: Counter[str]) -> None:
    """Labels longer than the catalog has room for."""
    with opened(namespace, "s", 3000, columns=2) as writer:
        append(writer, 10)
        filler.leave(25 * PAGE)
        label = "0" * _LONG
        entered = 0
        with contextlib.suppress(NoSpace):
            for number in range(3, 12):
                writer.add_series(NUMBER, (f"{label}{number}",))
                entered += 1
        require(entered < 5, f"I7: the catalog of 4 KiB took {entered} labels of 1 KB")
        refused("a catalog that grows", namespace, lambda: writer.add_series(NUMBER, (f"{label}9",)), counts)
        refused("a metric", namespace, lambda: writer.add_metric(_metric(help_="h" * _LONG)), counts)
        append(writer, 10)
        counts["frames read"] += read(namespace, "s", 20)


def _metric(name: str = "other", help_: str = "") -> Metric:
    return Metric(name, "gauge", help_, "", ())


def capacity(namespace: str, filler: Filler, counts: Counter[str]) -> None:
    """Another capacity at the start: refused, and with the old one the history is there."""
    with opened(namespace, "s", 2000, columns=16) as writer:
        append(writer, 2100)
    filler.leave(MIB // 8)
    for other in (4000, 1999, 1000):
        refused(f"a start with {other} frames", namespace, lambda: opened(namespace, "s", other), counts)  # noqa: B023
    with opened(namespace, "s", 2000) as writer:
        require((writer.head, writer.resumed) == (2100, 2000), f"I3: {writer.resumed} frames of 2000 were resumed")
        append(writer, 5)
    counts["frames read"] += read(namespace, "s", 2105)


def publication(namespace: str, filler: Filler, counts: Counter[str]) -> None:
    """A ring whose file was removed has no room to be published again until there is."""
    with opened(namespace, "s", 2000, columns=16) as writer:
        append(writer, 2000)
        ring_path(namespace, "s").unlink()
        filler.leave(0)
        for _ in range(3):
            refused("publication again", namespace, writer.keep_published, counts)
            append(writer, 5)
        filler.give()
        writer.keep_published()
        counts["frames read"] += read(namespace, "s", 2015)


def freeing(namespace: str, filler: Filler, counts: Counter[str]) -> None:
    """Columns to free, a definition to change, and no room for either."""
    with opened(namespace, "s", 64, columns=900) as writer:
        append(writer, 1)
        append(writer, 70, known=lambda number: number < 10)
        filler.leave(2 * PAGE)
        refused("freeing columns", namespace, writer.free, counts)
        changed = Metric(NUMBER.name, "gauge", "Another help.", "", NUMBER.label_names)
        refused("another definition", namespace, lambda: writer.redefine([changed]), counts)
        append(writer, 5, known=lambda number: number < 10)
        counts["frames read"] += read(namespace, "s", 76)
        filler.give()
        require(writer.free(), "columns were to be freed, and nothing was done")
        counts["frames read"] += read(namespace, "s", 76)


def holes(namespace: str, filler: Filler, counts: Counter[str]) -> None:
    """A segment whose memory is not all there is refused by readers, and begun anew by its writer."""
    with opened(namespace, "whole", 1000, columns=8) as writer:
        append(writer, 10)
    hollow(namespace, "whole2", "whole").rename(ring_path(namespace, "s"))
    for source in ("s", "hollow"):
        hollow(namespace, source, "whole")
        data = bytearray(ring_path(namespace, source).read_bytes())
        _take_name(data, source)
        with ring_path(namespace, source).open("r+b") as file:
            file.write(data[:PAGE])
        filler.leave(0)
        try:
            RingReader(namespace, source).close()
            require(False, f"I7: a reader took a segment with holes, of {len(data)} bytes")
        except RingCorrupt as error:
            require("holes" in str(error), f"I7: a segment with holes was refused for another reason: {error}")
        counts["segments with holes refused"] += 1
        filler.give()
    opened(namespace, "s", 1000).close()
    require(corrupt_path(namespace, "s").exists(), "I7: a writer took a segment with holes")


def _take_name(page: bytearray, source: str) -> None:
    """The header of another source, whole, so that nothing but the holes is wrong with it."""
    import dataclasses

    from shm.ring.layout import IMMUTABLE_START, WORD_SEAL, read_header

    header = dataclasses.replace(read_header("whole", bytes(page[:PAGE]), len(page)), source=source)
    immutable = header.immutable()
    page[IMMUTABLE_START : IMMUTABLE_START + len(immutable)] = immutable
    page[8 * WORD_SEAL : 8 * WORD_SEAL + 8] = header.salt.to_bytes(8, "little")


def competition(namespace: str, filler: Filler, counts: Counter[str]) -> None:
    """Two programs that want 5 MiB each of 8: one at most has them; then nothing of the other is left."""
    sources = ("s", "t")
    with contextlib.ExitStack() as stack:
        both = [
            stack.enter_context(beside("tests.siege.room.refusals", "start", namespace, one, "600")) for one in sources
        ]
        for process in both:  # they are ready; the line lets them go
            assert process.stdout
            process.stdout.readline()
        for process in both:
            assert process.stdin
            process.stdin.write("\n")
            process.stdin.flush()
        said = [finished(process, "a start that competed for room")[0].strip() for process in both]
    require(said.count("granted") <= 1, f"I7: two segments of 5 MiB were granted in 8: {said}")
    counts["refused"] += said.count("refused")
    left = [path for path in (building_path(namespace, one) for one in sources) if path.exists()]
    require(not left, f"I6: of two starts that competed for room {left} is left")
    for source, answer in zip(sources, said, strict=True):
        require(ring_path(namespace, source).exists() == (answer == "granted"), f"I6: {source} was {answer}")
    counts["competitions"] += 1


def start_program(namespace: str, source: str, width: str) -> apart.Done:
    """Start a writer of 5 MiB when told to, and write to all of it."""
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        with opened(namespace, source, 1000) as writer:
            writer.reserve(int(width))
            for number in range(int(width)):
                writer.add_series(NUMBER, (str(number),))
            append(writer, 1000)
        answer = "granted"
    except NoSpace:
        unlink(namespace, source)
        answer = "refused"
    print(answer, flush=True)
    raise SystemExit(0)


SCENARIOS: tuple[Callable[[str, Filler, Counter[str]], None], ...] = (
    growth, start, catalog, capacity, publication, freeing, holes, collector_too_large, collector_in_use,
    collector_without_file, collector_that_grows, collector_redefined,
    competition,
)  # fmt: skip


def small(namespace: str, times: str) -> apart.Done:
    """All of them in 8 MiB, each in a /dev/shm that is empty again."""
    apart.small_shm(_SMALL)
    counts: Counter[str] = Counter()
    for _ in range(int(times)):
        for scenario in SCENARIOS:
            with Filler(namespace) as filler:
                try:
                    scenario(namespace, filler, counts)
                except (RingError, OSError) as error:
                    require(False, f"I7: {scenario.__name__}: refused where it must not be: {error!r}")
            for path in files_of(namespace):
                path.unlink()
            require(free() == _SMALL, f"I7: after {scenario.__name__} {_SMALL - free()} bytes are not given back")
    return dict(counts)


def docker(namespace: str) -> apart.Done:
    """In Docker's 64 MiB: a day of 1,000 series fits once, and not twice."""
    apart.small_shm(_DOCKER)
    counts: Counter[str] = Counter()
    with opened(namespace, "s", 5760) as writer:
        writer.reserve(1000)
        for number in range(1000):
            writer.add_series(NUMBER, (str(number),))
        append(writer, 50)
        refused("growth beyond 1,000 series", namespace, lambda: writer.reserve(1), counts)
        refused("a second ring of 1,000", namespace, lambda: opened(namespace, "t", 5760, columns=1000), counts)
        with Filler(namespace) as filler:
            filler.leave(0)
            append(writer, 50)
            counts["frames read"] += read(namespace, "s", 100)
    return dict(counts)


if __name__ == "__main__":
    raise SystemExit(apart.main({"small": small, "docker": docker, "start": start_program}))
