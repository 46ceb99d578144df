"""Cumulative: the running buckets, count and sum of one histogram series.

The Prometheus histogram: bucket i counts every sample ≤ its bound, +Inf counts them all
(https://prometheus.io/docs/concepts/metric_types/#histogram).
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence


class Cumulative:
    """``bounds`` rise; ``columns`` are, in the ring's order, the buckets, +Inf (the count) and the sum."""

    def __init__(self, bounds: Sequence[float], columns: Sequence[float] = ()) -> None:
        self.bounds = bounds
        self._columns = array("d", columns or bytes(8 * (len(bounds) + 2)))

    def observe(self, value: float) -> None:
        # The counts stay exact up to 2^53 samples.
        for i in range(bisect_left(self.bounds, value), len(self.bounds) + 1):
            self._columns[i] += 1
        self._columns[-1] += value

    def columns(self) -> array[float]:
        return self._columns
