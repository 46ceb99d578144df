"""Cumulative: buckets, count and sum of one histogram series; Observations: values already counted in buckets.

The Prometheus histogram: bucket i counts every sample ≤ its bound, +Inf counts them all
(https://prometheus.io/docs/concepts/metric_types/#histogram).
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Observations:
    """Many values that are known only as bucket counts, as from another program's histogram.

    ``counts``: pairs (upper bound, number of values above the next lower bound and at most this one), +Inf included.
    A histogram counts them at the smallest of its own bounds that is not lower: exact at bounds that both have, never
    too low at others. ``total`` is the sum of the values, in the metric's unit.
    """

    counts: tuple[tuple[float, float], ...]
    total: float


class Cumulative:
    """Cumulative counts. ``bounds`` rise; ``columns``, in the ring's order: the buckets, +Inf (the count), the sum."""

    def __init__(self, bounds: Sequence[float], columns: Sequence[float] = ()) -> None:
        self.bounds = bounds
        self.columns = array("d", columns or bytes(8 * (len(bounds) + 2)))

    def add(self, counts: Iterable[tuple[float, float]], total: float) -> None:
        """Add pairs (value, number of times), and the sum of all. The counts stay exact up to 2^53."""
        for value, count in counts:
            for i in range(bisect_left(self.bounds, value), len(self.bounds) + 1):
                self.columns[i] += count
        self.columns[-1] += total
