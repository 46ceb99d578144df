"""Statistics of a window: pure functions on arrays.

    frames × series, as the ring holds them           one row a series, in cache        per series
    ┌ t1  a1 b1 c1 … ┐        tiles of 512           ┌ a1 a2 a3 … ┐   sum, sort once
    │ t2  a2 b2 c2 … │   ─────────────────────────▶   │ b1 b2 b3 … │  ───────────────▶  avg min max sum p50 …
    └ t3  a3 b3 c3 … ┘                                └ c1 c2 c3 … ┘

    absent          STALE_NAN_BITS: no sample in this frame. Ignored; if all are absent, the result is absent
    ordinary NaN    a sample that is not a number: sum and avg become NaN; min, max and percentiles ignore it
    number          ±Inf included, by the rules of IEEE 754: a sum over both infinities is NaN

STALE_NAN_BITS is a signalling NaN, which arithmetic turns into an ordinary one, with a warning. So absent values are
compared and written as 64-bit words, never used in arithmetic.

``values`` is float64, shape (frames, series), rows in sequence order; it is never changed. Functions are thread-safe.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from exporter.window.incremental.blocks import FIRST_AT, INCREASE, LAST_AT, steps
from exporter.window.incremental.ordering import put_in_order, rank_of
from shm.ring.frame import absent, all_absent
from shm.ring.layout import STALE_NAN_BITS

Floats = NDArray[np.float64]  # shape (series,) or (frames, series)
Integers = NDArray[np.int64]

STATS: Final = ("avg", "min", "max", "sum", "p50", "p95", "p99")
COUNTER_STATS: Final = ("rate", "increase")
PERCENTILES: Final = {"p50": 50, "p95": 95, "p99": 99}

# Transposing 5760 × 1000: 22 ms in one piece or by columns, 5 ms in tiles: a column of a tall matrix touches more
# pages than the TLB holds. Work of 2 MiB at a time stays in the cache and bounds the extra memory.
_TILE_FRAMES: Final = 512
_WORK_SAMPLES: Final = 2**18
_WORK_SERIES: Final = 16  # at least: two cache lines of each frame


def aggregate(values: Floats, stats: Sequence[str] = STATS) -> dict[str, Floats]:
    """Each of ``stats`` over the frames: float64, shape (series,), in the unit of the values.

    Percentiles are exact: sorted[ceil(p / 100 · (n − 1))] of the n samples that are numbers. A series without a
    sample is absent in each result; one with only ordinary NaNs is NaN.
    """
    result = {stat: all_absent(values.shape[1]) for stat in stats}
    for some, rows in _rows(values):
        for stat, part in _statistics(rows, stats).items():
            result[stat][some] = part
    return result


def aggregate_by_label(
    values: Floats, label_values: Sequence[str], stats: Sequence[str] = STATS, weights: Floats | None = None
) -> dict[str, Floats]:
    """Pools the samples of all series that share a label value, then aggregates each pool.

    ``label_values``: one per series. Each statistic has the shape (label values,), in the order of their first series,
    and is computed from the pooled samples, never a percentile of percentiles. ``weights``: how often a sample of each
    series counts in averages and percentiles, at least once; whole numbers.
    """
    pools: dict[str, list[int]] = {}
    for column, label in enumerate(label_values):
        pools.setdefault(label, []).append(column)
    result = {stat: all_absent(len(pools)) for stat in stats}
    # Pools of equal size are computed as one matrix: a label of 1,000 values costs one call, not 1,000.
    by_size: dict[int, list[tuple[int, list[int]]]] = {}
    for position, columns in enumerate(pools.values()):
        by_size.setdefault(len(columns), []).append((position, columns))
    for size, members in by_size.items() if len(values) else ():
        step = max(1, _WORK_SAMPLES // (size * len(values)))
        for start in range(0, len(members), step):
            some = members[start : start + step]
            chosen = [column for _, columns in some for column in columns]
            rows = transposed(values[:, chosen]).reshape(len(some), size * len(values))
            if weights is None:
                found = _statistics(rows, stats)
            else:
                found = _weighted(rows, np.repeat(weights[chosen], len(values)).reshape(rows.shape), stats)
            for stat, part in found.items():
                result[stat][[position for position, _ in some]] = part
    return result


def calculate_rate(values: Floats, monotonic_ns: Integers, timestamps_ns: Integers) -> tuple[Floats, Floats]:
    """Rate per second and increase of counters, each float64, shape (series,).

    The increase is the sum of the increments from sample to sample; a decrease is a reset of the counter, and the
    increment is then the value after it. The rate is the increase divided by the time from first to last sample: by the
    monotonic clock, or by the wall clock for steps where the monotonic clock does not advance (a reboot). NaNs are
    ignored. Both are absent with fewer than two samples, the rate also if neither clock advanced. Clocks: int64, shape
    (frames,).

    PromQL's rate() and increase() extrapolate to the borders of the window, so that three packets may read as 3.2.
    Here nothing is extrapolated.
    """
    elapsed = elapsed_ns(monotonic_ns, timestamps_ns)
    rate, increase = all_absent(values.shape[1]), all_absent(values.shape[1])
    for some, rows in _rows(values):
        found = steps(rows)
        rate[some], increase[some] = rates(found[INCREASE], found[FIRST_AT], found[LAST_AT], elapsed)
    return rate, increase


def _statistics(rows: Floats, stats: Sequence[str]) -> dict[str, Floats]:
    """``stats`` of each row. ``rows``: shape (series, samples), at least one sample, contiguous; sorted in place."""
    width = rows.shape[1]
    everything = np.arange(len(rows))
    result: dict[str, Floats] = {}
    with np.errstate(over="ignore", invalid="ignore"):
        total = rows.sum(axis=1)
        present, numbers, gapped = count_samples(rows, total)
        if gapped.size:
            total[gapped] = np.where(absent(rows[gapped]), 0.0, rows[gapped]).sum(axis=1)
        ranked = [stat for stat in stats if stat in PERCENTILES]
        if ranked:
            whole = np.array([width])
            wanted = (0, width - 1, *(int(rank_of(PERCENTILES[stat], whole)[0]) for stat in ranked))
            put_in_order(rows, None if gapped.size else [(rank, rank + 1) for rank in wanted])
            low, high = rows[:, 0], rows[everything, np.maximum(numbers - 1, 0)]
        elif gapped.size:
            low = np.where(np.isnan(rows), np.inf, rows).min(axis=1)
            high = np.where(np.isnan(rows), -np.inf, rows).max(axis=1)
        else:
            low, high = rows.min(axis=1), rows.max(axis=1)
        ready = {"sum": total, "avg": total / np.maximum(present, 1), "min": low, "max": high}
        for stat in stats:
            percent = PERCENTILES.get(stat)
            one = ready[stat].copy() if percent is None else rows[everything, rank_of(percent, numbers)]
            if stat not in ("sum", "avg"):
                one[numbers == 0] = np.nan
            one.view(np.uint64)[present == 0] = STALE_NAN_BITS
            result[stat] = one
    return result


def _weighted(rows: Floats, weights: Floats, stats: Sequence[str]) -> dict[str, Floats]:
    """As :func:`_statistics`, where avg and percentiles count each sample as often as its weight says.

    A percentile is that of the samples repeated so often: the sample at rank ceil(p / 100 · (n − 1)) of n repetitions.
    """
    there, number = ~absent(rows), ~np.isnan(rows)
    order = np.argsort(rows, axis=1)
    upto = np.cumsum(np.take_along_axis(np.where(number, weights, 0.0), order, axis=1), axis=1)
    result = {}
    with np.errstate(over="ignore", invalid="ignore"):
        for stat in stats:
            if stat == "avg":
                total = np.where(there, rows * weights, 0.0).sum(axis=1)
                one = total / np.maximum(np.where(there, weights, 0.0).sum(axis=1), 1.0)
            elif stat in PERCENTILES:
                rank = np.ceil(PERCENTILES[stat] * np.maximum(upto[:, -1:] - 1, 0.0) / 100)
                at = np.minimum((upto <= rank).sum(axis=1, keepdims=True), rows.shape[1] - 1)
                one = np.take_along_axis(rows, np.take_along_axis(order, at, axis=1), axis=1)[:, 0]
                one[~number.any(axis=1)] = np.nan
            else:
                one = _statistics(rows.copy(), [stat])[stat]
            one.view(np.uint64)[~there.any(axis=1)] = STALE_NAN_BITS
            result[stat] = one
    return result


def count_samples(rows: Floats, total: Floats | None = None) -> tuple[Integers, Integers, Integers]:
    """(number of samples, number of samples other than NaN) of each row, and the indexes of rows with any NaN.

    ``rows``: shape (series, samples). ``total``: a sum of each row, in any order of addition.
    """
    present = np.full(len(rows), rows.shape[1])
    numbers = present.copy()
    if total is None:
        with np.errstate(over="ignore", invalid="ignore"):
            total = np.einsum("ij->i", rows)
    # The sum of a row with a NaN is NaN; only such rows (and rows with both infinities) need masks.
    gapped = np.flatnonzero(np.isnan(total))
    if gapped.size:
        some = rows[gapped]
        present[gapped] -= np.count_nonzero(absent(some), axis=1)
        numbers[gapped] -= np.count_nonzero(np.isnan(some), axis=1)
    return present, numbers, gapped


def rates(total: Floats, first: Floats, last: Floats, elapsed: Integers) -> tuple[Floats, Floats]:
    """(rate, increase) of counters that grew by ``total`` from frame ``first`` to frame ``last``, each shape (series,).

    ``first`` and ``last`` are NaN for a series without a usable sample. ``elapsed``: see :func:`elapsed_ns`.
    """
    rate, increase = all_absent(len(total)), all_absent(len(total))
    counted = last > first  # with fewer than two samples they are equal, or NaN
    increase[counted] = total[counted]
    seconds = np.zeros(len(total))
    seconds[counted] = (elapsed[last[counted].astype(np.intp)] - elapsed[first[counted].astype(np.intp)]) / 1e9
    timed = seconds > 0
    rate[timed] = total[timed] / seconds[timed]
    return rate, increase


def elapsed_ns(monotonic_ns: Integers, timestamps_ns: Integers) -> Integers:
    """Nanoseconds since the first frame: int64, shape (frames,), never decreasing."""
    # Per step: after a reboot the monotonic clock may exceed its first value again before the window ends.
    steps, wall = np.diff(monotonic_ns), np.diff(timestamps_ns)
    elapsed = np.zeros(len(monotonic_ns), np.int64)
    np.cumsum(np.where(steps > 0, steps, np.maximum(wall, 0)), out=elapsed[1:])
    return elapsed


def work_slices(series: int, frames: int) -> Iterator[slice]:
    """Slices of series whose samples fit the cache. No slices for an empty window."""
    step = max(_WORK_SERIES, _WORK_SAMPLES // max(1, frames))
    for start in range(0, series if frames else 0, step):
        yield slice(start, min(start + step, series))


def _rows(matrix: Floats) -> Iterator[tuple[slice, Floats]]:
    """(slice, scratch copy of shape (series, frames)) for each of :func:`work_slices`."""
    frames, series = matrix.shape
    for some in work_slices(series, frames):
        yield some, transposed(matrix[:, some])


def columns_of(values: Floats, columns: NDArray[np.intp]) -> Floats:
    """Those columns: a view if they are adjacent (a day of 1,000 series is 46 MiB), else a copy."""
    first, end = int(columns[0]), int(columns[-1]) + 1
    if end - first == len(columns) and (np.diff(columns) == 1).all():
        return values[:, first:end]
    return values[:, columns]


def transposed(part: Floats) -> Floats:
    """A contiguous copy of shape (series, frames), made tile by tile."""
    rows: Floats = np.empty(part.shape[::-1])
    for start in range(0, len(part), _TILE_FRAMES):
        rows[:, start : start + _TILE_FRAMES] = part[start : start + _TILE_FRAMES].T
    return rows
