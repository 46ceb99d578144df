"""A source of any number of series, as a user could write one, and a day of history for its ring."""

from __future__ import annotations

import time
from array import array
from typing import Final

import numpy as np

from collector.collector import MetricCollector
from collector.source import MetricSource, Sample
from shm.catalog import Metric

NAME: Final = "series"
# As many as a metric may have unless configured otherwise.
_EACH: Final = 200


class SeriesSource(MetricSource):
    """``count`` gauges that change at every tick, in metrics of 200 series."""

    name = NAME

    def __init__(self, count: int) -> None:
        number = -(-count // _EACH)
        self.metrics = tuple(
            Metric(f"series_{metric:02}", "gauge", "A value that changes.", "", ("number",)) for metric in range(number)
        )
        self._series = [(self.metrics[i // _EACH].name, {"number": str(i % _EACH)}) for i in range(count)]

    def collect(self) -> list[Sample]:
        now = time.monotonic()
        return [Sample(metric, now * number, labels) for number, (metric, labels) in enumerate(self._series)]


def table(count: int) -> str:
    """Of [source.series] for that many."""
    return f'class = "benchmarks.series:SeriesSource"\ncount = {count}\nmax_series = {count}'


def fill(namespace: str, count: int, interval_seconds: float, capacity: int) -> None:
    """Fill the ring before its collector starts: windows then cost what they cost after a day."""
    source = SeriesSource(count)
    with MetricCollector(
        NAME, namespace=namespace, interval_seconds=interval_seconds, capacity=capacity, max_series=count
    ) as collector:
        collector.register(*source.metrics)
        for sample in source.collect():
            collector.record_metric(sample.metric, sample.value, sample.labels)
        wall_ns, monotonic_ns, step_ns = time.time_ns(), time.monotonic_ns(), round(interval_seconds * 1e9)
        collector.commit(wall_ns - capacity * step_ns, monotonic_ns - capacity * step_ns)
        columns = collector.writer.column_count
        random = np.random.default_rng(1)
        for back in range(capacity - 1, 0, -1):
            values = array("d", random.random(columns).tobytes())
            collector.writer.append(values, wall_ns - back * step_ns, monotonic_ns - back * step_ns)
