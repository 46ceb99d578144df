"""The cardinality limits: what exceeds them is dropped, counted and named, and what was freed is given again.

Rounds of series that nobody has seen before are offered to a small ring, more than its limits allow. A model beside
knows which samples were taken; what the ring, its log and /stats say must agree with it.
"""

from __future__ import annotations

import logging
import random
from collections import Counter

from collector.frame.collector import MetricCollector
from collector.loop.selfmetrics import SelfMetrics
from exporter.rings import RingSet
from exporter.status.stats import stats
from shm.metric import Metric
from shm.ring.reader import RingReader
from tests.rings import SECOND_NS
from tests.siege.harness import Counts, Effort, own_namespace, require

_SOURCE = "limits"
_CAPACITY = 16
# From the last sample of a series to the tick in which its place must be had again: the ring full of frames without
# it, and the pause between two looks for places (an eighth of a ring).
_FREED_AFTER = _CAPACITY + _CAPACITY // 8 + 2
_STARTED_NS = 1_700_000_000 * SECOND_NS

GAUGE = Metric("limited_gauge", "gauge", "A series of too many.", "", ("k",))
HISTOGRAM = Metric("limited_histogram", "histogram", "A series of too many.", "", ("k",), (0.5,))


class _Warnings(logging.Handler):
    """Which metrics the log named as dropped, how often."""

    def __init__(self) -> None:
        super().__init__()
        self.named: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        if record.msg == "series dropped":
            self.named[record.__dict__["metric"]] += 1


def check(effort: Effort) -> Counts:
    chance = effort.random()
    done: Counter[str] = Counter()
    warnings = _Warnings()
    log = logging.getLogger("collector.frame.cardinality")
    log.addHandler(warnings)
    try:
        for _ in range(effort.many(3, 200)):
            warnings.named.clear()
            with own_namespace() as namespace:
                _Limits(namespace, chance, warnings, done).run()
    finally:
        log.removeHandler(warnings)
    return dict(done)


class _Limits:
    """One ring, with limits by chance, offered several generations of series."""

    def __init__(self, namespace: str, chance: random.Random, warnings: _Warnings, done: Counter[str]) -> None:
        self.namespace = namespace
        self.chance = chance
        self.warnings = warnings
        self.done = done
        self.per_metric = chance.randint(5, 20)
        self.most = self.per_metric + chance.randint(1, self.per_metric)
        self.limits = {GAUGE.name: self.per_metric, HISTOGRAM.name: self.most}  # which each of the two meets
        self.dropped = 0
        self.tick = 0
        self.next_k = 0

    def run(self) -> None:
        with MetricCollector(
            _SOURCE, namespace=self.namespace, interval_seconds=1, capacity=_CAPACITY, max_series=self.most,
            max_series_per_metric=self.per_metric,
        ) as collector:  # fmt: skip
            collector.register(GAUGE, HISTOGRAM)
            self.own = SelfMetrics(collector, _SOURCE)
            self.collector = collector
            for generation in range(3):
                self._generation(generation)
            self._reported()

    def _generation(self, generation: int) -> None:
        """New series only: they are let in when the last generation's places are free, and no more than there are."""
        gauges, histograms = (self._fresh(self.per_metric + self.chance.randint(1, 9)) for _ in range(2))
        taken: set[tuple[str, int]] = set()
        for waited in range(_FREED_AFTER + 1):
            recorded = self._commit(gauges, histograms)
            require(taken <= recorded, f"a series that was let in is dropped: {sorted(taken - recorded)[:3]}")
            taken = recorded
            if len(taken) == self.most:
                break
            require(
                waited < (_FREED_AFTER if generation else 0),
                f"frees do not come back: {len(taken)} of {self.most} series were let in {waited} frames after the "
                "last sample of those before",
            )
        self.done["series let in at limits"] += len(taken)
        for _ in range(self.chance.randint(1, _CAPACITY)):
            require(self._commit(gauges, histograms) == taken, "which series are let in changes while all are present")
        per_metric = Counter(name for name, _ in taken)
        require(per_metric[GAUGE.name] <= self.per_metric, f"{per_metric} series for a limit of {self.per_metric}")

    def _fresh(self, count: int) -> list[int]:
        self.next_k += count
        return list(range(self.next_k - count, self.next_k))

    def _commit(self, gauges: list[int], histograms: list[int]) -> set[tuple[str, int]]:
        """One frame of all of them; those that were let in. The frame has their samples, and no others."""
        self.tick += 1
        taken = set()
        for metric, numbers in ((GAUGE, gauges), (HISTOGRAM, histograms)):
            for k in numbers:
                if self.collector.record_metric(metric.name, float(k + self.tick * 2**20), {"k": str(k)}):
                    taken.add((metric.name, k))
                else:
                    self.dropped += 1
                    self.done["samples dropped at limits"] += 1
        self.own.record(True, 0.0, _STARTED_NS)
        sequence = self.collector.commit(_STARTED_NS + self.tick * SECOND_NS, self.tick * SECOND_NS)
        require(
            self.collector.series_dropped == self.dropped,
            f"{self.collector.series_dropped} dropped samples are counted, and {self.dropped} were dropped",
        )
        with RingReader(self.namespace, _SOURCE) as reader:
            frame = reader.frame(sequence)
            assert frame is not None
            found = {
                (series.metric.name, int(series.label_values[0])): frame.value(series.column)
                for series in reader.series
                if not series.metric.own
            }
        there = {key: number for key, number in found.items() if number is not None}
        require(
            there == {key: float(key[1] + self.tick * 2**20) for key in taken}, "a frame has other samples than taken"
        )
        require(len(found) <= self.most, f"the ring holds {len(found)} series for a limit of {self.most}")
        return taken

    def _reported(self) -> None:
        """Named once in the log, and in /stats with the limit; counted there."""
        require(
            self.warnings.named == dict.fromkeys(self.limits, 1),
            f"not each metric is warned of once: {dict(self.warnings.named)}",
        )
        rings = RingSet(self.namespace)
        found = stats(rings)["rings"][_SOURCE]
        rings.close()
        require(
            set(found["limited_metrics"]) == set(self.limits)
            and set(found["limited_metrics"].values()) <= {self.per_metric, self.most},
            f"/stats names {found['limited_metrics']} for {self.limits}",
        )
        require(found["dropped_samples"] == self.dropped, f"/stats counts {found['dropped_samples']} of {self.dropped}")
        self.done["metrics named in /stats"] += len(found["limited_metrics"])
