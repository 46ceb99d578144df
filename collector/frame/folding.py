"""Folds: the series ``other``, in which the series beyond a limit are added up.

What several series of a metric add up to depends on what the metric counts:

    gauge, untyped    the sum of their samples in the frame
    counter           the sum of their increases since each began to be folded; never falls
    histogram         all their observations, counted in one histogram
    histogram or summary that somebody else counted     column by column as a counter

A counter's first sample says nothing of when it was counted, so it adds nothing; one that fell was reset, and what it
has now came since. The total goes on from the ring's newest, over restarts too.

Frames with timestamps of their own are added up before the tick's, the oldest first: by sequence a total never falls.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence, Set
from typing import Final

from shm.metric import Metric, SeriesKey

# The label value under which they are found.
OTHER: Final = "other"
# Series that one frame folds, at most: what a flood of label values costs in memory is bounded, 3 MiB or so.
MOST_FOLDED: Final = 10_000

Columns = tuple[float, ...]  # a counter's value; or the buckets, count and sum of a histogram
Staged = dict[SeriesKey, float | None]
_Parts = dict[SeriesKey, dict[SeriesKey, Columns]]  # by folded series and by the series that is in it


def folded_key(key: SeriesKey, labels: Set[int] | None = None) -> SeriesKey:
    """The series' own name with ``other`` for the values of these labels, by their place; of all where None."""
    name, values = key
    return name, tuple(OTHER if labels is None or i in labels else value for i, value in enumerate(values))


class Folds:
    """The folded series of one collector. ``newest``: a series' columns as the ring has them last, None for none."""

    def __init__(self, newest: Callable[[SeriesKey], Columns | None]) -> None:
        self._newest = newest
        self._totals: dict[SeriesKey, list[float]] = {}
        self._last: dict[SeriesKey, tuple[SeriesKey, Columns]] = {}  # by the series that is in one: which, and its last
        self._frames: dict[int | None, tuple[_Parts, set[SeriesKey]]] = {}  # by timestamp; which are cumulative
        self._staged = 0

    def add(self, metric: Metric, into: SeriesKey, key: SeriesKey, columns: Columns, stamp_ns: int | None) -> bool:
        """Stage a sample of ``key``, the last one of a frame counts; False where there is no room for one more."""
        parts, cumulative = self._frames.setdefault(stamp_ns, ({}, set()))
        of_fold = parts.setdefault(into, {})
        if key not in of_fold:
            if self._staged >= MOST_FOLDED:
                return False
            self._staged += 1
        of_fold[key] = columns
        if metric.type in ("counter", "histogram", "summary"):
            cumulative.add(into)
        return True

    def staged(self) -> set[SeriesKey]:
        """The folded series that have a sample since they were settled last."""
        return {into for parts, _ in self._frames.values() for into in parts}

    def settle(self, tick: Staged, apart: dict[int, Staged]) -> dict[SeriesKey, Columns]:
        """Put what was staged into the frames; the columns of histograms that somebody else counted are returned."""
        counted: dict[SeriesKey, Columns] = {}
        frames, self._frames, self._staged = self._frames, {}, 0
        for stamp in sorted(frames, key=lambda one: (one is None, one or 0)):
            parts, cumulative = frames[stamp]
            frame = tick if stamp is None else apart.setdefault(stamp, {})
            for into, of_fold in parts.items():
                if into not in cumulative:
                    frame[into] = sum(columns[0] for columns in of_fold.values())
                    continue
                total = self._counted(into, of_fold)
                if len(total) == 1:
                    frame[into] = total[0]
                else:
                    frame[into] = None
                    counted[into] = tuple(total)
        if len(self._last) > MOST_FOLDED:
            seen = {key for parts, _ in frames.values() for of_fold in parts.values() for key in of_fold}
            self._last = {key: one for key, one in self._last.items() if key in seen}
        return counted

    def keep(self, those: Set[SeriesKey]) -> None:
        """Forget the folded series that are not among those: their columns were freed."""
        if self._totals.keys() <= those:
            return
        self._totals = {key: total for key, total in self._totals.items() if key in those}
        self._last = {key: one for key, one in self._last.items() if one[0] in those}

    def forget_series(self, key: SeriesKey) -> None:
        """It has a place of its own now: what it counts there is in no fold."""
        self._last.pop(key, None)

    def forget_metrics(self, names: Set[str]) -> None:
        """They begin anew."""
        self.keep({key for key in self._totals if key[0] not in names})
        for parts, _ in self._frames.values():
            for into in [into for into in parts if into[0] in names]:
                del parts[into]

    def _counted(self, into: SeriesKey, of_fold: dict[SeriesKey, Columns]) -> list[float]:
        total = self._totals.get(into)
        if total is None:
            # A series that bears the name itself brings what it has: nobody else was in it before.
            total = list(self._newest(into) or of_fold.get(into) or (0.0,) * len(next(iter(of_fold.values()))))
            self._totals[into] = total
        for key, columns in of_fold.items():
            if not all(map(math.isfinite, columns)):
                continue  # it would stay in the total for good
            before = self._last.get(key)
            self._last[key] = into, columns
            if before is not None and before[0] == into:
                for i, more in enumerate(_increase(before[1], columns)):
                    total[i] += more
        return total


def _increase(before: Columns, now: Columns) -> Columns:
    """What came in between. A histogram falls as a whole; its sum, the last of its columns, may fall by itself."""
    counts = max(len(now) - 1, 1)
    if len(before) != len(now) or any(new < old for old, new in zip(before[:counts], now[:counts], strict=True)):
        return now
    return tuple(new - old for old, new in zip(before, now, strict=True))


def without_gaps(counted: Sequence[float | None]) -> Columns:
    """Buckets, count and sum; a bucket that the series lacks has the count of the next lower one.

    So that the sum over several series rises with the bounds, and nothing is counted at too low a one.
    """
    *buckets, total = counted
    found: list[float] = []
    for value in buckets:
        found.append(value if value is not None else found[-1] if found else 0.0)
    return (*found, total or 0.0)
