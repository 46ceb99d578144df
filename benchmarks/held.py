"""Whether a reader can hold up a writer: ``python -m benchmarks.held``.

A process that may only read asks for the next hole among the slots without pause (lseek, SEEK_HOLE), for which the
kernel looks at each page under the file's lock. Meanwhile, in turns: appends to the ring, and the same bytes by pwrite,
the plain way to write a frame without a map.
"""

from __future__ import annotations

import os
import time
from array import array
from collections.abc import Callable

from shm.files import lock_path, unlink
from shm.metric import Metric
from shm.ring.writer import DEFAULT_CAPACITY, RingWriter

_GAUGE = Metric("bench", "gauge", "A column.", label_names=("column",))
_COLUMNS = 1000
_CALLS = 1000
_TURNS = 4
_REST_SECONDS = 0.0003


def times(job: Callable[[], object]) -> list[float]:
    """Of so many calls, in µs."""
    found = []
    for _ in range(_CALLS):
        begun = time.perf_counter_ns()
        job()
        found.append((time.perf_counter_ns() - begun) / 1e3)
        time.sleep(_REST_SECONDS)
    return found


def hold(path: str, start: int) -> int:
    """A child that seeks holes until it is killed; its pid."""
    forked = os.fork()
    if forked:
        return forked
    fd = os.open(path, os.O_RDONLY)
    while os.getppid() != 1:
        os.lseek(fd, start, os.SEEK_HOLE)
    os._exit(0)


def main() -> None:
    namespace = f"bench-{os.getpid()}"
    with RingWriter(namespace, "s", interval_ns=15_000_000_000, width=_COLUMNS) as writer:
        for column in range(_COLUMNS):
            writer.add_series(_GAUGE, (str(column),))
        values = array("d", range(_COLUMNS))
        for frame in range(DEFAULT_CAPACITY):
            writer.append(values, frame, frame)
        size = writer.header.slot_bytes
        with open(writer.path, "r+b", buffering=0) as file:
            jobs: dict[str, Callable[[], object]] = {
                "append": lambda: writer.append(values, 1, 1),
                # Into the slot that the next append overwrites.
                "pwrite": lambda: os.pwrite(file.fileno(), bytes(size), writer.header.slot_offset(writer.head + 1)),
            }
            print("| | a reader seeks holes | median, µs | p90 | p99 | longest |")
            print("|---|---|---|---|---|---|")
            for held in (False, True):
                found: dict[str, list[float]] = {name: [] for name in jobs}
                reader = hold(str(writer.path), writer.header.slots_offset) if held else 0
                for _ in range(_TURNS):
                    for name, job in jobs.items():
                        found[name] += times(job)
                if reader:
                    os.kill(reader, 9)
                    os.waitpid(reader, 0)
                for name, all_ in found.items():
                    all_.sort()
                    at = [all_[len(all_) * percent // 100] for percent in (50, 90, 99)]
                    said = " | ".join(f"{value:.0f}" for value in (*at, all_[-1]))
                    print(f"| {name} | {'yes' if held else 'no'} | {said} |")
    unlink(namespace, "s")
    lock_path(namespace, "s").unlink()


if __name__ == "__main__":
    main()
