"""/metrics/aggregated: statistics of each series over a rolling window, as gauges with the label ``stat``.

Gauges and the raw samples of histograms give avg, min, max, sum and percentiles; counters give rate and increase.
Histograms that were counted elsewhere, and summaries, give what their increases tell: ``counted``.
With ``by=LABEL`` the samples of all series that share the label's value are pooled, over all rings.

The lines are made once for a set of catalogs and a query; a request reads the windows and computes one vector. What the
windows cover is told behind the statistics, by ``coverage``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from exporter.exposition.conflicts import Conflict, Family, Placed, gather
from exporter.exposition.format import label_set
from exporter.exposition.template import Line, Lines
from exporter.http.negotiation import Format
from exporter.http.parameters import COUNTER_STATS, AggregatedQuery
from exporter.rings import Ring, RingSet, absent, all_absent
from exporter.window import coverage
from exporter.window.from_buckets import Counted, grouped
from exporter.window.from_buckets import statistics as statistics_of_counted
from exporter.window.incremental.rolling import Rolling, RollingCounters, RollingSamples, RollingWindows, is_long
from exporter.window.ring_window import Window
from exporter.window.statistics import STATS, MetricAggregator, columns_of
from shm.metric import Series
from shm.ring.layout import FLAG_TICK
from shm.ring.reader import Frames

Vector = NDArray[np.float64]
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class _Part:
    """The series of one ring that are computed together, and the statistics that they give."""

    ring: int
    columns: NDArray[np.intp]
    stats: tuple[str, ...]
    counted: tuple[Counted, ...] = ()

    def rolling(self, frames: int) -> Rolling:
        if self.stats[0] in COUNTER_STATS:
            return RollingCounters(self.columns, frames)
        return RollingSamples(self.columns, self.stats, frames)


@dataclass(frozen=True, slots=True)
class _Pool:
    """The series of one family, by ring, that are pooled by a label's value."""

    counter: bool
    stats: tuple[str, ...]
    columns: tuple[tuple[int, NDArray[np.intp]], ...]  # (ring, columns)
    label_values: tuple[str, ...]  # one per column, in that order
    counted: tuple[tuple[int, Counted], ...] = ()  # by ring, with places in label_values


def readable(rings: RingSet, ring: Ring, query: AggregatedQuery, now_ns: int) -> Window | None:
    """The ring's window; None, and noted, when it can't be read: the others go on."""
    try:
        return Window(ring.reader, now_ns - query.window_ns, now_ns)
    except Exception as error:  # noqa: BLE001 - a ring's bytes are foreign input
        rings.fail(ring.source, error)
        return None


class AggregatedPage:
    """The page of one query, whatever its window, for one set of catalogs.

    ``places``: of the rings that it has series of, whose windows it needs.
    """

    def __init__(self, rings: Sequence[Ring], query: AggregatedQuery) -> None:
        self.conflicts: list[Conflict]

        def chosen(source: str, series: Series) -> bool:
            metric = series.metric
            names = {metric.name, metric.family}
            if metric.type == "counter":
                names.add(f"{metric.family}_total")  # as /metrics prints it
            labels = series.labels
            return (
                (not query.sources or source in query.sources)
                and query.selects(names, labels)
                and (query.by is None or query.by in labels)
            )

        families, self.conflicts = gather([(ring.source, ring.series) for ring in rings], chosen, coverage.NAMES)
        self._query = dataclasses.replace(query, window_ns=0)
        self._lines = Lines()
        self._parts: list[_Part] = []
        self._pools: list[_Pool] = []
        if query.by is None:
            self._lay_out_series(families, len(rings))
        else:
            self._lay_out_pools(families, query.by)
        # Of the sources whose series the statistics are of, and no others.
        self.places = {part.ring for part in self._parts if part.stats}
        self.places |= {ring for pool in self._pools if pool.stats for ring, _ in pool.columns}
        self.coverage = coverage.Coverage(rings, self.places)

    def __len__(self) -> int:
        return len(self._lines)

    def _stats(self, family: Family) -> tuple[str, ...]:
        kinds: tuple[str, ...] = COUNTER_STATS if family.metric.type == "counter" else STATS
        return tuple(stat for stat in kinds if stat in self._query.stats)

    def _lay_out_series(self, families: list[Family], rings: int) -> None:
        """One part per ring and kind; the vector holds, part after part, statistic after statistic, its series."""
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
            also = () if counter else grouped(histograms.get(ring, []))
            self._parts.append(_Part(ring, np.array(some, dtype=np.intp), stats, also))
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
            by_ring: dict[int, list[Placed]] = {}
            for placed in family.placed:
                by_ring.setdefault(placed.ring, []).append(placed)
            ordered = [placed for some in by_ring.values() for placed in some]
            values = tuple(placed.series.labels[by] for placed in ordered)
            groups = list(dict.fromkeys(values))
            also: dict[int, list[tuple[int, Series]]] = {}
            for place, placed in enumerate(ordered):
                if family.metric.type in ("histogram", "summary"):
                    also.setdefault(placed.ring, []).append((place, placed.series))
            self._pools.append(
                _Pool(
                    family.metric.type == "counter",
                    stats,
                    tuple(
                        (ring, np.array([placed.series.column for placed in some], dtype=np.intp))
                        for ring, some in by_ring.items()
                    ),
                    values,
                    tuple((ring, one) for ring, some in also.items() for one in grouped(some)),
                )
            )
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
        """The text, in parts: statistics of the windows of the constructor's rings, in its order.

        None in place of a window: it could not be read, or is of no series of the page.

        One that fails while it is read is noted with ``rings``, and becomes None in the list. ``rolling`` keeps what
        windows came to; it is for pages of the same set of catalogs.
        """
        vector: list[Vector] = []
        for part in self._parts:
            vector.append(self._of_part(windows, part, rolling, rings))
        for pool in self._pools:
            frames = {
                ring: _guarded(windows, ring, rings, lambda window: window.frames) for ring, _ in pool.columns
            }  # fmt: skip
            vector.extend(_pool_statistics(frames, pool))
        return self._lines.parts(np.concatenate(vector), form) if vector else []

    def _of_part(
        self,
        windows: list[Window | None],
        part: _Part,
        rolling: RollingWindows,
        rings: RingSet,
    ) -> Vector:
        if not part.stats:
            return all_absent(0)

        def statistics(window: Window) -> Vector:
            result = _statistics(window, part, rolling)
            for some in part.counted:
                result = _with_counted(window, part, some, rolling, result)
            return np.concatenate([result[stat] for stat in part.stats])

        found = _guarded(windows, part.ring, rings, statistics)
        return all_absent(len(part.columns) * len(part.stats)) if found is None else found


def _with_counted(
    window: Window, part: _Part, some: Counted, rolling: RollingWindows, result: dict[str, Vector]
) -> dict[str, Vector]:
    """The statistics, with what the increases tell in the place of what no raw sample tells."""
    missing = np.ones(len(some.at), dtype=bool) if some.always else absent(result[part.stats[0]][some.at])
    if not missing.any():
        return result
    columns = some.columns[missing]
    rates = _statistics(window, _Part(part.ring, columns.ravel(), COUNTER_STATS), rolling)
    told = statistics_of_counted(some.bounds, rates["increase"].reshape(columns.shape), part.stats)
    found = {stat: result[stat].copy() for stat in part.stats}  # what is kept of a long window stays as it is
    for stat in part.stats:
        found[stat][some.at[missing]] = told[stat]
    return found


def _statistics(window: Window, part: _Part, rolling: RollingWindows) -> dict[str, Vector]:
    key = part.ring, window.length_ns, part.columns.tobytes(), part.stats
    kept = rolling.get(key, lambda: part.rolling(window.most_frames)) if is_long(window) else None
    return kept.statistics() if kept is not None and kept.up_to_date(window) else _computed(window, part)


def _guarded(windows: list[Window | None], ring: int, rings: RingSet, read: Callable[[Window], V]) -> V | None:
    """What ``read`` makes of the ring's window; None where there is none, or it fails: the others go on."""
    window = windows[ring]
    if window is None:
        return None
    try:
        return read(window)
    except Exception as error:  # noqa: BLE001 - a ring's bytes are foreign input
        rings.fail(window.source, error)
        windows[ring] = None
        return None


def _computed(window: Window, part: _Part) -> dict[str, Vector]:
    """The statistics from all of the window's samples."""
    if part.stats[0] in COUNTER_STATS:
        rate, increase = _rates(window.frames, part.columns)
        return {"rate": rate, "increase": increase}
    return MetricAggregator.aggregate(columns_of(window.frames.values, part.columns), part.stats)


def _pool_statistics(frames: Mapping[int, Frames | None], pool: _Pool) -> list[Vector]:
    groups = list(dict.fromkeys(pool.label_values))
    if pool.counter:
        return _pooled_rates(frames, pool, groups)
    blocks = [_block(frames[ring], columns) for ring, columns in pool.columns]
    longest = max(len(block) for block in blocks)
    # Rings tick on their own: shorter windows are filled up with absent samples, which no statistic counts.
    padded = [np.concatenate((block, all_absent((longest - len(block), block.shape[1])))) for block in blocks]
    _, result = MetricAggregator.aggregate_by_label(np.concatenate(padded, axis=1), pool.label_values, pool.stats)
    if pool.counted:
        _put_pooled(frames, pool, groups, result)
    return [result[stat] for stat in pool.stats]


def _put_pooled(
    frames: Mapping[int, Frames | None], pool: _Pool, groups: list[str], result: Mapping[str, Vector]
) -> None:
    """Of groups without a raw sample: what the increases of all their series together tell."""
    always = pool.counted[0][1].always
    missing = np.ones(len(groups), dtype=bool) if always else absent(result[pool.stats[0]])
    if not missing.any():
        return
    number = {group: i for i, group in enumerate(groups)}
    member = np.array([number[value] for value in pool.label_values], dtype=np.intp)
    total = np.zeros((len(groups), pool.counted[0][1].columns.shape[1]))
    for ring, some in pool.counted:
        window = frames[ring]
        if window is None:
            continue
        _, increase = _rates(window, some.columns.ravel())
        np.add.at(total, member[some.at], np.where(absent(increase), 0.0, increase).reshape(some.columns.shape))
    told = statistics_of_counted(pool.counted[0][1].bounds, total, pool.stats)
    for stat in pool.stats:
        result[stat][missing] = told[stat][missing]


def _block(window: Frames | None, columns: NDArray[np.intp]) -> NDArray[np.float64]:
    return all_absent((0, len(columns))) if window is None else columns_of(window.values, columns)


def _rates(window: Frames, columns: NDArray[np.intp]) -> tuple[Vector, Vector]:
    """(rate, increase) of the counters in those columns.

    A frame with a timestamp of its own comes before the tick that committed it and has that tick's monotonic time.
    Its samples are put where they belong: that much earlier than the tick as its timestamp is. Without that, a value
    from before the last tick would pass for a reset, and the time back to it for time in which nothing was counted.
    """
    values, monotonic_ns, timestamp_ns = columns_of(window.values, columns), window.monotonic_ns, window.timestamp_ns
    whole = np.flatnonzero(window.flags & np.uint64(FLAG_TICK))
    if len(whole) == len(values):
        return MetricAggregator.calculate_rate(values, monotonic_ns, timestamp_ns)
    if len(whole):
        tick = whole[np.minimum(np.searchsorted(whole, np.arange(len(values))), len(whole) - 1)]
        monotonic_ns = monotonic_ns[tick] + (timestamp_ns - timestamp_ns[tick])
    else:
        monotonic_ns = timestamp_ns
    order = np.argsort(monotonic_ns, kind="stable")
    return MetricAggregator.calculate_rate(values[order], monotonic_ns[order], timestamp_ns[order])


def _pooled_rates(frames: Mapping[int, Frames | None], pool: _Pool, groups: list[str]) -> list[Vector]:
    """The sum over each group's series of their rates and increases; absent where no series has one."""
    rates, increases = [], []
    for ring, columns in pool.columns:
        window = frames[ring]
        if window is None:
            rate = increase = all_absent(len(columns))
        else:
            rate, increase = _rates(window, columns)
        rates.append(rate)
        increases.append(increase)
    number = {group: i for i, group in enumerate(groups)}
    member = np.array([number[value] for value in pool.label_values], dtype=np.intp)
    summed = {}
    for stat, parts in (("rate", rates), ("increase", increases)):
        each = np.concatenate(parts)
        there = ~absent(each)
        total = np.bincount(member[there], weights=each[there], minlength=len(groups))
        counted = np.bincount(member[there], minlength=len(groups)) > 0
        result = all_absent(len(groups))
        result[counted] = total[counted]
        summed[stat] = result
    return [summed[stat] for stat in pool.stats]
