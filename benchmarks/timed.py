"""A source that times the appends of its own collector, in the collector's process."""

from __future__ import annotations

import time
from typing import Any, Final

from collector.source import MetricSource, Sample
from shm.metric import Metric
from shm.ring.writer import RingWriter

NAME: Final = "timed"
APPEND_SECONDS: Final = "timed_append_seconds"
_last_seconds: list[float] = []
_append = RingWriter.append


def _timed(self: RingWriter, *arguments: Any) -> int:
    begun = time.perf_counter()
    sequence = _append(self, *arguments)
    _last_seconds[:] = [time.perf_counter() - begun]
    return sequence


class TimedSource(MetricSource):
    """A configurable number of series; the first metric has the duration of the previous frame's append."""

    name = NAME
    metrics = (
        Metric(APPEND_SECONDS, "gauge", "What the append before took, in seconds.", "seconds"),
        Metric("timed_value", "gauge", "Something to append.", "", ("number",)),
    )

    def __init__(self, series: int = 15) -> None:
        self._labels = [{"number": str(number)} for number in range(series)]
        RingWriter.append = _timed  # type: ignore[method-assign, assignment]  # in this process, which has one writer

    def collect(self) -> list[Sample]:
        now = time.time()
        taken = [Sample(APPEND_SECONDS, seconds) for seconds in _last_seconds]
        return taken + [Sample("timed_value", now + number, labels) for number, labels in enumerate(self._labels)]
