"""Lay out the statistics of series in one vector, and compute it from the windows of rings.

A :class:`Part` is computed from one ring's window, a :class:`Pool` from those of several. Gauges and histograms with
raw samples give statistics of their samples; counters give rate and increase; histograms without raw samples, and
summaries, give statistics of their increases (from_buckets).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exporter.exposition.conflicts import Family
from exporter.window.from_buckets import Cumulative, grouped
from exporter.window.from_buckets import statistics as statistics_of_increases
from exporter.window.incremental.rolling import Rolling, is_long
from exporter.window.ring_window import Window, Windows
from exporter.window.statistics import COUNTER_STATS, STATS, aggregate, aggregate_by_label, calculate_rate, columns_of
from shm.metric import Metric, Series
from shm.ring.frame import absent, all_absent
from shm.ring.layout import FLAG_TICK
from shm.ring.reader import Frames

Vector = NDArray[np.float64]

# The kept entry of that key, or what the function makes.
Keep = Callable[[Hashable, Callable[[], Rolling]], Rolling]


@dataclass(frozen=True, slots=True)
class Part:
    """Series of one ring that are computed together, and their statistics.

    ``cumulative``: those that are histograms or summaries, by their index in ``columns``.
    """

    ring: int
    columns: NDArray[np.intp]
    stats: tuple[str, ...]
    cumulative: tuple[Cumulative, ...] = ()

    @property
    def rings(self) -> tuple[int, ...]:
        return (self.ring,)

    def vector(self, windows: Windows, keep: Keep | None) -> Vector:
        """Statistic by statistic, the values of all series; absent if the ring can't be read."""
        found = windows.read(self.ring, lambda window: part_statistics(window, self, keep))
        if found is None:
            return all_absent(len(self.columns) * len(self.stats))
        return np.concatenate([found[stat] for stat in self.stats])


@dataclass(frozen=True, slots=True)
class Pool:
    """The series of one family, pooled by a label's value.

    ``parts``: one a ring; their ``cumulative`` has indexes in ``label_values``, which has one value per series.
    """

    parts: tuple[Part, ...]
    stats: tuple[str, ...]
    label_values: tuple[str, ...]

    @property
    def rings(self) -> tuple[int, ...]:
        return tuple(part.ring for part in self.parts)

    def vector(self, windows: Windows, keep: Keep | None) -> Vector:
        """Statistic by statistic, the values of all label values, in the order of their first series."""
        frames = {ring: windows.read(ring, lambda window: window.frames) for ring in self.rings}
        intervals = {ring: window.interval_ns for ring, window in windows.found.items()}
        result = pool_statistics(frames, self, intervals)
        return np.concatenate([result[stat] for stat in self.stats])


# Labels of a row, and the index of each of its statistics in the vector.
Row = tuple[dict[str, str], dict[str, int]]


def stats_of(metric: Metric) -> tuple[str, ...]:
    """The statistics that metrics of this type have."""
    return COUNTER_STATS if metric.type == "counter" else STATS


def lay_out(
    families: Sequence[Family], stats: Collection[str], by: str | None = None
) -> tuple[list[Part | Pool], dict[str, list[Row]]]:
    """(what to compute, the rows of each family by its name) for those of ``stats`` that the families have.

    ``by``: pool the series by this label, which each of them must have.
    """
    rows: dict[str, list[Row]] = {family.metric.family: [] for family in families}
    found: list[Part | Pool] = []
    at = 0

    def add(one: Part | Pool, some: Sequence[tuple[str, dict[str, str]]]) -> None:
        nonlocal at
        found.append(one)
        for i, (family, labels) in enumerate(some):
            rows[family].append((labels, {stat: at + n * len(some) + i for n, stat in enumerate(one.stats)}))
        at += len(some) * len(one.stats)

    # Without ``by``, all gauges and histograms of a ring are one part, and all its counters another.
    together: dict[tuple[int, bool], list[Series]] = {}
    for family in families:
        chosen = tuple(stat for stat in stats_of(family.metric) if stat in stats)
        if not chosen:
            continue
        if by is None:
            for placed in family.placed:
                together.setdefault((placed.ring, family.metric.type == "counter"), []).append(placed.series)
            continue
        values = tuple(placed.series.labels[by] for placed in family.placed)
        parts: list[Part] = []
        for ring, some in itertools.groupby(family.placed, lambda placed: placed.ring):
            first = sum(len(part.columns) for part in parts)
            parts.append(_part(ring, [placed.series for placed in some], chosen, first))
        groups = [(family.metric.family, {by: value}) for value in dict.fromkeys(values)]
        add(Pool(tuple(parts), chosen, values), groups)
    for (ring, _), series in sorted(together.items(), key=lambda item: item[0]):
        chosen = tuple(stat for stat in stats_of(series[0].metric) if stat in stats)
        add(_part(ring, series, chosen), [(one.metric.family, one.labels) for one in series])
    return found, rows


def _part(ring: int, series: Sequence[Series], stats: tuple[str, ...], first: int = 0) -> Part:
    """``first``: the index of the first series, for ``cumulative``."""
    cumulative = [(i, one) for i, one in enumerate(series, first) if one.metric.type in ("histogram", "summary")]
    return Part(ring, np.array([one.column for one in series], dtype=np.intp), stats, grouped(cumulative))


def compute(parts: Sequence[Part | Pool], windows: Windows, keep: Keep | None = None) -> Vector:
    """The vector of :func:`lay_out`: float64, absent where a series has no sample, or its ring can't be read.

    ``keep``: keeps the results of long windows, to be updated at the next request; without it, all samples are read.
    """
    return np.concatenate([all_absent(0), *(part.vector(windows, keep) for part in parts)])


def part_statistics(window: Window, part: Part, keep: Keep | None) -> dict[str, Vector]:
    """``part.stats`` of each of the part's series: float64, shape (series,)."""
    result = _statistics(window, part, keep)
    for some in part.cumulative:
        missing = absent(result[part.stats[0]][some.at]) | some.always
        if not missing.any():
            continue
        # Without raw samples: the statistics of increases.
        columns = some.columns[missing]
        rates = _statistics(window, Part(part.ring, columns.ravel(), COUNTER_STATS), keep)
        filled = statistics_of_increases(some.bounds, rates["increase"].reshape(columns.shape), part.stats)
        result = {stat: result[stat].copy() for stat in part.stats}  # ``keep`` may keep the originals
        for stat in part.stats:
            result[stat][some.at[missing]] = filled[stat]
    return result


def _statistics(window: Window, part: Part, keep: Keep | None) -> dict[str, Vector]:
    if keep is None or not is_long(window):
        return _computed(window, part)
    key = part.ring, window.length_ns, part.columns.tobytes(), part.stats
    kept = keep(key, lambda: Rolling(part.columns, part.stats, window.most_frames))
    return kept.statistics() if kept.update(window) else _computed(window, part)


def _computed(window: Window, part: Part) -> dict[str, Vector]:
    if part.stats[0] in COUNTER_STATS:
        rate, increase = _rates(window.frames, part.columns)
        return {"rate": rate, "increase": increase}
    return aggregate(columns_of(window.frames.values, part.columns), part.stats)


def pool_statistics(frames: Mapping[int, Frames | None], pool: Pool, intervals: Mapping[int, int]) -> dict[str, Vector]:
    """``pool.stats``: float64, shape (label values,). ``frames``: by ring; None: the ring can't be read.

    ``intervals``: in nanoseconds, by ring. Where they differ, samples count in proportion to them.
    """
    if pool.stats[0] in COUNTER_STATS:
        return _pooled_rates(frames, pool)
    blocks = [_block(frames[part.ring], part.columns) for part in pool.parts]
    longest = max(len(block) for block in blocks)
    # Rings have different numbers of frames: pad shorter windows with absent samples, which every statistic ignores.
    padded = [np.concatenate((block, all_absent((longest - len(block), block.shape[1])))) for block in blocks]
    # A sample stands for an interval of its ring. Without weights, a ring of 0.1 s would outweigh one of 15 s by 150.
    each = [intervals.get(part.ring, 0) for part in pool.parts]
    common = math.gcd(*each)
    weights = None
    if len({*each} - {0}) > 1:
        weights = np.repeat([one / common for one in each], [len(part.columns) for part in pool.parts])
    result = aggregate_by_label(np.concatenate(padded, axis=1), pool.label_values, pool.stats, weights)
    if any(part.cumulative for part in pool.parts):
        _fill_pools_from_increases(frames, pool, result)
    return result


def _fill_pools_from_increases(frames: Mapping[int, Frames | None], pool: Pool, result: Mapping[str, Vector]) -> None:
    """Fill in the statistics of groups without raw samples, from the summed increases of their series."""
    cumulative = [(part.ring, some) for part in pool.parts for some in part.cumulative]
    first = cumulative[0][1]
    missing = absent(result[pool.stats[0]]) | first.always
    if not missing.any():
        return
    member = _members(pool)
    total = np.zeros((len(missing), first.columns.shape[1]))
    for ring, some in cumulative:
        _, increase = _rates(frames[ring], some.columns.ravel())
        np.add.at(total, member[some.at], np.where(absent(increase), 0.0, increase).reshape(some.columns.shape))
    filled = statistics_of_increases(first.bounds, total, pool.stats)
    for stat in pool.stats:
        result[stat][missing] = filled[stat][missing]


def _members(pool: Pool) -> NDArray[np.intp]:
    """For each series, the index of its label value."""
    number = {value: i for i, value in enumerate(dict.fromkeys(pool.label_values))}
    return np.array([number[value] for value in pool.label_values], dtype=np.intp)


def _block(window: Frames | None, columns: NDArray[np.intp]) -> NDArray[np.float64]:
    return all_absent((0, len(columns))) if window is None else columns_of(window.values, columns)


def _rates(window: Frames | None, columns: NDArray[np.intp]) -> tuple[Vector, Vector]:
    """(rate, increase) of the counters in those columns; absent if the ring can't be read.

    A frame with its own timestamp precedes the tick frame that it was committed with, and has that tick's monotonic
    time. Its samples are moved earlier by the difference of the two timestamps; otherwise an older value would look
    like a reset of the counter.
    """
    if window is None:
        return all_absent(len(columns)), all_absent(len(columns))
    values, monotonic_ns, timestamp_ns = columns_of(window.values, columns), window.monotonic_ns, window.timestamp_ns
    whole = np.flatnonzero(window.flags & np.uint64(FLAG_TICK))
    if len(whole) == len(values):
        return calculate_rate(values, monotonic_ns, timestamp_ns)
    if len(whole):
        tick = whole[np.minimum(np.searchsorted(whole, np.arange(len(values))), len(whole) - 1)]
        monotonic_ns = monotonic_ns[tick] + (timestamp_ns - timestamp_ns[tick])
    else:
        monotonic_ns = timestamp_ns
    order = np.argsort(monotonic_ns, kind="stable")
    return calculate_rate(values[order], monotonic_ns[order], timestamp_ns[order])


def _pooled_rates(frames: Mapping[int, Frames | None], pool: Pool) -> dict[str, Vector]:
    """Rates and increases summed over the series of each group; absent if no series has one."""
    each = [_rates(frames[part.ring], part.columns) for part in pool.parts]
    member = _members(pool)
    summed = {}
    for stat, values in zip(COUNTER_STATS, np.concatenate(each, axis=1), strict=True):
        there = ~absent(values)
        groups = member.max() + 1
        total = np.bincount(member[there], weights=values[there], minlength=groups)
        counted = np.bincount(member[there], minlength=groups)
        summed[stat] = np.where(counted, total, all_absent(groups))
    return summed
