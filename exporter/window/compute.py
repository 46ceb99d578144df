"""Compute what a page of windows needs: statistics of one ring's series, and of series pooled over rings.

A :class:`Part` is computed from one ring's window, a :class:`Pool` from the frames of several. Gauges and the raw
samples of histograms give the statistics of their samples, counters give rate and increase; histograms that were
counted elsewhere, and summaries, give what their increases tell (from_buckets).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exporter.exposition.conflicts import Family
from exporter.http.parameters import COUNTER_STATS
from exporter.window.from_buckets import Counted, grouped
from exporter.window.from_buckets import statistics as statistics_of_counted
from exporter.window.incremental.rolling import Rolling, RollingCounters, RollingSamples, RollingWindows, is_long
from exporter.window.ring_window import Window
from exporter.window.statistics import aggregate, aggregate_by_label, calculate_rate, columns_of
from shm.metric import Series
from shm.ring.frame import absent, all_absent
from shm.ring.layout import FLAG_TICK
from shm.ring.reader import Frames

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Part:
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
class Pool:
    """The series of one family, by ring, that are pooled by a label's value."""

    counter: bool
    stats: tuple[str, ...]
    columns: tuple[tuple[int, NDArray[np.intp]], ...]  # (ring, columns)
    label_values: tuple[str, ...]  # one per column, in that order
    counted: tuple[tuple[int, Counted], ...] = ()  # by ring, with places in label_values


def pool_of(family: Family, by: str, stats: tuple[str, ...]) -> Pool:
    """The series of a family, pooled by the label ``by``, which each of them has."""
    by_ring: dict[int, list[Series]] = {}
    for placed in family.placed:
        by_ring.setdefault(placed.ring, []).append(placed.series)
    values: list[str] = []
    counted: list[tuple[int, Counted]] = []
    for ring, some in by_ring.items():
        if family.metric.type in ("histogram", "summary"):
            counted += [(ring, one) for one in grouped(list(enumerate(some, len(values))))]
        values += [series.labels[by] for series in some]
    columns = ((ring, np.array([one.column for one in some], dtype=np.intp)) for ring, some in by_ring.items())
    return Pool(family.metric.type == "counter", stats, tuple(columns), tuple(values), tuple(counted))


def part_statistics(window: Window, part: Part, rolling: RollingWindows | None = None) -> dict[str, Vector]:
    """``part.stats`` of each of the part's series: float64, shape (series,).

    ``rolling``: where the results of long windows are kept up to date; without it they are computed from all samples.
    """
    result = _statistics(window, part, rolling)
    for some in part.counted:
        result = _with_counted(window, part, some, rolling, result)
    return result


def _with_counted(
    window: Window, part: Part, some: Counted, rolling: RollingWindows | None, result: dict[str, Vector]
) -> dict[str, Vector]:
    """The statistics, with what the increases tell in the place of what no raw sample tells."""
    missing = np.ones(len(some.at), dtype=bool) if some.always else absent(result[part.stats[0]][some.at])
    if not missing.any():
        return result
    columns = some.columns[missing]
    rates = _statistics(window, Part(part.ring, columns.ravel(), COUNTER_STATS), rolling)
    told = statistics_of_counted(some.bounds, rates["increase"].reshape(columns.shape), part.stats)
    found = {stat: result[stat].copy() for stat in part.stats}  # what is kept of a long window stays as it is
    for stat in part.stats:
        found[stat][some.at[missing]] = told[stat]
    return found


def _statistics(window: Window, part: Part, rolling: RollingWindows | None) -> dict[str, Vector]:
    if rolling is None or not is_long(window):
        return _computed(window, part)
    key = part.ring, window.length_ns, part.columns.tobytes(), part.stats
    kept = rolling.get(key, lambda: part.rolling(window.most_frames))
    return kept.statistics() if kept.up_to_date(window) else _computed(window, part)


def _computed(window: Window, part: Part) -> dict[str, Vector]:
    """The statistics from all of the window's samples."""
    if part.stats[0] in COUNTER_STATS:
        rate, increase = _rates(window.frames, part.columns)
        return {"rate": rate, "increase": increase}
    return aggregate(columns_of(window.frames.values, part.columns), part.stats)


def pool_statistics(frames: Mapping[int, Frames | None], pool: Pool) -> list[Vector]:
    groups = list(dict.fromkeys(pool.label_values))
    if pool.counter:
        return _pooled_rates(frames, pool, groups)
    blocks = [_block(frames[ring], columns) for ring, columns in pool.columns]
    longest = max(len(block) for block in blocks)
    # Rings tick on their own: shorter windows are filled up with absent samples, which no statistic counts.
    padded = [np.concatenate((block, all_absent((longest - len(block), block.shape[1])))) for block in blocks]
    _, result = aggregate_by_label(np.concatenate(padded, axis=1), pool.label_values, pool.stats)
    if pool.counted:
        _put_pooled(frames, pool, groups, result)
    return [result[stat] for stat in pool.stats]


def _put_pooled(
    frames: Mapping[int, Frames | None], pool: Pool, groups: list[str], result: Mapping[str, Vector]
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
        return calculate_rate(values, monotonic_ns, timestamp_ns)
    if len(whole):
        tick = whole[np.minimum(np.searchsorted(whole, np.arange(len(values))), len(whole) - 1)]
        monotonic_ns = monotonic_ns[tick] + (timestamp_ns - timestamp_ns[tick])
    else:
        monotonic_ns = timestamp_ns
    order = np.argsort(monotonic_ns, kind="stable")
    return calculate_rate(values[order], monotonic_ns[order], timestamp_ns[order])


def _pooled_rates(frames: Mapping[int, Frames | None], pool: Pool, groups: list[str]) -> list[Vector]:
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
