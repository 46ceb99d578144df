"""Compute statistics of one ring's series, and of series pooled over rings.

A :class:`Part` is computed from one ring's window, a :class:`Pool` from the frames of several. Gauges and histograms
with raw samples give statistics of their samples; counters give rate and increase; histograms without raw samples, and
summaries, give statistics of their increases (from_buckets).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exporter.exposition.conflicts import Family
from exporter.http.parameters import COUNTER_STATS
from exporter.window.from_buckets import Cumulative, grouped
from exporter.window.from_buckets import statistics as statistics_of_increases
from exporter.window.incremental.rolling import Rolling, RollingCounters, RollingSamples, RollingWindows, is_long
from exporter.window.ring_window import Window
from exporter.window.statistics import aggregate, aggregate_by_label, calculate_rate, columns_of
from shm.ring.frame import absent, all_absent
from shm.ring.layout import FLAG_TICK
from shm.ring.reader import Frames

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Part:
    """Series of one ring that are computed together, and their statistics."""

    ring: int
    columns: NDArray[np.intp]
    stats: tuple[str, ...]
    cumulative: tuple[Cumulative, ...] = ()

    def rolling(self, frames: int) -> Rolling:
        if self.stats[0] in COUNTER_STATS:
            return RollingCounters(self.columns, frames)
        return RollingSamples(self.columns, self.stats, frames)


@dataclass(frozen=True, slots=True)
class Pool:
    """The series of one family, by ring, to be pooled by a label's value."""

    counter: bool
    stats: tuple[str, ...]
    columns: tuple[tuple[int, NDArray[np.intp]], ...]  # (ring, columns)
    label_values: tuple[str, ...]  # one per column, in that order
    cumulative: tuple[tuple[int, Cumulative], ...] = ()  # by ring; ``at``: indexes in label_values


def pool_of(family: Family, by: str, stats: tuple[str, ...]) -> Pool:
    """The pool of a family's series by the label ``by``, which each of them must have."""
    by_ring = family.by_ring()
    values: list[str] = []
    cumulative: list[tuple[int, Cumulative]] = []
    for ring, some in by_ring.items():
        if family.metric.type in ("histogram", "summary"):
            cumulative += [(ring, one) for one in grouped(list(enumerate(some, len(values))))]
        values += [series.labels[by] for series in some]
    columns = ((ring, np.array([one.column for one in some], dtype=np.intp)) for ring, some in by_ring.items())
    return Pool(family.metric.type == "counter", stats, tuple(columns), tuple(values), tuple(cumulative))


def part_statistics(window: Window, part: Part, rolling: RollingWindows | None = None) -> dict[str, Vector]:
    """``part.stats`` of each of the part's series: float64, shape (series,).

    ``rolling``: cache that updates the results of long windows; without it, all samples are read.
    """
    result = _statistics(window, part, rolling)
    for some in part.cumulative:
        result = _fill_from_increases(window, part, some, rolling, result)
    return result


def _fill_from_increases(
    window: Window, part: Part, some: Cumulative, rolling: RollingWindows | None, result: dict[str, Vector]
) -> dict[str, Vector]:
    """``result`` with the statistics of increases for each series without raw samples."""
    missing = np.ones(len(some.at), dtype=bool) if some.always else absent(result[part.stats[0]][some.at])
    if not missing.any():
        return result
    columns = some.columns[missing]
    rates = _statistics(window, Part(part.ring, columns.ravel(), COUNTER_STATS), rolling)
    filled = statistics_of_increases(some.bounds, rates["increase"].reshape(columns.shape), part.stats)
    found = {stat: result[stat].copy() for stat in part.stats}  # ``rolling`` may keep the originals
    for stat in part.stats:
        found[stat][some.at[missing]] = filled[stat]
    return found


def _statistics(window: Window, part: Part, rolling: RollingWindows | None) -> dict[str, Vector]:
    if rolling is None or not is_long(window):
        return _computed(window, part)
    key = part.ring, window.length_ns, part.columns.tobytes(), part.stats
    kept = rolling.get(key, lambda: part.rolling(window.most_frames))
    return kept.statistics() if kept.update(window) else _computed(window, part)


def _computed(window: Window, part: Part) -> dict[str, Vector]:
    """The part's statistics, computed from all samples of the window."""
    if part.stats[0] in COUNTER_STATS:
        rate, increase = _rates(window.frames, part.columns)
        return {"rate": rate, "increase": increase}
    return aggregate(columns_of(window.frames.values, part.columns), part.stats)


def pool_statistics(frames: Mapping[int, Frames | None], pool: Pool) -> list[Vector]:
    """``pool.stats``, each float64, shape (label values,). ``frames``: by ring; None: the ring can't be read."""
    groups = list(dict.fromkeys(pool.label_values))
    if pool.counter:
        return _pooled_rates(frames, pool, groups)
    blocks = [_block(frames[ring], columns) for ring, columns in pool.columns]
    longest = max(len(block) for block in blocks)
    # Rings have different numbers of frames: pad shorter windows with absent samples, which every statistic ignores.
    padded = [np.concatenate((block, all_absent((longest - len(block), block.shape[1])))) for block in blocks]
    _, result = aggregate_by_label(np.concatenate(padded, axis=1), pool.label_values, pool.stats)
    if pool.cumulative:
        _fill_pools_from_increases(frames, pool, groups, result)
    return [result[stat] for stat in pool.stats]


def _fill_pools_from_increases(
    frames: Mapping[int, Frames | None], pool: Pool, groups: list[str], result: Mapping[str, Vector]
) -> None:
    """Fill in the statistics of groups without raw samples, from the summed increases of their series."""
    always = pool.cumulative[0][1].always
    missing = np.ones(len(groups), dtype=bool) if always else absent(result[pool.stats[0]])
    if not missing.any():
        return
    number = {group: i for i, group in enumerate(groups)}
    member = np.array([number[value] for value in pool.label_values], dtype=np.intp)
    total = np.zeros((len(groups), pool.cumulative[0][1].columns.shape[1]))
    for ring, some in pool.cumulative:
        window = frames[ring]
        if window is None:
            continue
        _, increase = _rates(window, some.columns.ravel())
        np.add.at(total, member[some.at], np.where(absent(increase), 0.0, increase).reshape(some.columns.shape))
    filled = statistics_of_increases(pool.cumulative[0][1].bounds, total, pool.stats)
    for stat in pool.stats:
        result[stat][missing] = filled[stat][missing]


def _block(window: Frames | None, columns: NDArray[np.intp]) -> NDArray[np.float64]:
    return all_absent((0, len(columns))) if window is None else columns_of(window.values, columns)


def _rates(window: Frames, columns: NDArray[np.intp]) -> tuple[Vector, Vector]:
    """(rate, increase) of the counters in those columns.

    A frame with its own timestamp precedes the tick frame that it was committed with, and has that tick's monotonic
    time. Its samples are moved earlier by the difference of the two timestamps; otherwise an older value would look
    like a reset of the counter.
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
    """Rates and increases summed over the series of each group; absent if no series has one."""
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
