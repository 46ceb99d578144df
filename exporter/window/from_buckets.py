"""Statistics of what was counted and not sampled: histograms without raw samples in a window, and summaries.

What another program keeps as a histogram comes as buckets, count and sum; the values themselves are gone. Their
increases over the window still give the mean and the sum, and the buckets where a percentile lies: by linear
interpolation in its bucket, as PromQL's histogram_quantile
(https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shm.metric import Series
from shm.ring.frame import absent, all_absent

Vector = NDArray[np.float64]

PERCENTILES: Final = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True, slots=True)
class Counted:
    """Histograms of the same bounds, or summaries, by their places ``at`` among others; ``columns``: one row a series.

    ``always``: they have no raw samples at all.
    """

    bounds: tuple[float, ...]
    at: NDArray[np.intp]
    columns: NDArray[np.intp]
    always: bool


def grouped(found: Sequence[tuple[int, Series]]) -> tuple[Counted, ...]:
    """(place, series) of histograms and summaries, by their bounds."""
    by_bounds: dict[tuple[float, ...], list[tuple[int, Series]]] = {}
    for place, series in found:
        by_bounds.setdefault(series.metric.buckets, []).append((place, series))
    return tuple(
        Counted(
            bounds,
            np.array([place for place, _ in some], dtype=np.intp),
            np.array([_columns_of(series) for _, series in some], dtype=np.intp),
            always=not bounds,
        )
        for bounds, some in by_bounds.items()
    )


def _columns_of(series: Series) -> list[int]:
    """Of a histogram its buckets, count and sum, of a summary count and sum."""
    return list(range(series.column + (series.metric.type == "histogram"), series.end))


def statistics(bounds: Sequence[float], increases: Vector, stats: Sequence[str]) -> dict[str, Vector]:
    """Each of ``stats``, float64, shape (series,); absent where nothing was counted, or can't be known: min and max.

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
            found[stat][known] = _quantile(PERCENTILES[stat], np.asarray(bounds), increases[known, :-1])
    return found


def _quantile(share: float, bounds: Vector, cumulative: Vector) -> Vector:
    """float64, shape (series,). ``cumulative``: shape (series, len(bounds) + 1), each with a count above 0."""
    # A bucket that one process has and another has not may be absent, and is then no bucket.
    cumulative = np.maximum.accumulate(np.nan_to_num(cumulative, nan=0.0), axis=1)
    rank = share * cumulative[:, -1]
    at = (cumulative < rank[:, np.newaxis]).sum(axis=1)
    row = np.arange(len(at))
    below = np.where(at > 0, cumulative[row, at - 1], 0.0)
    inside = np.minimum(at, len(bounds) - 1)
    upper = bounds[inside]
    lower = np.where(inside > 0, bounds[inside - 1], np.minimum(0.0, upper))
    # Past the last bound all that is known is the bound; so it is in a first bucket whose bound is not above 0.
    whole = (at >= len(bounds)) | ((at == 0) & (upper <= 0))
    counts = np.where(whole, 1.0, cumulative[row, inside] - below)
    found: Vector = np.where(whole, upper, lower + (upper - lower) * (rank - below) / counts)
    return found
