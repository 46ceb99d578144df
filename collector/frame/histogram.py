"""Cumulative: the running buckets, count and sum of one histogram series; Observations: what somebody else counted.

The Prometheus histogram: bucket i counts every sample ≤ its bound, +Inf counts them all
(https://prometheus.io/docs/concepts/metric_types/#histogram).
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Observations:
    """Many values of which only buckets are known, as of a histogram that another program keeps.

    ``counts``: pairs of an upper bound, +Inf included, and how many values were at most that and above the next lower
    one. A histogram counts them at the smallest of its own bounds that is no lower: exact at every bound that both
    have, and never at too low a one. ``total`` is the sum of the values, in the metric's unit.
    """

    counts: tuple[tuple[float, float], ...]
    total: float

    @property
    def count(self) -> float:
        return sum(number for _, number in self.counts)

    @property
    def mean(self) -> float | None:
        """What stands for them where a histogram keeps one raw sample; None for none at all."""
        count = self.count
        return self.total / count if count else None


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

    def add(self, observations: Observations) -> None:
        for bound, count in observations.counts:
            for i in range(bisect_left(self.bounds, bound), len(self.bounds) + 1):
                self._columns[i] += count
        self._columns[-1] += observations.total

    def columns(self) -> array[float]:
        return self._columns
