"""Statistics from increases of buckets, count and sum: of histograms without raw samples, and of summaries.

Another program's histogram arrives as buckets, count and sum, without the samples. The increases over the window give
sum and mean; the buckets give percentiles, by linear interpolation as in PromQL's histogram_quantile
(https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exporter.window.statistics import PERCENTILES
from shm.metric import Series
from shm.ring.frame import absent, all_absent

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Cumulative:
    """Histograms of equal bounds, or summaries. ``at``: their indexes; ``columns``: shape (series, columns of each).

    ``always``: they are summaries, which never have raw samples.
    """

    bounds: tuple[float, ...]
    at: NDArray[np.intp]
    columns: NDArray[np.intp]
    always: bool


def grouped(found: Sequence[tuple[int, Series]]) -> tuple[Cumulative, ...]:
    """Group histograms and summaries, given as (index, series), by their bounds."""
    by_bounds: dict[tuple[float, ...], list[tuple[int, Series]]] = {}
    for index, series in found:
        by_bounds.setdefault(series.metric.buckets, []).append((index, series))
    return tuple(
        Cumulative(
            bounds,
            np.array([index for index, _ in some], dtype=np.intp),
            # Of a histogram without its column of raw samples.
            np.array([range(one.column + bool(bounds), one.end) for _, one in some], dtype=np.intp),
            always=not bounds,
        )
        for bounds, some in by_bounds.items()
    )


def statistics(bounds: Sequence[float], increases: Vector, stats: Sequence[str]) -> dict[str, Vector]:
    """Each of ``stats``: float64, shape (series,); absent if nothing was counted. min and max are always absent.

    ``increases``: float64, shape (series, len(bounds) + 2), of the cumulative buckets, the count and the sum; shape
    (series, 2) of summaries, which have no ``bounds`` and no percentiles.
    """
    counts, totals = increases[:, -2], increases[:, -1]
    known = ~absent(np.ascontiguousarray(counts)) & (counts > 0)
    found = {stat: all_absent(len(increases)) for stat in stats}
    if not known.any():
        return found
    if "sum" in found:
        found["sum"][known] = totals[known]
    if "avg" in found:
        found["avg"][known] = totals[known] / counts[known]
    for stat in stats:
        if stat in PERCENTILES and len(bounds):
            found[stat][known] = _quantile(PERCENTILES[stat] / 100, np.asarray(bounds), increases[known, :-1])
    return found


def _quantile(share: float, bounds: Vector, cumulative: Vector) -> Vector:
    """float64, shape (series,). ``cumulative``: shape (series, len(bounds) + 1), each with a count above 0."""
    # A bucket that only some processes have may be absent: treat it as empty.
    cumulative = np.maximum.accumulate(np.nan_to_num(cumulative, nan=0.0), axis=1)
    rank = share * cumulative[:, -1]
    at = (cumulative < rank[:, np.newaxis]).sum(axis=1)
    row = np.arange(len(at))
    below = np.where(at > 0, cumulative[row, at - 1], 0.0)
    inside = np.minimum(at, len(bounds) - 1)
    upper = bounds[inside]
    lower = np.where(inside > 0, bounds[inside - 1], np.minimum(0.0, upper))
    # Beyond the last bound, and in a first bucket whose bound is not above 0, the only known value is the bound.
    whole = (at >= len(bounds)) | ((at == 0) & (upper <= 0))
    counts = np.where(whole, 1.0, cumulative[row, inside] - below)
    found: Vector = np.where(whole, upper, lower + (upper - lower) * (rank - below) / counts)
    return found
