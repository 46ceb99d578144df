"""Places: one series of a :class:`shm.table.process.LiveTable` each, which its program stores into.

To store takes no lock where the interpreter has its own (:data:`ATOMIC`): each place has its words at hand, its *cell*,
and adds to them in one straight line of bytecode, at no point of which CPython turns to another thread or to a signal's
handler. It does so at calls, at jumps backwards, and where a function begins. Whoever moves the words to another file
takes the cells away first, all under the table's lock, so a store finds the words that count, or waits for that lock.
"""

from __future__ import annotations

import functools
import sys
import threading
import time
from array import array
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from shm.metric import SeriesKey
from shm.ring.frame import is_absent
from shm.ring.layout import ABSENT

if TYPE_CHECKING:
    from shm.table.process import LiveTable

ABSENT_WORD: Final = array("d", ABSENT)
_ZERO: Final = array("d", [0.0])

# Whether a thread goes on for a whole line without calls: CPython with its lock, in the releases that this was tried
# with, 3.11 to 3.13 (tests/shm/table/test_cells.py). Elsewhere each store takes the lock, which costs twice what
# the rest of it does.
_LAST_TRIED: Final = (3, 13)
ATOMIC: Final = (
    sys.implementation.name == "cpython"
    and sys.version_info[:2] <= _LAST_TRIED
    and bool(getattr(sys, "_is_gil_enabled", lambda: True)())
)


class Moving(Exception):
    """The words of a place are about to be elsewhere."""


class Away:
    """Stands for a place's cell while its words move, and in a process that was forked and has not stored yet."""

    def __getitem__(self, at: int) -> float:
        raise Moving

    def __setitem__(self, at: int, value: float) -> None:
        raise Moving


AWAY: Final = Away()


class Place:
    """One series in a table: of ``columns`` words from ``column`` on, which are its ``cell``. Any thread may use it.

    ``column``: -1 where it has none yet.
    """

    __slots__ = ("bounds", "cell", "column", "columns", "key", "table")

    def __init__(
        self, table: LiveTable | Nowhere, key: SeriesKey, column: int, columns: int, bounds: Sequence[float]
    ) -> None:  # fmt: skip
        self.table = table
        self.key = key
        self.column = column
        self.columns = columns
        self.bounds = bounds
        self.cell: memoryview[float] | Away = table.cell(column, columns)

    def add(self, amounts: Sequence[float]) -> None:
        """Add to each of the series' columns."""
        with self.table.lock:  # one word after the other: none may move between
            try:
                for at, amount in enumerate(amounts):
                    self.cell[at] += amount
            except Moving:  # before the first of them
                self._later(self.add, amounts)

    def words(self) -> list[float]:
        """The values of its columns."""
        with self.table.lock:
            return self.table.words(self)

    def _later(self, action: Callable[..., None], *arguments: Any) -> None:
        """What a store does that found no cell."""
        table = self.table
        with table.lock:
            if table.settled(self):
                action(*arguments)
            else:
                table.late.append((action, arguments))
        table.afterwards()


class CounterPlace(Place):
    __slots__ = ()

    def inc(self, amount: float) -> None:
        amount = 0.0 + amount  # whatever number it is: what it takes to add it is done before
        try:
            self.cell[0] += amount
        except Moving:
            self._later(self.inc, amount)

    def set(self, value: float) -> None:
        try:
            self.cell[0] = value
        except Moving:
            self._later(self.set, value)

    def get(self) -> float:
        try:
            return self.cell[0]
        except Moving:
            return self.words()[0]


class GaugePlace(CounterPlace):
    """``inc`` of a gauge that has no value yet begins at 0, and ``get`` of it is 0."""

    __slots__ = ()

    def inc(self, amount: float) -> None:
        amount = 0.0 + amount
        try:
            cell = self.cell
            value = cell[0]
            if value == value:
                cell[0] = value + amount
                return
        except Moving:
            self._later(self.inc, amount)
            return
        self._inc_first(amount)

    def begin(self, value: float) -> None:
        """Its value, where it has none yet."""
        try:
            cell = self.cell
            now = cell[0]
            if now != now:
                cell[0] = value
        except Moving:
            self._later(self.begin, value)

    def _inc_first(self, amount: float) -> None:
        with self.table.lock:
            if _known(self.words()[0]):  # a NaN that somebody set, or another thread's value since
                self.cell[0] += amount
            else:
                cell = self.cell
                value = cell[0]
                cell[0] = value + amount if value == value else amount

    def get(self) -> float:
        value = super().get()
        return value if value == value else _known(value)


class LatestPlace(GaugePlace):
    """A gauge with the time of its value behind it, so that the latest of all processes is known."""

    __slots__ = ()

    def inc(self, amount: float) -> None:
        super().inc(amount)
        self._stamp(time.time())

    def _stamp(self, seconds: float) -> None:
        try:
            self.cell[1] = seconds
        except Moving:
            self._later(self._stamp, seconds)

    def set(self, value: float) -> None:
        self.set_at(value, time.time())

    def set_at(self, value: float, seconds: float) -> None:
        """``seconds``: Unix time from which it is."""
        try:
            cell = self.cell
            cell[0] = value
            cell[1] = seconds
        except Moving:
            self._later(self.set_at, value, seconds)


class SummaryPlace(Place):
    __slots__ = ()

    def observe(self, value: float) -> None:
        """NaN is left out: it would spoil the sum for ever."""
        if value != value:
            return
        value = 0.0 + value
        try:
            cell = self.cell
            cell[0] += 1.0
            cell[1] += value
        except Moving:
            self._later(self.observe, value)

    def get(self) -> tuple[float, float]:
        """(count, sum)."""
        count, total = self.words()
        return count, total


class HistogramPlace(Place):
    __slots__ = ()

    def observe(self, value: float) -> None:
        """NaN is left out: it is in no bucket, and would spoil the sum for ever."""
        if value != value:
            return
        value = 0.0 + value
        at = bisect_left(self.bounds, value) + 1
        try:
            cell = self.cell
            cell[at] += 1.0
            cell[-1] += value
        except Moving:
            self._later(self.observe, value)

    def get(self) -> tuple[list[float], float]:
        """(how many values are in each bucket alone, the last one being +Inf's; their sum)."""
        _, *counts, total = self.words()
        return counts, total


def _locked(store: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(store)
    def locked(self: Place, *arguments: Any) -> Any:
        with self.table.lock:
            return store(self, *arguments)

    return locked


def lock_every_store() -> None:
    """What :data:`ATOMIC` spares: for interpreters that let threads run at any time."""
    for cls in (CounterPlace, GaugePlace, LatestPlace, SummaryPlace, HistogramPlace):
        for name in ("inc", "begin", "set", "set_at", "observe"):
            if name in vars(cls):
                setattr(cls, name, _locked(vars(cls)[name]))


if not ATOMIC:
    lock_every_store()


def _known(value: float) -> float:
    """0 for the absent sample; another NaN is one that was set."""
    return 0.0 if is_absent(value) else value


def first_value(place: Place) -> array[float]:
    return ABSENT_WORD if isinstance(place, GaugePlace) else _ZERO


class Nowhere:
    """Stands for the table of a series that is not exported."""

    def __init__(self, table: LiveTable, columns: int) -> None:
        self.late: list[tuple[Callable[..., object], tuple[Any, ...]]] = []
        self._table = table
        self.words_of_all: memoryview[float] = memoryview(bytearray(8 * columns)).cast("d")

    @property
    def lock(self) -> threading.RLock:
        """The table's as it is: a fork has another."""
        return self._table.lock

    def cell(self, column: int, columns: int) -> memoryview[float]:
        return self.words_of_all

    def words(self, place: Place) -> list[float]:
        return list(self.words_of_all)

    def settled(self, place: Place) -> bool:
        return True

    def afterwards(self) -> None:
        pass


PLACES: Final[dict[str, type[Place]]] = {
    "counter": CounterPlace,
    "gauge": GaugePlace,
    "summary": SummaryPlace,
    "histogram": HistogramPlace,
}
