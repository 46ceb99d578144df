"""Effect of snapshots on ticks: ``python -m benchmarks.snapshot [SECONDS]``.

A frame is appended every 10 ms, by the monotonic clock, to a ring of 1,000 columns and a day of frames, 46 MiB. Turns
of one second without snapshots alternate with turns of continuous snapshots to the disk of the working directory. The
lateness of ticks and the duration of appends are measured.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from array import array
from collections.abc import Iterator
from pathlib import Path

from benchmarks import report
from shm.ring import disk_copy
from shm.ring.writer import DEFAULT_CAPACITY, RingWriter
from tests.rings import append_proof, open_writer, remove_files_of

_COLUMNS = 1000
_TICK_NS = 10_000_000


def ticks(writer: RingWriter, seconds: float) -> Iterator[tuple[float, float]]:
    """(how late, how long the append took) of each tick, in µs."""
    values = array("d", range(_COLUMNS))
    deadline_ns = time.monotonic_ns() + _TICK_NS
    for _ in range(round(seconds * 1e9 / _TICK_NS)):
        time.sleep(max(deadline_ns - time.monotonic_ns(), 0) / 1e9)
        begun_ns = time.monotonic_ns()
        writer.append(values, begun_ns, begun_ns)
        yield (begun_ns - deadline_ns) / 1e3, (time.monotonic_ns() - begun_ns) / 1e3
        deadline_ns += _TICK_NS


def main(seconds: float) -> None:
    namespace = f"bench-{os.getpid()}"
    found: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    took: list[float] = []
    with (
        tempfile.TemporaryDirectory(dir=".") as directory,
        open_writer(namespace, capacity=DEFAULT_CAPACITY, columns=_COLUMNS) as writer,
    ):
        append_proof(writer, DEFAULT_CAPACITY)
        wanted, end = threading.Event(), threading.Event()

        def take() -> None:
            while not end.is_set():
                if wanted.wait(0.05):
                    begun, cpu = time.monotonic(), time.thread_time()
                    disk_copy.take(Path(directory), namespace, "s")
                    took.append((time.monotonic() - begun) * 1e3)
                    spent.append((time.thread_time() - cpu) * 1e3)

        spent: list[float] = []
        thread = threading.Thread(target=take)
        thread.start()
        for turn in range(max(round(seconds), 2)):
            with_snapshots = turn % 2 == 1
            (wanted.set if with_snapshots else wanted.clear)()
            found[with_snapshots] += ticks(writer, 1.0)
        wanted.clear()
        end.set()
        thread.join()
        size = writer.header.segment_bytes
    remove_files_of(namespace)
    rows = []
    for with_snapshots, name in ((False, "no snapshots"), (True, "one after the other")):
        late, appends = (list(column) for column in zip(*found[with_snapshots], strict=True))
        at = [report.percentile(late, 50), report.percentile(late, 99), max(late)]
        at += [report.percentile(appends, 50), report.percentile(appends, 99)]
        rows.append((name, str(len(late)), *(f"{value:.0f}" for value in at)))
    print(report.rows(("", "ticks", "late, µs: median", "p99", "longest", "append, µs: median", "p99"), rows))
    print(
        f"\n{len(took)} snapshots of {size / 2**20:.1f} MiB: median {report.percentile(took, 50):.0f} ms, "
        f"of CPU {report.percentile(spent, 50):.0f} ms"
    )


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 20.0)
