"""Cells: one series of a :class:`shm.table.process.ProcessTable` each, and the stores into it.

A store takes no lock where CPython holds one for the whole interpreter (:data:`ATOMIC`). A cell has a view of its own
words in the table's file, and adds to them in a straight line of bytecode: CPython switches threads and runs handlers
of signals at calls, at backward jumps and where a function begins, and nowhere else. Before the words move to another
file, the table detaches all cells: they get the view :data:`DETACHED`, which has no words. The next store raises
IndexError, takes the slow path (:meth:`shm.table.process.ProcessTable.store`) and finds the words under the lock.
"""

from __future__ import annotations

import functools
import math
import sys
import time
from array import array
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from shm.metric import MetricType, SeriesKey
from shm.ring.layout import ABSENT

if TYPE_CHECKING:
    from shm.table.process import ProcessTable

# The releases that tests/shm/table/test_cells.py has tried: 3.11 to 3.13, with the GIL. Elsewhere each store takes the
# table's lock, which costs twice what the rest of it does.
_LAST_TRIED: Final = (3, 13)
ATOMIC: Final = (
    sys.implementation.name == "cpython"
    and sys.version_info[:2] <= _LAST_TRIED
    and bool(getattr(sys, "_is_gil_enabled", lambda: True)())
)

DETACHED: Final = memoryview(bytearray()).cast("d")


class Cell:
    """One series of a table: ``columns`` words, its ``words`` while it is attached. Any thread may use it."""

    __slots__ = ("bounds", "columns", "key", "table", "words")

    def __init__(self, table: ProcessTable, key: SeriesKey, columns: int, bounds: Sequence[float]) -> None:
        self.table = table
        self.key = key
        self.columns = columns
        self.bounds = bounds
        self.words: memoryview[float] = DETACHED

    def add(self, column: int, amount: float) -> None:
        """Add to one of the series' columns."""
        amount = 0.0 + amount  # a number of another type is converted here: that may call Python code
        try:
            self.words[column] += amount
        except IndexError:
            self.table.store(self, self.add, column, amount)

    def read(self, column: int) -> float:
        """The value of one of the series' columns."""
        try:
            return self.words[column]
        except IndexError:
            return self.values()[column]

    def values(self) -> list[float]:
        """The values of its columns; zeros where this process has not stored any."""
        return self.table.values_of(self)

    @staticmethod
    def initial() -> bytes:
        """The word that each column of a new series has."""
        return bytes(8)


class CounterCell(Cell):
    __slots__ = ()

    def inc(self, amount: float) -> None:
        amount = 0.0 + amount
        try:
            self.words[0] += amount
        except IndexError:
            self.table.store(self, self.inc, amount)

    def set(self, value: float) -> None:
        try:
            self.words[0] = value
        except IndexError:
            self.table.store(self, self.set, value)

    def get(self) -> float:
        return self.read(0)


class GaugeCell(CounterCell):
    """A gauge has no value until the first store; ``inc`` then begins at 0, and ``get`` returns 0."""

    __slots__ = ()

    def inc(self, amount: float) -> None:
        amount = 0.0 + amount
        try:
            words = self.words
            value = words[0]
            if value == value:
                words[0] = value + amount
                return
        except IndexError:
            pass
        self.table.store(self, self._begin, amount)

    def _begin(self, amount: float) -> None:
        """Add where there may be no value yet. Under the lock, attached; other threads may store all the same."""
        words = self.words
        begin = 0.0 if _absent(words[0]) else math.nan
        value = words[0]
        words[0] = (value if value == value else begin) + amount

    def get(self) -> float:
        value = self.read(0)
        return 0.0 if value != value and _absent(value) else value

    @staticmethod
    def initial() -> bytes:
        return ABSENT


class LatestCell(GaugeCell):
    """A gauge with the Unix time of its value in the second column, for the modes that show the latest value."""

    __slots__ = ()

    def inc(self, amount: float) -> None:
        super().inc(amount)
        self._stamp(time.time())

    def _stamp(self, timestamp: float) -> None:
        try:
            self.words[1] = timestamp
        except IndexError:
            self.table.store(self, self._stamp, timestamp)

    def set(self, value: float, timestamp: float | None = None) -> None:
        """``timestamp``: Unix time since when the gauge has that value; now, if None."""
        if timestamp is None:
            timestamp = time.time()
        try:
            words = self.words
            words[0] = value
            words[1] = timestamp
        except IndexError:
            self.table.store(self, self.set, value, timestamp)


class SummaryCell(Cell):
    __slots__ = ()

    def observe(self, value: float) -> None:
        """NaN is left out: the sum would be NaN from then on."""
        if value != value:
            return
        value = 0.0 + value
        try:
            words = self.words
            words[0] += 1.0
            words[1] += value
        except IndexError:
            self.table.store(self, self.observe, value)


class HistogramCell(Cell):
    """Each bucket counts the values above the next lower bound; column 0 is unused, the last one has the sum."""

    __slots__ = ()

    def observe(self, value: float) -> None:
        """NaN is left out: it belongs to no bucket, and the sum would be NaN from then on."""
        if value != value:
            return
        value = 0.0 + value
        bucket = bisect_left(self.bounds, value) + 1
        try:
            words = self.words
            words[bucket] += 1.0
            words[-1] += value
        except IndexError:
            self.table.store(self, self.observe, value)


CELLS: Final[dict[MetricType, type[Cell]]] = {
    "counter": CounterCell,
    "gauge": GaugeCell,
    "summary": SummaryCell,
    "histogram": HistogramCell,
}


def _absent(value: float) -> bool:
    """Whether this NaN is the absent sample; any other NaN was set."""
    return array("d", [value]).tobytes() == ABSENT


def lock_every_store() -> None:
    """Have each store take the table's lock, for interpreters that switch threads anywhere (:data:`ATOMIC`)."""
    for cls in (Cell, CounterCell, GaugeCell, LatestCell, SummaryCell, HistogramCell):
        for name in ("add", "inc", "_stamp", "set", "observe"):
            if name in vars(cls):
                setattr(cls, name, _locked(vars(cls)[name]))


def _locked(store: Callable[..., None]) -> Callable[..., None]:
    def locked(self: Cell, amount: float) -> None:
        with self.table.lock:
            store(self, amount)

    def locked_two(self: Cell, one: Any, two: Any = None) -> None:
        with self.table.lock:
            store(self, one, two)

    return functools.wraps(store)(locked if store.__code__.co_argcount == 2 else locked_two)


if not ATOMIC:
    lock_every_store()
