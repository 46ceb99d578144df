"""Rings with any number of series, and a real exporter that serves them, for the benchmarks of pages.

A source has at most a thousand series, the default limit, with fifty metrics of twenty series. The values of every
frame are new and random, with three decimals, so that no page equals the one before.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from benchmarks.harness import exact_cpu_seconds
from shm.metric import Metric
from shm.ring.writer import DEFAULT_CAPACITY, RingWriter
from tests.programs import exporting
from tests.rings import remove_files_of

LABEL = "device"
INTERVAL_SECONDS = 15
_INTERVAL_NS = INTERVAL_SECONDS * 10**9
_PER_SOURCE = 1000
_PER_METRIC = 20
LARGEST = 1000
_TIMEOUT_SECONDS = 120


def shapes(series: int) -> Iterator[tuple[str, list[tuple[str, list[str]]]]]:
    """The name of each source, with the name and the label values of each of its metrics."""
    for number, begin in enumerate(range(0, series, _PER_SOURCE)):
        left = min(series - begin, _PER_SOURCE)
        yield (
            f"s{number}",
            [
                (f"bench_s{number}_m{metric}", [f"device{i}" for i in range(min(left - first, _PER_METRIC))])
                for metric, first in enumerate(range(0, left, _PER_METRIC))
            ],
        )


class Rings:
    """Rings with that many series, written by this process. Closing removes them."""

    def __init__(self, series: int, capacity: int = DEFAULT_CAPACITY) -> None:
        self.namespace = f"bench-{os.getpid()}-{series}"
        self.series = series
        self._random = np.random.default_rng(1)
        self._writers: list[RingWriter] = []
        try:
            for source, metrics in shapes(series):
                writer = RingWriter(
                    self.namespace, source, interval_ns=_INTERVAL_NS, capacity=capacity, width=min(series, _PER_SOURCE)
                )
                self._writers.append(writer)
                for name, values in metrics:
                    metric = Metric(name, "gauge", "A gauge.", label_names=(LABEL,))
                    for value in values:
                        writer.add_series(metric, (value,))
        except BaseException:
            self.close()
            raise

    def fill(self, frames: int) -> None:
        """Append that many frames, one interval apart, the last one with the present time."""
        now_ns, monotonic_ns = time.time_ns(), time.monotonic_ns()
        for ago in range(frames - 1, -1, -1):
            self._append(now_ns - ago * _INTERVAL_NS, monotonic_ns - ago * _INTERVAL_NS)

    def append(self) -> None:
        """Append one frame with the present time to every ring."""
        self._append(time.time_ns(), time.monotonic_ns())

    def _append(self, timestamp_ns: int, monotonic_ns: int) -> None:
        for writer in self._writers:
            values = np.round(self._random.uniform(0, LARGEST, writer.column_count), 3)
            writer.append(values.data, timestamp_ns, monotonic_ns)

    def close(self) -> None:
        for writer in self._writers:
            writer.close()
        remove_files_of(self.namespace)

    def __enter__(self) -> Rings:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of one request: CPU of the server, and wall time of the client. ``body``: that of the last answer."""

    cpu_seconds: float
    seconds: float
    body: bytes


class Scrapers:
    """Clients of a local server, each with a kept connection, as Prometheus has."""

    def __init__(self, port: int, pid: int, connections: int = 1) -> None:
        self.pid = pid
        self._connections = [
            http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_SECONDS) for _ in range(connections)
        ]

    def close(self) -> None:
        for connection in self._connections:
            connection.close()

    def get(self, path: str, accept_encoding: str = "identity") -> bytes:
        """Send a request on every connection at once and read all answers, which must be 200; return the last body."""
        for connection in self._connections:
            connection.request("GET", path, headers={"Accept-Encoding": accept_encoding})
        body = b""
        for connection in self._connections:
            with connection.getresponse() as response:
                body = response.read()
                assert response.status == 200, f"{path}: {response.status} {body[:200]!r}"
        return body

    def cost(
        self, path: str, requests: int, before: Callable[[], None] = lambda: None, accept_encoding: str = "identity"
    ) -> Cost:
        """Mean cost of that many :meth:`get`; ``before`` is called before each and does not count."""
        seconds = 0.0
        cpu = exact_cpu_seconds(self.pid)
        for _ in range(requests):
            before()
            begun = time.perf_counter()
            body = self.get(path, accept_encoding)
            seconds += time.perf_counter() - begun
        return Cost((exact_cpu_seconds(self.pid) - cpu) / requests, seconds / requests, body)


@contextlib.contextmanager
def scraping(namespace: str, keys: str = "", connections: int = 1) -> Iterator[Scrapers]:
    """Scrapers of an exporter of that namespace."""
    with (
        exporting(namespace, keys) as (program, port),
        contextlib.closing(Scrapers(port, program.pid, connections)) as scrapers,
    ):
        yield scrapers
