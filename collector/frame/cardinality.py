"""Cardinality limits: which series a collector admits, and what becomes of series beyond a limit.

There are three limits: series of the source, series of a metric, distinct values of any one label of a metric. A series
beyond one is, by the metric's ``beyond`` (:mod:`collector.frame.rules`),

    drop      dropped, sample by sample
    oldest    admitted in the place of the metric's series whose last sample is oldest, which is pruned. That is decided
              at the commit, since no series with a sample in the same frame is pruned

The daemon's own metrics have no limits. A sample of an admitted series costs one lookup in ``known``; all code below is
for the others, or runs between frames.

Pruning rebuilds the ring (:meth:`shm.ring.writer.RingWriter.prune`): once for all newcomers of a frame, and then not
for a minute, nor for a hundred times as long as it took. Newcomers in between are dropped, and tried again when they
return.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Set
from typing import Final, NamedTuple

from collector.frame.eviction import Eviction
from collector.frame.rules import Rule, Rules
from shm.errors import NoSpace
from shm.metric import Metric, SeriesKey
from shm.ring.writer import RingWriter

log = logging.getLogger(__name__)

_REMEDY: Final = "drop a label with many values, or raise the limit"
# At most 1 % of the time, and rarely enough for readers, who take up a new segment each time.
_REST_SECONDS: Final = 60.0
_REST_SHARE: Final = 100


class Excess(NamedTuple):
    """A limit that one more series would exceed, and the sentence for it."""

    limit: int
    sentence: str


class Cardinality:
    """The series of one ring. Not for two threads at once.

    ``known``: the admitted series, also before they have a column. ``dropped`` counts samples, ``limited`` those beyond
    a limit by (metric, beyond), ``pruned`` series by metric. ``limits``: the metrics that met a limit, and which.
    ``newcomers`` wait for the commit, each with the number of its samples.
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
        self._users = 0  # of those, all but the daemon's own
        self._values: dict[str, list[Counter[str]]] = {}  # of metrics with a limit of values: series by value, by label
        self.newcomers: dict[SeriesKey, int] = {}
        self._newcomers_of: Counter[str] = Counter()
        self._freed_at = 0  # the head at which columns were last looked for that could be freed
        self._rests_until = -math.inf
        self.reload()

    def reload(self, staged: Set[SeriesKey] = frozenset()) -> None:
        """Admit the series of the ring, and those that are staged and have no column yet; forget all others."""
        self.known.clear()  # in place: the collector has a reference to it
        self.known |= self._writer.columns.keys() | staged
        self._series_of = Counter(key[0] for key in self.known)
        own = {name for name, metric in self._writer.metrics.items() if metric.own}
        self._users = sum(count for name, count in self._series_of.items() if name not in own)
        self._values = {}

    # ---- one sample ------------------------------------------------------------------------------------------

    def admit(self, metric: Metric, key: SeriesKey) -> bool:
        """Whether a sample of a series that is not known is taken, at least until the commit."""
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
        # No more can replace others in one frame than the limit allows at all.
        if rule.beyond == "oldest" and self._newcomers_of[metric.name] < self._most_of(rule):
            self.newcomers[key] = 1
            self._newcomers_of[metric.name] += 1
            return True
        self.drop(metric.name, excess.sentence)
        return False

    def drop(self, metric: str, why: str) -> None:
        """Count a sample that is dropped for another reason than a limit."""
        self.dropped += 1
        if metric not in self.limits:
            self.limits[metric] = 0
            log.warning("series dropped", extra={"ring": self._writer.source, "metric": metric, "error": why})

    def _most_of(self, rule: Rule) -> int:
        return rule.max_series or self.max_series_per_metric

    def _excess(self, metric: Metric, key: SeriesKey, rule: Rule) -> Excess | None:
        """The first limit that the series would exceed."""
        if metric.own:
            return None
        if limit := rule.max_label_values:
            for label, value, values in zip(metric.label_names, key[1], self._values_of(metric), strict=True):
                if value not in values and len(values) >= limit:
                    return Excess(limit, f"the limit of {limit} values of the label {label!r} is reached")
        limit = self._most_of(rule)
        if self._series_of[metric.name] >= limit:
            return Excess(limit, f"the limit of {limit} series of the metric is reached")
        if self._users >= self.max_series:
            return Excess(self.max_series, f"the limit of {self.max_series} series of the source is reached")
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

    def _warn(self, metric: Metric, excess: Excess, rule: Rule) -> None:
        """Log the limit, once a metric."""
        if metric.name in self.limits:
            return
        self.limits[metric.name] = excess.limit
        fields = {"ring": self._writer.source, "metric": metric.name, "error": excess.sentence, "remedy": _REMEDY}
        if rule.beyond == "drop":
            log.warning("series dropped", extra={**fields, "remedy": f"{_REMEDY}, or set beyond"})
        else:
            log.warning("series pruned", extra=fields)

    def _free(self) -> bool:
        """Forget series without a sample in the whole ring; True if there were any.

        That reads the ring, so it is tried at most eight times in a ring's length.
        """
        if self._writer.head - self._freed_at < self._writer.header.capacity // 8:
            return False
        self._freed_at = self._writer.head
        staged = self.known - self._writer.columns.keys()
        try:
            if not self._writer.free():
                return False
        except NoSpace as error:
            log.debug("columns not freed", extra={"ring": self._writer.source, "error": str(error)})
            return False
        self.reload(staged)
        return True

    # ---- between frames --------------------------------------------------------------------------------------

    def replace_oldest(self, metrics: Mapping[str, Metric], present: Set[SeriesKey]) -> set[SeriesKey]:
        """Prune the oldest series for the newcomers of this frame; the newcomers that are dropped all the same.

        ``present``: the series that have a sample in the frame.
        """
        newcomers, self.newcomers = self.newcomers, {}
        self._newcomers_of.clear()
        refused = set(newcomers)
        began = self.clock()
        if began >= self._rests_until:
            evicted, let_in = self._plan(newcomers.keys(), metrics, present)
            try:
                self._prune(evicted, sum(metrics[name].columns for name, _ in let_in))
                refused -= let_in
                self.known |= let_in
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
        places = self._oldest_first(by_metric.keys())
        room = self.max_series - self._users
        evicted: set[SeriesKey] = set()
        let_in: set[SeriesKey] = set()
        for name, keys in by_metric.items():
            rule = self._rules.rule(metrics[name])
            eviction = Eviction(places[name], present, self._most_of(rule), rule.max_label_values)
            for key in keys:
                before = len(eviction.evicted)
                if eviction.let_in(key, room):
                    room += len(eviction.evicted) - before - 1
                    let_in.add(key)
            evicted |= eviction.evicted
        return evicted, let_in

    def _oldest_first(self, names: Set[str]) -> dict[str, list[SeriesKey]]:
        """The admitted series of each of these metrics, the one whose last sample is oldest first.

        It reads the ring back to the last sample of each, so that recording a sample need not note its time.
        """
        missing = {key: one for key, one in self._writer.columns.items() if key[0] in names}
        found = [key for key in self.known if key[0] in names and key not in missing]  # the first sample is staged
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
        places: dict[str, list[SeriesKey]] = {name: [] for name in names}
        for key in (*missing, *reversed(found)):
            places[key[0]].append(key)
        return places

    def _prune(self, evicted: Set[SeriesKey], columns: int) -> None:
        if not evicted:
            return
        self._writer.prune(evicted, columns)
        for name, _ in evicted:
            self.pruned[name] += 1
        self.reload()  # those without columns yet are entered next
