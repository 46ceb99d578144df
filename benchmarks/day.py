"""A day of 1,000 series that can be replaced by a new one, and the real exporter that serves it.

A window always ends now. A ring is therefore filled with a whole day at once, with timestamps as if it had been
collected every 15 s until now. Filling it again replaces all of the day.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.client import Client
from shm.metric import Metric
from shm.ring.windows import GUARD_SLOTS
from shm.ring.writer import RingWriter
from tests.programs import exporting
from tests.rings import remove_files_of

Floats = NDArray[np.float64]

SERIES: Final = 1000
FRAMES: Final = 5760
INTERVAL_SECONDS: Final = 15
WINDOWS: Final = MappingProxyType({"5m": 20, "1h": 240, "24h": FRAMES})  # frames in each
STATS: Final = ("avg", "min", "max", "sum", "p50", "p95", "p99")
METRIC: Final = Metric("benchmark_load", "gauge", "A gauge that walks slowly.", "", ("number",))

_SOURCE: Final = "day"
_SECOND_NS: Final = 1_000_000_000
_LINE: Final = re.compile(rb'^benchmark_load\{number="(\d+)",stat="(\w+)"\} (\S+)$', re.MULTILINE)
_COVERED: Final = re.compile(rb'^exporter_window_frames\{source="day"\} (\S+)$', re.MULTILINE)
_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Samples:
    """A day of samples. ``values``: shape (frames, series); ``timestamps``: Unix seconds, one per frame."""

    values: Floats
    timestamps: NDArray[np.int64]

    def last(self, frames: int) -> Floats:
        return self.values[len(self.values) - frames :]


def walks() -> Floats:
    """The values of a day, shape (frames, series): random walks with two decimals, the same in each run.

    They resemble gauges. Random doubles would cost fogmetrics about the same, but the peers could not compress them.
    """
    random = np.random.default_rng(5)
    day = 30 * np.sin(np.linspace(0, 2 * np.pi, FRAMES))[:, None]
    steps = random.normal(0, 0.15, (FRAMES, SERIES))
    return np.round(50 + day + np.cumsum(steps, axis=0), 2)


class Served:
    """An exporter and the ring that it serves. ``pid``: the exporter's."""

    def __init__(self, namespace: str, values: Floats, pid: int, client: Client) -> None:
        self.pid = pid
        self._namespace = namespace
        self._values = values
        self._client = client
        self._renewed = 0
        self._writer = self._open()

    def _open(self) -> RingWriter:
        # With the slots that a window leaves out at the old end, a whole day can be read.
        writer = RingWriter(
            self._namespace, _SOURCE, interval_ns=INTERVAL_SECONDS * _SECOND_NS,
            capacity=len(self._values) + GUARD_SLOTS, width=SERIES,
        )  # fmt: skip
        for number in range(SERIES):
            writer.add_series(METRIC, (str(number),))
        return writer

    def begin(self) -> None:
        """Replace the ring by a new one, as for a new source, and fill it."""
        self._writer.close()
        self._writer.path.unlink()
        self._writer = self._open()
        self.renew("24h")

    def renew(self, window: str) -> None:
        """Fill the ring with new values; those in the window are new to the exporter, too.

        The exporter knows the frames before the window: if the window is shorter than the ring, a day of other frames
        is appended first, and the page is requested once.
        """
        self._renewed += 1
        values = self._values + self._renewed
        frames = WINDOWS[window]
        if frames < len(values):
            self._append(values, frames)
            assert_covers(self.page(window), 0)
        self._append(values[len(values) - frames :] + 0.5, 0)

    def fill(self, values: Floats) -> None:
        """Fill the ring with exactly these values, shape (frames, series)."""
        self._append(values, 0)

    def one_more(self) -> None:
        """Append one more frame with the present time; a full ring loses its oldest."""
        self._append(self._values[:1] + self._renewed + 0.01, 0)

    def _append(self, values: Floats, later: int) -> None:
        """Append one frame per row, the last of them with a timestamp ``later`` intervals ago."""
        interval_ns = INTERVAL_SECONDS * _SECOND_NS
        first_ns = time.time_ns() - (later + len(values) - 1) * interval_ns
        writer = self._writer
        for i, row in enumerate(values):
            writer.append(memoryview(row), first_ns + i * interval_ns, (writer.head + 1) * interval_ns)

    def page(self, window: str) -> bytes:
        """Request the page of all seven statistics."""
        return self._client.get(f"/metrics/aggregated?window={window}")

    def statistics(self, window: str) -> dict[str, Floats]:
        """The statistics on the page of a full ring, shape (series,) each."""
        page = self.page(window)
        assert_covers(page, WINDOWS[window])
        found = {stat: np.full(SERIES, np.nan) for stat in STATS}
        for number, stat, value in _LINE.findall(page):
            found[stat.decode()][int(number)] = float(value)
        return found

    def close(self) -> None:
        self._writer.close()


def assert_covers(page: bytes, frames: int) -> None:
    """Fail unless the page covers that many frames, with all series and statistics."""
    covered = sum(float(number) for number in _COVERED.findall(page))
    assert covered == frames, f"a page of {covered:g} frames, not {frames}"
    lines = len(_LINE.findall(page))
    assert lines == (SERIES * len(STATS) if frames else 0), f"{lines} statistics"


@contextlib.contextmanager
def serving(values: Floats, environ: Mapping[str, str] = MappingProxyType({})) -> Iterator[Served]:
    """Run an exporter with ``environ`` in its environment, and an empty ring with room for those values.

    Both are removed at the end.
    """
    namespace = f"bench-{os.getpid()}-{next(_numbers)}"
    try:
        with (
            exporting(namespace, environ=environ) as (exporter, port),
            Client(port) as client,
            contextlib.closing(Served(namespace, values, exporter.pid, client)) as served,
        ):
            yield served
    finally:
        remove_files_of(namespace)
