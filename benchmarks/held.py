"""Whether a reader can delay a writer: ``python -m benchmarks.held``.

A read-only process repeatedly seeks the next hole among the slots (lseek, SEEK_HOLE), for which the kernel looks at
each page under the file's lock. At the same time, appends to the ring alternate with writes of the same bytes by
pwrite, the plain way to write a frame without a map.
"""

from __future__ import annotations

import contextlib
import os
import time
from array import array
from collections.abc import Callable

from benchmarks import report
from shm.ring.writer import DEFAULT_CAPACITY
from tests.rings import append_proof, open_writer, remove_files_of

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
    """Fork a child that seeks holes until it is killed; return its pid."""
    forked = os.fork()
    if forked:
        return forked
    fd = os.open(path, os.O_RDONLY)
    while os.getppid() != 1:
        os.lseek(fd, start, os.SEEK_HOLE)
    os._exit(0)


def main() -> None:
    namespace = f"bench-{os.getpid()}"
    rows = []
    with contextlib.ExitStack() as stack:
        stack.callback(remove_files_of, namespace)
        writer = stack.enter_context(open_writer(namespace, capacity=DEFAULT_CAPACITY, columns=_COLUMNS))
        values = array("d", range(_COLUMNS))
        append_proof(writer, DEFAULT_CAPACITY)
        size = writer.header.slot_bytes
        file = stack.enter_context(open(writer.path, "r+b", buffering=0))
        jobs: dict[str, Callable[[], object]] = {
            "append": lambda: writer.append(values, 1, 1),
            # Into the slot that the next append overwrites.
            "pwrite": lambda: os.pwrite(file.fileno(), bytes(size), writer.header.slot_offset(writer.head + 1)),
        }
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
                at = (*(report.percentile(all_, percent) for percent in (50, 90, 99)), max(all_))
                rows.append((name, "yes" if held else "no", *(f"{value:.0f}" for value in at)))
    print(report.rows(("", "a reader seeks holes", "median, µs", "p90", "p99", "longest"), rows))


if __name__ == "__main__":
    main()
