"""A source with any number of series, and a day of history for its ring and those of the built-in sources."""

from __future__ import annotations

import socket
import time
from array import array
from typing import Final

import numpy as np

from collector.frame.collector import MetricCollector
from collector.metrics import BETANET, DEPLOYMENT, NODE, OWN, SYSTEM
from collector.registry import BUILT_IN
from collector.source import MetricSource, Sample
from shm.metric import Metric

NAME: Final = "series"
# As many as a metric may have unless configured otherwise.
_EACH: Final = 200
_REPLICAS: Final = "deployment_replica_count"  # all that supervisord knows of its programs
_BACKEND: Final = "web"  # of tests/haproxy.py


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
    """The table [source.series] for that many series."""
    return f'class = "benchmarks.series:SeriesSource"\ncount = {count}\nmax_series = {count}'


def fill(namespace: str, count: int, interval_seconds: float, capacity: int) -> None:
    """Fill the ring before its collector starts, so that windows cost as much as after a day."""
    source = SeriesSource(count)
    with MetricCollector(
        NAME, namespace=namespace, interval_seconds=interval_seconds, capacity=capacity, max_series=count
    ) as collector:
        collector.register(*source.metrics)
        for sample in source.collect():
            collector.record_metric(sample.metric, sample.value, sample.labels)
        _append(collector, interval_seconds, capacity)


def fill_built_in(namespace: str, interval_seconds: float, capacity: int) -> None:
    """Fill the rings of the four sources, with the series that they will have."""
    for source, metrics in (("node", NODE), ("deployment", DEPLOYMENT), ("betanet", BETANET), ("system", SYSTEM)):
        labels = {"node_id": [socket.gethostname()], "deployment_id": [_BACKEND], "source": [source]}
        with MetricCollector(
            source, namespace=namespace, interval_seconds=interval_seconds, capacity=capacity
        ) as collector:
            collector.register(*metrics, *OWN)
            for program in (*BUILT_IN, "exporter") if source == "deployment" else ():
                collector.record_metric(_REPLICAS, 0.0, {"deployment_id": program})
            for metric in (*metrics, *OWN):
                # At most one label each; without any, one series.
                for chosen in [{name: one} for name in metric.label_names for one in labels[name]] or [{}]:
                    collector.record_metric(metric.name, 0.0, chosen)
            _append(collector, interval_seconds, capacity)


def _append(collector: MetricCollector, interval_seconds: float, capacity: int) -> None:
    """Stage the samples, then append frames up to now, with random gauges and with counters at 0."""
    wall_ns, monotonic_ns, step_ns = time.time_ns(), time.monotonic_ns(), round(interval_seconds * 1e9)
    collector.commit(wall_ns - capacity * step_ns, monotonic_ns - capacity * step_ns)
    known = collector.writer.columns.values()
    gauges = [one.column for one in known if one.metric.type == "gauge" and not one.metric.own]
    values = np.zeros(collector.writer.column_count)
    random = np.random.default_rng(1)
    for back in range(capacity - 1, 0, -1):
        values[gauges] = random.random(len(gauges))
        row = array("d", values.tobytes())
        collector.writer.append(row, wall_ns - back * step_ns, monotonic_ns - back * step_ns)
