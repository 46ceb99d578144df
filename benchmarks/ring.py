"""What the ring itself costs: ``python -m benchmarks.ring``.

Medians of several rounds, so that a busy moment of the machine does not count. Rings in a namespace of its own,
removed at the end.
"""

from __future__ import annotations

import os
import statistics
import time
from array import array
from collections.abc import Callable

from shm.catalog import Metric
from shm.reader import RingReader
from shm.segment import lock_path, unlink
from shm.writer import DEFAULT_CAPACITY, RingWriter

_ROUNDS = 9
_GAUGE = Metric("bench", "gauge", "A column.", label_names=("column",))


def microseconds(job: Callable[[], object], repeat: int) -> float:
    """Median over rounds of the mean time of one call, in µs."""
    rounds = []
    for _ in range(_ROUNDS):
        begun = time.perf_counter()
        for _ in range(repeat):
            job()
        rounds.append((time.perf_counter() - begun) / repeat * 1e6)
    return statistics.median(rounds)


def main() -> None:
    namespace = f"bench-{os.getpid()}"
    print("| columns | append, µs | latest(), µs | frames() of 5 min, µs | frames() of 24 h, ms |")
    print("|---|---|---|---|---|")
    for columns in (16, 1000):
        source = f"c{columns}"
        with RingWriter(namespace, source, interval_ns=15_000_000_000, width=columns) as writer:
            for column in range(columns):
                writer.add_series(_GAUGE, (str(column),))
            values = array("d", range(columns))
            append = microseconds(lambda: writer.append(values, 1, 1), 5000)  # noqa: B023 - called at once
            for frame in range(DEFAULT_CAPACITY):
                writer.append(values, frame * 15_000_000_000, frame)
            now_ns = DEFAULT_CAPACITY * 15_000_000_000
            with RingReader(namespace, source) as reader:
                latest = microseconds(reader.latest, 2000)
                window = microseconds(lambda: reader.frames(now_ns - 300_000_000_000, now_ns), 50)  # noqa: B023
                day = microseconds(reader.frames, 3)
        print(f"| {columns} | {append:.2f} | {latest:.1f} | {window:.0f} | {day / 1000:.1f} |")
        unlink(namespace, source)
        lock_path(namespace, source).unlink()


if __name__ == "__main__":
    main()
