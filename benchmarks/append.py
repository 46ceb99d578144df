"""P1: costs of appending and reading a frame, compared with storing a sample in prometheus_client.

:meth:`RingWriter.append` is measured whole: staging, seal, clock, and the copy into shared memory.
"""

from __future__ import annotations

import contextlib
import functools
import os
import tempfile
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.harness import Answer, Effort, Measured, Target, in_turns, seconds_each
from benchmarks.peers.client_python import client_python
from collector.frame.collector import MetricCollector
from shm.ring.reader import RingReader
from shm.ring.writer import DEFAULT_CAPACITY
from tests.rings import GAUGE, INTERVAL_NS, open_writer, remove_files_of

_COLUMNS = (16, 1000)
_WINDOW_NS = 300 * 10**9
_SET, _FILES, _FRAME = "`set()`, in memory", "`set()`, in files", "`record_metric` and `commit`, a sample of 1,000"

Jobs = dict[str, Callable[[], float]]


def ask(effort: Effort) -> Answer:
    answer = Answer("A frame")
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fogmetrics-")))
        jobs: Jobs = {}
        for columns in _COLUMNS:
            jobs |= stack.enter_context(_ring_jobs(columns, effort))
        jobs[_FRAME] = stack.enter_context(_recording(max(_COLUMNS)))
        jobs[_SET] = stack.enter_context(client_python("set", max(_COLUMNS), directory))
        jobs[_FILES] = stack.enter_context(client_python("set", max(_COLUMNS), directory, multiprocess=True))
        found = in_turns(jobs, effort.turns(21))
    for what, turns in found.items():
        day = "24 h" in what
        answer.measured.append(Measured(what, "ms" if day else "µs", [one * (1e3 if day else 1e6) for one in turns]))
    few, many = (answer.median(_append(columns)) for columns in _COLUMNS)
    sample = many / max(_COLUMNS)
    answer.targets = [
        Target("P1", "append a frame of 16 series", few, "most", 2, "µs"),
        Target("P1", "append a frame of 1,000 series", many, "most", 10, "µs"),
        Target(
            "P1", "a sample of prometheus_client in files against one of a frame of 1,000",
            answer.median(_FILES) / sample, "least", 50,
        ),
    ]  # fmt: skip
    answer.notes = [
        "An append stages slot, seal and head in private memory; the kernel copies them into the map in one call. "
        "Readers do not change its cost.",
        "`set()` is prometheus_client's, called on children of 1,000 series that were looked up before, in its own "
        "process: with values in memory, and with values in files, as when several processes share an endpoint.",
        "A program that gives its samples by name calls `record_metric` and `commit`, which check name, labels and "
        "limits of each sample; prometheus_client checks them once, when a child is looked up.",
        "`latest()` reads and checks one frame. `frames()` reads a window and checks each of its frames; the first "
        "window of a ring reads all of the ring once, for the timestamps.",
    ]
    return answer


def _append(columns: int) -> str:
    return f"`append`, {columns:,} series"


@contextlib.contextmanager
def _ring_jobs(columns: int, effort: Effort) -> Iterator[Jobs]:
    """Appends to one ring, and reads of another ring, which is full and does not change."""
    namespace, values = f"bench-{os.getpid()}-{columns}", array("d", range(columns))
    with contextlib.ExitStack() as stack:
        stack.callback(remove_files_of, namespace)
        written, full = (
            stack.enter_context(open_writer(namespace, source, capacity=DEFAULT_CAPACITY, columns=columns))
            for source in ("written", "read")
        )
        for frame in range(1, DEFAULT_CAPACITY + 1):
            full.append(values, frame * INTERVAL_NS, frame)
        now_ns = DEFAULT_CAPACITY * INTERVAL_NS
        with RingReader(namespace, "read") as reader:
            append = functools.partial(written.append, values, 1, 1)  # whose call takes less than a function's
            window = functools.partial(reader.frames, now_ns - _WINDOW_NS, now_ns)
            yield {
                _append(columns): lambda: seconds_each(append, effort.many(5000)),
                f"`latest()`, {columns:,} series": lambda: seconds_each(reader.latest, effort.many(1000)),
                f"`frames()` of 5 min, {columns:,} series": lambda: seconds_each(window, effort.many(100)),
                f"`frames()` of 24 h, {columns:,} series": lambda: seconds_each(reader.frames, 2),
            }


@contextlib.contextmanager
def _recording(series: int) -> Iterator[Callable[[], float]]:
    """Seconds per sample of recording that many series by name and committing the frame."""
    namespace = f"bench-{os.getpid()}-recorded"
    try:
        with MetricCollector("recorded", namespace=namespace, capacity=64, max_series_per_metric=series) as collector:
            collector.register(GAUGE)
            labels = [{"column": str(column)} for column in range(series)]

            def frame() -> None:
                for one in labels:
                    collector.record_metric(GAUGE.name, 0.5, one)
                collector.commit()

            yield lambda: seconds_each(frame, 5) / series
    finally:
        remove_files_of(namespace)
