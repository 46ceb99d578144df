"""A collector's own metrics: is its source up, how long does a collection take, what was missed or dropped.

They are in the source's ring, with the label ``source``, and so have the same history. After a restart counters
continue from the last values in the ring.
"""

from __future__ import annotations

from collector import metrics
from collector.frame.collector import MetricCollector
from collector.loop.disk_copies import Snapshots
from shm.metric import Metric, SeriesKey

# Most values of the label ``metric``: each takes columns of the ring, and more than a page of them helps nobody.
MOST_NAMED = 50
_COUNTERS = (metrics.ERRORS, metrics.TICKS_MISSED, metrics.CLOCK_STEPS, metrics.SERIES_DROPPED)
_BY_METRIC = {one.name: one for one in (metrics.SERIES_LIMITED, metrics.SERIES_PRUNED)}


class SelfMetrics:
    """Keeps a collector's own metrics and records them into its frames."""

    def __init__(self, collector: MetricCollector, source: str, snapshots: Snapshots | None = None) -> None:
        self._collector = collector
        self._labels = {"source": source}
        self._snapshots = snapshots
        collector.register(*metrics.OWN, *([metrics.LAST_SNAPSHOT] if snapshots else []))
        last = collector.resume(*_COUNTERS, *_BY_METRIC.values(), metrics.LAST_SUCCESS)
        self._counts = {metric.name: last.get((metric.name, (source,)), 0.0) for metric in _COUNTERS}
        self.last_success_seconds = last.get((metrics.LAST_SUCCESS.name, (source,)))
        self._dropped_before = self._counts[metrics.SERIES_DROPPED.name]
        self._of_limits_before = {key: value for key, value in last.items() if key[0] in _BY_METRIC}
        self._named = {key[1][1]: key[1][1] for key in self._of_limits_before}

    def count(self, metric: Metric, by: int = 1) -> None:
        """Add ``by`` to one of the counters."""
        self._counts[metric.name] += by

    def record(self, up: bool, duration_seconds: float, timestamp_ns: int) -> None:
        """Stage the samples of this tick's frame."""
        record, labels = self._collector.record_metric, self._labels
        self._counts[metrics.SERIES_DROPPED.name] = self._dropped_before + self._collector.cardinality.dropped
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
        for (name, values), value in self._of_limits().items():
            metric = _BY_METRIC[name]
            self._collector.register(metric)
            record(name, value, dict(zip(metric.label_names, values, strict=True)))

    def _of_limits(self) -> dict[SeriesKey, float]:
        """Counts of what met a limit, by metric; metrics after the first MOST_NAMED are summed as ``other``."""
        cardinality, source = self._collector.cardinality, self._labels["source"]
        found = dict(self._of_limits_before)
        for (metric, beyond), samples in cardinality.limited.items():
            key: SeriesKey = metrics.SERIES_LIMITED.name, (source, self._name(metric), beyond)
            found[key] = found.get(key, 0.0) + samples
        for metric, series in cardinality.pruned.items():
            key = metrics.SERIES_PRUNED.name, (source, self._name(metric))
            found[key] = found.get(key, 0.0) + series
        return found

    def _name(self, metric: str) -> str:
        return self._named.setdefault(metric, metric if len(self._named) < MOST_NAMED else "other")
