"""MetricAggregator: statistics of the samples in rings, by metric name.

    aggregator = MetricAggregator("default")
    for labels, values in aggregator.rolling_window("cpu_usage_percent", 300):
        print(labels, values["p95"])

The exporter makes /metrics/aggregated with it. It calls functions on arrays: :mod:`exporter.window.statistics` and
:mod:`exporter.window.compute`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from exporter.cache import Cache
from exporter.exposition.conflicts import Family, Levels, Placed, Precedence, gather
from exporter.exposition.latest import CURRENT, present_levels
from exporter.exposition.names import Escaping
from exporter.http.negotiation import Format
from exporter.http.parameters import ALL_STATS, AggregatedQuery, Matcher
from exporter.rings import Ring, RingSet
from exporter.window.compute import compute, lay_out, stats_of
from exporter.window.incremental.rolling import Rolling
from exporter.window.page import AggregatedPage
from exporter.window.ring_window import Windows
from exporter.window.statistics import COUNTER_STATS
from shm.errors import MetricError
from shm.metric import Series
from shm.ring.discovery import foreign_files
from shm.ring.frame import absent
from shm.ring.series import did_you_mean, names_of, nanoseconds


class WrittenRing(Protocol):
    """The part of MetricCollector used here: the name and the namespace of its ring."""

    name: str
    namespace: str


class SeriesStatistics(NamedTuple):
    """Labels of a series, and its statistics by name, in the unit of the metric (rate: per second)."""

    labels: dict[str, str]
    values: dict[str, float]


class _Span(NamedTuple):
    """The times after ``since_ns`` up to ``until_ns``. ``past``: it ended before it was asked for."""

    since_ns: int
    until_ns: int
    past: bool


class MetricAggregator:
    """Aggregates the rings of a namespace, or the one ring of a MetricCollector. Not thread-safe.

    ``source``: a namespace, a MetricCollector, or a RingSet that the caller closes. ``owner``: the user id whose rings
    are trusted, by default our own. Times are Unix seconds. Gauges and histograms have the statistics avg, min, max,
    sum, p50, p95 and p99, counters have rate and increase (docs/http-api.md says how each is computed); a series
    without a sample in the window is left out. Every method raises MetricError for a metric that no ring has, and for
    a statistic that the metric's type does not have.
    """

    def __init__(
        self, source: str | WrittenRing | RingSet = "default", *, owner: int | None = None,
        kept: Cache | None = None,
    ) -> None:  # fmt: skip
        """``kept``: a cache to share, of pages' layouts and the results of long windows."""
        self._only = "" if isinstance(source, str | RingSet) else source.name
        self._shared = isinstance(source, RingSet)
        if isinstance(source, RingSet):
            self._rings = source
        else:
            self._rings = RingSet(source if isinstance(source, str) else source.namespace, owner=owner)
        self._precedence = Precedence()
        self._kept = kept or Cache()

    def close(self) -> None:
        """Close the rings, unless the caller passed a RingSet."""
        if not self._shared:
            self._rings.close()

    def __enter__(self) -> MetricAggregator:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # ---- by name -------------------------------------------------------------------------------------------

    def aggregate(
        self, name: str, start: float | None = None, end: float | None = None,
        labels: Mapping[str, str] | None = None, stats: Sequence[str] | None = None,
    ) -> list[SeriesStatistics]:  # fmt: skip
        """Statistics of each series of a metric over start ≤ time ≤ end.

        ``start`` None: all that the rings hold; ``end`` None: up to now. ``labels``: only series with these labels.
        ``stats``: some of the statistics, by default all that the metric's type has.
        """
        return self._aggregate(name, self._span(start, end), labels, stats)

    def rolling_window(
        self, name: str, seconds: float, end: float | None = None,
        labels: Mapping[str, str] | None = None, stats: Sequence[str] | None = None,
    ) -> list[SeriesStatistics]:  # fmt: skip
        """Statistics of each series over the window end − seconds < time ≤ end, as /metrics/aggregated has them."""
        if not seconds > 0:
            raise MetricError(f"seconds is {seconds!r}; give a window longer than 0")
        span = self._span(None, end)
        since_ns = span.until_ns - nanoseconds("seconds", seconds)
        return self._aggregate(name, span._replace(since_ns=since_ns), labels, stats)

    def aggregate_by_label(
        self, name: str, label: str, start: float | None = None, end: float | None = None,
        labels: Mapping[str, str] | None = None, stats: Sequence[str] | None = None,
    ) -> dict[str, dict[str, float]]:  # fmt: skip
        """Statistics of the samples of all series that share a value of ``label``, by that value.

        They are computed from the pooled samples, never as percentiles of percentiles; samples of rings with different
        intervals count in proportion to them. Rates and increases of counters are summed. Raises MetricError if the
        metric has no such label.
        """
        found = self._aggregate(name, self._span(start, end), labels, stats, label)
        return {pool.labels[label]: pool.values for pool in found}

    def calculate_rate(
        self, name: str, seconds: float, end: float | None = None, labels: Mapping[str, str] | None = None
    ) -> list[SeriesStatistics]:
        """Rate per second and increase of each series of a counter over the window end − seconds < time ≤ end.

        A decrease is a reset of the counter. Unlike PromQL's rate(), nothing is extrapolated to the window's borders.
        """
        return self.rolling_window(name, seconds, end, labels, COUNTER_STATS)

    def export_prometheus_format(
        self, name: str | None = None, seconds: float = 300.0, labels: Mapping[str, str] | None = None,
        stats: Sequence[str] | None = None, openmetrics: bool = False,
    ) -> str:  # fmt: skip
        """The page /metrics/aggregated for one metric or all, as Prometheus text 0.0.4 or OpenMetrics 1.0."""
        selector = tuple(Matcher(label, value) for label, value in (labels or {}).items())
        query = AggregatedQuery(
            nanoseconds("seconds", seconds),
            (name,) if name else (),
            tuple(stats or ALL_STATS),
            (selector,) if selector else (),
            sources=(self._only,) if self._only else (),
        )
        form = Format.OPENMETRICS if openmetrics else Format.TEXT
        return b"".join(self.page(query, form)).decode()

    # ---- the page ------------------------------------------------------------------------------------------

    def page(self, query: AggregatedQuery, form: Format, escaping: Escaping = Escaping.UNDERSCORES) -> list[bytes]:
        """The text of /metrics/aggregated for a query, in parts.

        A ring that can't be read is left out, and its error recorded.
        """
        rings, catalogs = self._rings.refresh(), self._rings.key()
        key = dataclasses.replace(query, window_ns=0)  # a layout fits any window
        now_ns = self._rings.wall()
        span, precedence = _Span(now_ns - query.window_ns, now_ns, past=False), self._precedence
        precedence.begin(catalogs)
        new = True
        while new:
            levels = self._levels(rings, span, precedence.contested)
            made_from = catalogs, precedence.state(levels)
            make = functools.partial(AggregatedPage, rings, key, levels, precedence.holders)
            page = self._kept.get(key, made_from, make)
            new = precedence.note(page.gathered)
        windows = Windows(self._rings, rings, page.indexes, span.since_ns, span.until_ns)

        def keep(key: Hashable, make: Callable[[], Rolling]) -> Rolling:
            return self._kept.get(key, catalogs, make, too_large=False)

        return [*page.render(windows, form, keep, escaping), form.end]

    # ---- helpers -------------------------------------------------------------------------------------------

    def _aggregate(
        self, name: str, span: _Span, labels: Mapping[str, str] | None, stats: Sequence[str] | None,
        by: str | None = None,
    ) -> list[SeriesStatistics]:  # fmt: skip
        rings = [ring for ring in self._rings.refresh() if self._only in ("", ring.source)]
        family = self._family(rings, name, labels, span)
        metric = family.metric
        if by is not None and by not in metric.label_names:
            known = ", ".join(metric.label_names) or "none"
            raise MetricError(f"metric {name!r} has no label {by!r}; its labels are {known}")
        for stat in stats or ():
            if stat not in stats_of(metric):
                known = ", ".join(stats_of(metric))
                raise MetricError(f"{metric.type} {metric.name!r} has no statistic {stat!r}; it has {known}")
        parts, rows = lay_out([family], stats or stats_of(metric), by)
        indexes = {ring for part in parts for ring in part.rings}
        vector = compute(parts, Windows(self._rings, rings, indexes, span.since_ns, span.until_ns))
        present = ~absent(vector)
        found = []
        for labels, places in rows[metric.family]:
            values = {stat: float(vector[at]) for stat, at in places.items() if present[at]}
            if values:
                found.append(SeriesStatistics(labels, values))
        return found

    def _levels(self, rings: list[Ring], span: _Span, contested: Sequence[Placed]) -> list[Levels]:
        """Levels for :func:`.gather`: CURRENT for the samples at the end of the window, which are those of the last
        frame if it ends in the past; of ``contested`` series, 1 for others in the window.
        """
        levels = present_levels(rings, [True] * len(rings) if span.past else self._rings.stale(rings))
        columns: dict[int, list[int]] = {}
        for ring, series in contested:
            columns.setdefault(ring, []).extend(range(series.column, series.end))
        windows = Windows(self._rings, rings, columns, span.since_ns, span.until_ns)
        for ring, some in columns.items():
            values = windows.read(ring, lambda window: window.frames.values)
            if values is not None and len(values):
                present = ~absent(values[:, some])
                last = np.where(present[-1], CURRENT, 1) if span.past else 1
                found = last * present.any(axis=0)
                levels[ring][some] = np.maximum(levels[ring][some], found)
        return list(levels)

    def _family(self, rings: list[Ring], name: str, labels: Mapping[str, str] | None, span: _Span) -> Family:
        """The series of the metric that have these labels. Raises MetricError if no ring has the metric.

        The name belongs to the metric that has it in the window.
        """
        wanted = (labels or {}).items()

        def chosen(source: str, series: Series) -> bool:
            return name in names_of(series.metric) and wanted <= series.labels.items()

        precedence, new = Precedence(), True
        while new:
            levels = self._levels(rings, span, precedence.contested)
            gathered = gather([(ring.source, ring.series) for ring in rings], chosen, levels=levels)
            new = precedence.note(gathered)
        if gathered.families:
            return gathered.families[0]
        for ring in rings:
            for metric in ring.reader.catalog.metrics:
                if name in names_of(metric):
                    return Family(metric)  # no series has these labels
        known = list({metric.name for ring in rings for metric in ring.reader.catalog.metrics})
        where = f"ring {self._only!r}" if self._only else f"namespace {self._rings.namespace!r}"
        left_out = foreign_files(self._rings.files)
        raise MetricError(
            f"no ring of {where} has a metric {name!r}; {did_you_mean(name, known)}{left_out and f'; {left_out}'}"
        )

    def _span(self, start: float | None, end: float | None) -> _Span:
        """The span for start ≤ time ≤ end."""
        since_ns, now_ns = -1 if start is None else nanoseconds("start", start) - 1, self._rings.wall()
        until_ns = now_ns if end is None else nanoseconds("end", end)
        return _Span(since_ns, until_ns, past=until_ns < now_ns)
