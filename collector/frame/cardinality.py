"""Cardinality limits: which series a collector admits, and what becomes of series beyond a limit.

There are three limits: series of the source, series of a metric, distinct values of any one label of a metric. For a
series beyond one, the metric's ``beyond`` (:mod:`collector.frame.rules`) decides:

    drop      its samples are dropped
    oldest    it replaces the metric's series whose last sample is oldest, which is pruned. The commit chooses that
              series, since a series with a sample in the same frame is never pruned

The daemon's own metrics have no limits. A sample of an admitted series costs one lookup in ``known``; the rest of this
module runs for other samples, or between frames.

Pruning rebuilds the ring (:meth:`shm.ring.writer.RingWriter.prune`): once for all newcomers of a frame, then not again
for a minute, or for a hundred times the duration if that is longer. Samples of newcomers in between are dropped.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Set
from typing import Final

from collector.frame.eviction import Eviction
from collector.frame.rules import Rules
from collector.settings import MetricConfig
from shm.errors import NoSpace
from shm.metric import Metric, SeriesKey
from shm.ring.writer import RingWriter

log = logging.getLogger(__name__)

_REMEDY: Final = "drop a label with many values, or raise the limit"
# Pruning takes at most 1 % of the time, and is rare enough for readers, which open a new segment each time.
_REST_SECONDS: Final = 60.0
_REST_SHARE: Final = 100


class Cardinality:
    """Admits series to one ring, and prunes them. Not thread-safe.

    ``known``: the admitted series, including those without a column yet. ``dropped`` counts dropped samples,
    ``limited`` samples of series beyond a limit, by (metric, beyond), ``pruned`` series, by metric. ``limits``: by
    metric, the limit that it reached. ``newcomers``: number of samples of each series that waits for the commit.
    """

    def __init__(
        self,
        writer: RingWriter,
        max_series: int,
        max_series_per_metric: int,
        rules: Rules,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.max_series = max_series
        self.max_series_per_metric = max_series_per_metric
        self.known: set[SeriesKey] = set()
        self.limits: dict[str, int] = {}
        self.dropped = 0
        self.limited: Counter[tuple[str, str]] = Counter()
        self.pruned: Counter[str] = Counter()
        self.clock = clock
        self._writer = writer
        self._rules = rules
        self._series_of: Counter[str] = Counter()  # by metric, staged ones included
        self._users = 0  # the same in total, without the daemon's own metrics
        self._values: dict[str, list[Counter[str]]] = {}  # of metrics with max_label_values: series by value, per label
        self.newcomers: dict[SeriesKey, int] = {}
        self._newcomers_of: Counter[str] = Counter()
        self._freed_at = 0  # the head at which freeing columns was last tried
        self._rests_until = -math.inf
        self.reload()

    def reload(self, staged: Set[SeriesKey] = frozenset()) -> None:
        """Admit exactly the series of the ring and those in ``staged``, which may have no column yet."""
        self.known.clear()  # in place: the collector keeps a reference to it
        self.known |= self._writer.columns.keys() | staged
        self._series_of = Counter(key[0] for key in self.known)
        own = {name for name, metric in self._writer.metrics.items() if metric.own}
        self._users = sum(count for name, count in self._series_of.items() if name not in own)
        self._values = {}

    # ---- one sample ------------------------------------------------------------------------------------------

    def admit(self, metric: Metric, key: SeriesKey) -> bool:
        """Whether to stage a sample of a series that is not in ``known``; the commit may still drop it."""
        rule = self._rules.rule(metric)
        if key in self.newcomers:
            self.newcomers[key] += 1
            self.limited[metric.name, rule.beyond] += 1
            return True
        excess = self._excess(metric, key, rule)
        if excess and self._free():
            excess = self._excess(metric, key, rule)
        if not excess:
            self._enter(metric, key)
            return True
        self._warn(metric, excess, rule)
        self.limited[metric.name, rule.beyond] += 1
        # One frame can't replace more series than the limit allows in all.
        if rule.beyond == "oldest" and self._newcomers_of[metric.name] < self._most_of(rule):
            self.newcomers[key] = 1
            self._newcomers_of[metric.name] += 1
            return True
        self.drop(metric.name, excess[1])
        return False

    def drop(self, metric: str, why: str) -> None:
        """Count a dropped sample, and log the first one of the metric."""
        self.dropped += 1
        if metric not in self.limits:
            self.limits[metric] = 0
            log.warning("series dropped", extra={"ring": self._writer.source, "metric": metric, "error": why})

    def _most_of(self, rule: MetricConfig) -> int:
        return rule.max_series or self.max_series_per_metric

    def _excess(self, metric: Metric, key: SeriesKey, rule: MetricConfig) -> tuple[int, str] | None:
        """The first limit that the series would exceed, and a sentence that names it."""
        if metric.own:
            return None
        if limit := rule.max_label_values:
            for label, value, values in zip(metric.label_names, key[1], self._values_of(metric), strict=True):
                if value not in values and len(values) >= limit:
                    return limit, f"the limit of {limit} values of the label {label!r} is reached"
        limit = self._most_of(rule)
        if self._series_of[metric.name] >= limit:
            return limit, f"the limit of {limit} series of the metric is reached"
        if self._users >= self.max_series:
            return self.max_series, f"the limit of {self.max_series} series of the source is reached"
        return None

    def _values_of(self, metric: Metric) -> list[Counter[str]]:
        found = self._values.get(metric.name)
        if found is None:
            found = self._values[metric.name] = [Counter() for _ in metric.label_names]
            for key in self.known:
                if key[0] == metric.name:
                    self._count_values(metric, key)
        return found

    def _count_values(self, metric: Metric, key: SeriesKey) -> None:
        for value, values in zip(key[1], self._values[metric.name], strict=True):
            values[value] += 1

    def _enter(self, metric: Metric, key: SeriesKey) -> None:
        self.known.add(key)
        self._series_of[metric.name] += 1
        self._users += not metric.own
        if metric.name in self._values:
            self._count_values(metric, key)

    def _warn(self, metric: Metric, excess: tuple[int, str], rule: MetricConfig) -> None:
        """Log the limit, once per metric."""
        if metric.name in self.limits:
            return
        self.limits[metric.name], sentence = excess
        fields = {"ring": self._writer.source, "metric": metric.name, "error": sentence, "remedy": _REMEDY}
        if rule.beyond == "drop":
            log.warning("series dropped", extra={**fields, "remedy": f"{_REMEDY}, or set beyond"})
        else:
            log.warning("series pruned", extra=fields)

    def _free(self) -> bool:
        """Free the columns of series without a sample in the whole ring; True if there were any.

        This reads the ring, so it runs at most eight times per ring length.
        """
        if self._writer.head - self._freed_at < self._writer.header.capacity // 8:
            return False
        self._freed_at = self._writer.head
        staged = self.known - self._writer.columns.keys()
        try:
            if not self._writer.prune():
                return False
        except NoSpace as error:
            log.debug("columns not freed", extra={"ring": self._writer.source, "error": str(error)})
            return False
        self.reload(staged)
        return True

    # ---- between frames --------------------------------------------------------------------------------------

    def replace_oldest(self, metrics: Mapping[str, Metric], present: Set[SeriesKey]) -> set[SeriesKey]:
        """Prune the oldest series in favour of this frame's newcomers; return the newcomers that were not admitted.

        ``present``: the series with a sample in the frame.
        """
        newcomers, self.newcomers = self.newcomers, {}
        self._newcomers_of.clear()
        refused = set(newcomers)
        began = self.clock()
        if began >= self._rests_until:
            evicted, admitted = self._plan(newcomers.keys(), metrics, present)
            try:
                if evicted:
                    self._writer.prune(evicted, sum(metrics[name].columns for name, _ in admitted))
                    self.pruned.update(name for name, _ in evicted)
                    self.reload()
                refused -= admitted
                self.known |= admitted
            except NoSpace as error:
                log.error("ring can't be rebuilt", extra={"ring": self._writer.source, "error": str(error)})
            now = self.clock()
            self._rests_until = now + max(_REST_SHARE * (now - began), _REST_SECONDS if evicted else 0.0)
        self.dropped += sum(newcomers[key] for key in refused)
        return refused

    def _plan(
        self, newcomers: Iterable[SeriesKey], metrics: Mapping[str, Metric], present: Set[SeriesKey]
    ) -> tuple[set[SeriesKey], set[SeriesKey]]:
        """(series to prune, newcomers to admit)."""
        by_metric: dict[str, list[SeriesKey]] = {}
        for key in newcomers:
            by_metric.setdefault(key[0], []).append(key)
        series = self._oldest_first(by_metric.keys())
        room = self.max_series - self._users
        evicted: set[SeriesKey] = set()
        admitted: set[SeriesKey] = set()
        for name, keys in by_metric.items():
            rule = self._rules.rule(metrics[name])
            eviction = Eviction(series[name], present, self._most_of(rule), rule.max_label_values)
            for key in keys:
                before = len(eviction.evicted)
                if eviction.admit(key, room):
                    room += len(eviction.evicted) - before - 1
                    admitted.add(key)
            evicted |= eviction.evicted
        return evicted, admitted

    def _oldest_first(self, names: Set[str]) -> dict[str, list[SeriesKey]]:
        """The admitted series of each of these metrics, ordered by the time of their last sample, oldest first.

        The times are read from the ring, so that recording a sample need not note them.
        """
        missing = {key: one for key, one in self._writer.columns.items() if key[0] in names}
        found = [key for key in self.known if key[0] in names and key not in missing]  # their first sample is staged
        for sequence in reversed(self._writer.history()):
            if not missing:
                break
            frame = self._writer.frame(sequence)
            if frame is not None:
                seen = [
                    key
                    for key, one in missing.items()
                    if any(frame.value(column) is not None for column in range(one.column, one.end))
                ]
                found += reversed(seen)
                for key in seen:
                    del missing[key]
        by_metric: dict[str, list[SeriesKey]] = {name: [] for name in names}
        for key in (*missing, *reversed(found)):
            by_metric[key[0]].append(key)
        return by_metric
