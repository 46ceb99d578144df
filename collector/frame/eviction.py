"""Who gives way to whom where newcomers take the places of the series whose last samples are oldest. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence, Set

from shm.metric import SeriesKey


class Eviction:
    """Of one metric. ``places``: its series, the one whose last sample is oldest first.

    ``present`` have a sample in the frame that is being made: none of them gives way, nor does a value of a label that
    one of them has. ``max_label_values`` 0: no limit. Places are exchanged: after a limit was lowered there are as many
    as before, until some are freed.
    """

    def __init__(
        self, places: Sequence[SeriesKey], present: Set[SeriesKey], max_series: int, max_label_values: int
    ) -> None:
        self.evicted: set[SeriesKey] = set()
        self._oldest = [key for key in reversed(places) if key not in present]  # the oldest last
        self._count = len(places)
        self._max_series = max_series
        labels = len(places[0][1]) if max_label_values and places else 0
        self._labels = [_Label(i, places, present, max_label_values) for i in range(labels)]

    def let_in(self, key: SeriesKey, room: int) -> bool:
        """Give the newcomer a place; False, and nobody gives way, where it can't have one.

        ``room``: places that the source has left, of series of whatever metric, before anybody gives way.
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
    """The values of one label: which series have them, and which of them may go, the oldest last."""

    def __init__(self, place: int, places: Sequence[SeriesKey], present: Set[SeriesKey], limit: int) -> None:
        self._place = place
        self._limit = limit
        self._series: dict[str, set[SeriesKey]] = defaultdict(set)
        self._stays = {key[1][place] for key in places if key in present}
        newest: dict[str, int] = {}
        for age, key in enumerate(places):
            self._series[key[1][place]].add(key)
            newest[key[1][place]] = age
        self._order = sorted(newest, key=newest.__getitem__, reverse=True)

    def has_room_for(self, key: SeriesKey) -> bool:
        return key[1][self._place] in self._series or len(self._series) < self._limit

    def oldest(self) -> set[SeriesKey] | None:
        """The series of the value that was seen least recently; None where all must stay."""
        while self._order and (self._order[-1] in self._stays or self._order[-1] not in self._series):
            self._order.pop()
        return self._series[self._order[-1]] if self._order else None

    def replace(self, gone: Set[SeriesKey], new: SeriesKey) -> None:
        for key in gone:
            value = key[1][self._place]
            self._series[value].discard(key)
            if not self._series[value]:
                del self._series[value]
        self._series[new[1][self._place]].add(new)
        self._stays.add(new[1][self._place])
