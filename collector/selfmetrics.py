"""What a collector says of itself: whether its source answers, how long that takes, what was missed or dropped.

These ride in the source's own ring, each with the label ``source``, so that a day of them is there too. Counters
go on over restarts from where the ring's history left them.
"""

from __future__ import annotations

from collector import metrics
from collector.collector import MetricCollector
from collector.snapshots import Snapshots
from shm.catalog import Metric

_COUNTERS = (metrics.ERRORS, metrics.TICKS_MISSED, metrics.CLOCK_STEPS, metrics.SERIES_DROPPED)


class SelfMetrics:
    """Keeps the own metrics of one source and records them into its collector's frame."""

    def __init__(self, collector: MetricCollector, source: str, snapshots: Snapshots | None = None) -> None:
        self._collector = collector
        self._labels = {"source": source}
        self._snapshots = snapshots
        collector.register(*metrics.OWN, *([metrics.LAST_SNAPSHOT] if snapshots else []))
        last = collector.resume(*_COUNTERS, metrics.LAST_SUCCESS)
        self._counts = {metric.name: last.get((metric.name, (source,)), 0.0) for metric in _COUNTERS}
        self.last_success_seconds = last.get((metrics.LAST_SUCCESS.name, (source,)))
        self._dropped_before = self._counts[metrics.SERIES_DROPPED.name]

    def count(self, metric: Metric, by: int = 1) -> None:
        """Add to one of the own counters."""
        self._counts[metric.name] += by

    def record(self, up: bool, duration_seconds: float, timestamp_ns: int) -> None:
        """Stage the own samples for the frame of this tick."""
        record, labels = self._collector.record_metric, self._labels
        self._counts[metrics.SERIES_DROPPED.name] = self._dropped_before + self._collector.series_dropped
        record(metrics.UP.name, float(up), labels)
        record(metrics.DURATION.name, duration_seconds, labels)
        if up:
            self.last_success_seconds = timestamp_ns / 1e9
        if self.last_success_seconds is not None:
            record(metrics.LAST_SUCCESS.name, self.last_success_seconds, labels)
        if self._snapshots is not None and self._snapshots.last_seconds is not None:
            record(metrics.LAST_SNAPSHOT.name, self._snapshots.last_seconds, labels)
        for name, value in self._counts.items():
            record(name, value, labels)
