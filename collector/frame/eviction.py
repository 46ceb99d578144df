"""Chooses the series that newcomers replace: those whose last samples are oldest. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence, Set

from shm.metric import SeriesKey


class Eviction:
    """Eviction for one metric. ``series``: its series, ordered by the time of their last sample, oldest first.

    ``present``: series with a sample in the next frame; neither they nor their label values are evicted.
    ``max_label_values`` 0: no limit. Each newcomer replaces one series: if a limit was lowered, the number of series
    stays above it until some are freed.
    """

    def __init__(
        self, series: Sequence[SeriesKey], present: Set[SeriesKey], max_series: int, max_label_values: int
    ) -> None:
        self.evicted: set[SeriesKey] = set()
        self._oldest = [key for key in reversed(series) if key not in present]  # the oldest last
        self._count = len(series)
        self._max_series = max_series
        labels = len(series[0][1]) if max_label_values and series else 0
        self._labels = [_Label(i, series, present, max_label_values) for i in range(labels)]

    def admit(self, key: SeriesKey, room: int) -> bool:
        """Admit the newcomer, evicting series if needed; False if that is impossible, and nothing is evicted.

        ``room``: how many more series the source may have before any is evicted.
        """
        victims: set[SeriesKey] = set()
        for label in self._labels:
            if not label.has_room_for(key):
                oldest = label.oldest()
                if oldest is None:
                    return False
                victims |= oldest
        if not victims and (self._count >= self._max_series or room <= 0):
            while self._oldest and self._oldest[-1] in self.evicted:
                self._oldest.pop()
            if not self._oldest:
                return False
            victims.add(self._oldest.pop())
        self.evicted |= victims
        self._count += 1 - len(victims)
        for label in self._labels:
            label.replace(victims, key)
        return True


class _Label:
    """The values of the label at ``index``: the series of each, and their order by age, the oldest last."""

    def __init__(self, index: int, series: Sequence[SeriesKey], present: Set[SeriesKey], limit: int) -> None:
        self._index = index
        self._limit = limit
        self._series: dict[str, set[SeriesKey]] = defaultdict(set)
        self._kept = {key[1][index] for key in series if key in present}
        newest: dict[str, int] = {}
        for age, key in enumerate(series):
            self._series[key[1][index]].add(key)
            newest[key[1][index]] = age
        self._order = sorted(newest, key=newest.__getitem__, reverse=True)

    def has_room_for(self, key: SeriesKey) -> bool:
        return key[1][self._index] in self._series or len(self._series) < self._limit

    def oldest(self) -> set[SeriesKey] | None:
        """The series of the value that was seen least recently; None if no value may be evicted."""
        while self._order and (self._order[-1] in self._kept or self._order[-1] not in self._series):
            self._order.pop()
        return self._series[self._order[-1]] if self._order else None

    def replace(self, evicted: Set[SeriesKey], new: SeriesKey) -> None:
        for key in evicted:
            value = key[1][self._index]
            self._series[value].discard(key)
            if not self._series[value]:
                del self._series[value]
        self._series[new[1][self._index]].add(new)
        self._kept.add(new[1][self._index])
