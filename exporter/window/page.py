"""/metrics/aggregated: statistics of each series over a rolling window, as gauges with the label ``stat``.

Gauges and histograms with raw samples give avg, min, max, sum and percentiles; counters give rate and increase.
Histograms without raw samples, and summaries, give statistics of their increases (from_buckets).
With ``by=LABEL`` the samples of all series that share the label's value are pooled, over all rings.

The lines are made once for a set of catalogs and a query; a request reads the windows and computes one vector. After
the statistics come the gauges of what the windows cover (coverage).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from exporter.exposition.conflicts import Conflict, Family, gather
from exporter.exposition.format import label_set
from exporter.exposition.template import Line, Lines
from exporter.http.negotiation import Format
from exporter.http.parameters import COUNTER_STATS, AggregatedQuery
from exporter.rings import Ring, RingSet
from exporter.window import coverage
from exporter.window.compute import Part, Pool, Vector, part_statistics, pool_of, pool_statistics
from exporter.window.from_buckets import grouped
from exporter.window.incremental.rolling import RollingWindows
from exporter.window.ring_window import Window
from exporter.window.statistics import STATS
from shm.metric import Series
from shm.ring.frame import all_absent
from shm.ring.series import names_of

V = TypeVar("V")


def readable(rings: RingSet, ring: Ring, query: AggregatedQuery, now_ns: int) -> Window | None:
    """The ring's window; None if it can't be read: the error is recorded, and the other rings are still read."""
    try:
        return Window(ring.reader, now_ns - query.window_ns, now_ns)
    except Exception as error:  # noqa: BLE001 - a ring's bytes are foreign input
        rings.fail(ring.source, error)
        return None


class AggregatedPage:
    """The layout of the page for one query with any window, and one set of catalogs.

    ``indexes``: of the rings whose series are on the page.
    """

    def __init__(self, rings: Sequence[Ring], query: AggregatedQuery) -> None:
        self.conflicts: list[Conflict]

        def chosen(source: str, series: Series) -> bool:
            labels = series.labels
            return (
                (not query.sources or source in query.sources)
                and query.selects(names_of(series.metric), labels)
                and (query.by is None or query.by in labels)
            )

        families, self.conflicts = gather([(ring.source, ring.series) for ring in rings], chosen, coverage.NAMES)
        self._query = dataclasses.replace(query, window_ns=0)
        self._lines = Lines()
        self._parts: list[Part] = []
        self._pools: list[Pool] = []
        if query.by is None:
            self._lay_out_series(families, len(rings))
        else:
            self._lay_out_pools(families, query.by)
        self.indexes = {part.ring for part in self._parts if part.stats}
        self.indexes |= {ring for pool in self._pools if pool.stats for ring, _ in pool.columns}
        self.coverage = coverage.Coverage(rings, self.indexes)

    def __len__(self) -> int:
        return len(self._lines)

    @property
    def memory_bytes(self) -> int:
        return self._lines.memory_bytes

    def _stats(self, family: Family) -> tuple[str, ...]:
        kinds: tuple[str, ...] = COUNTER_STATS if family.metric.type == "counter" else STATS
        return tuple(stat for stat in kinds if stat in self._query.stats)

    def _lay_out_series(self, families: list[Family], rings: int) -> None:
        """One part per ring and kind. The vector holds all parts; each part holds, per statistic, all its series."""
        columns: dict[tuple[int, bool], list[int]] = {}
        histograms: dict[int, list[tuple[int, Series]]] = {}  # and summaries
        for family in families:
            for placed in family.placed:
                some = columns.setdefault((placed.ring, family.metric.type == "counter"), [])
                if family.metric.type in ("histogram", "summary"):
                    histograms.setdefault(placed.ring, []).append((len(some), placed.series))
                some.append(placed.series.column)
        starts: dict[tuple[int, bool], int] = {}
        at = 0
        for (ring, counter), some in sorted(columns.items()):
            kinds: tuple[str, ...] = COUNTER_STATS if counter else STATS
            stats = tuple(stat for stat in kinds if stat in self._query.stats)
            starts[ring, counter] = at
            cumulative = () if counter else grouped(histograms.get(ring, []))
            self._parts.append(Part(ring, np.array(some, dtype=np.intp), stats, cumulative))
            at += len(some) * len(stats)
        place = {(ring, column): i for (ring, _), some in columns.items() for i, column in enumerate(some)}
        for family in families:
            counter = family.metric.type == "counter"
            stats = self._stats(family)
            lines: list[Line] = []
            for placed in family.placed:
                start, size = starts[placed.ring, counter], len(columns[placed.ring, counter])
                i = place[placed.ring, placed.series.column]
                labels = list(placed.series.labels.items())
                lines.extend(
                    Line(f"{family.metric.family}{label_set([*labels, ('stat', stat)])}", start + n * size + i)
                    for n, stat in enumerate(stats)
                )
            self._add(family, lines)

    def _lay_out_pools(self, families: list[Family], by: str) -> None:
        at = 0
        for family in families:
            stats = self._stats(family)
            pool = pool_of(family, by, stats)
            groups = list(dict.fromkeys(pool.label_values))
            self._pools.append(pool)
            lines = [
                Line(f"{family.metric.family}{label_set([(by, group), ('stat', stat)])}", at + n * len(groups) + i)
                for i, group in enumerate(groups)
                for n, stat in enumerate(stats)
            ]
            self._add(family, lines)
            at += len(groups) * len(stats)

    def _add(self, family: Family, lines: list[Line]) -> None:
        metric = family.metric
        self._lines.add_family(metric.family, "gauge", f"Over a window: {metric.help}", metric.unit, lines)

    def render(
        self,
        windows: list[Window | None],
        form: Format,
        rolling: RollingWindows,
        rings: RingSet,
    ) -> list[bytes]:
        """The text, in parts. ``windows``: of the constructor's rings, in its order; None is skipped.

        If reading a window fails, the error is recorded in ``rings`` and the window becomes None in the list.
        ``rolling``: the results of long windows, for pages of the same set of catalogs.
        """
        vector: list[Vector] = []
        for part in self._parts:
            vector.append(self._of_part(windows, part, rolling, rings))
        for pool in self._pools:
            frames = {
                ring: _guarded(windows, ring, rings, lambda window: window.frames) for ring, _ in pool.columns
            }  # fmt: skip
            vector.extend(pool_statistics(frames, pool))
        return self._lines.parts(np.concatenate(vector), form) if vector else []

    def _of_part(
        self,
        windows: list[Window | None],
        part: Part,
        rolling: RollingWindows,
        rings: RingSet,
    ) -> Vector:
        if not part.stats:
            return all_absent(0)

        def statistics(window: Window) -> Vector:
            result = part_statistics(window, part, rolling)
            return np.concatenate([result[stat] for stat in part.stats])

        found = _guarded(windows, part.ring, rings, statistics)
        return all_absent(len(part.columns) * len(part.stats)) if found is None else found


def _guarded(windows: list[Window | None], ring: int, rings: RingSet, read: Callable[[Window], V]) -> V | None:
    """``read`` of the ring's window; None if there is no window or reading fails: the others are still read."""
    window = windows[ring]
    if window is None:
        return None
    try:
        return read(window)
    except Exception as error:  # noqa: BLE001 - a ring's bytes are foreign input
        rings.fail(window.source, error)
        windows[ring] = None
        return None
