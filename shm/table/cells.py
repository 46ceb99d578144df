"""Cells: one series of a :class:`shm.table.process.ProcessTable` each, with the stores into its columns.

With the GIL (:data:`ATOMIC`) a store takes no lock. A cell has a view of its words in the table's file, and adds to
them in straight-line bytecode: CPython switches threads and runs signal handlers only at calls, at backward jumps and
at the start of a function. Before the words move to another file, the table detaches all cells: their view becomes
:data:`DETACHED`, which has no words. The next store raises IndexError, takes the slow path
(:meth:`shm.table.process.ProcessTable.store`) and attaches the cell under the lock.
"""

from __future__ import annotations

import functools
import math
import sys
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from shm.metric import MetricType, SeriesKey
from shm.ring.layout import ABSENT, is_absent

if TYPE_CHECKING:
    from shm.table.process import ProcessTable

# The releases that tests/shm/table/test_cells.py was run on: 3.11 to 3.13, with the GIL. On others each store takes the
# table's lock, which triples its time.
_LAST_TRIED: Final = (3, 13)
ATOMIC: Final = (
    sys.implementation.name == "cpython"
    and sys.version_info[:2] <= _LAST_TRIED
    and bool(getattr(sys, "_is_gil_enabled", lambda: True)())
)

DETACHED: Final = memoryview(bytearray()).cast("d")


class Cell:
    """One series of a table, with ``columns`` columns; ``words``: their view while attached. Any thread may use it."""

    __slots__ = ("bounds", "columns", "key", "table", "words")

    def __init__(self, table: ProcessTable, key: SeriesKey, columns: int, bounds: Sequence[float]) -> None:
        self.table = table
        self.key = key
        self.columns = columns
        self.bounds = bounds
        self.words: memoryview[float] = DETACHED

    def add(self, column: int, amount: float) -> None:
        """Add to one of the series' columns."""
        amount = 0.0 + amount  # convert other number types here: that may call Python code
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
        """The values of its columns; zeros if this process has not stored any."""
        return self.table.values_of(self)

    @staticmethod
    def initial() -> bytes:
        """The initial word of each column."""
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
        """Add to a gauge that may have no value yet. Called under the lock, attached; other threads may still store."""
        words = self.words
        begin = 0.0 if is_absent(words[0]) else math.nan
        value = words[0]
        words[0] = (value if value == value else begin) + amount

    def get(self) -> float:
        value = self.read(0)
        return 0.0 if is_absent(value) else value

    @staticmethod
    def initial() -> bytes:
        return ABSENT


class LatestCell(GaugeCell):
    """A gauge with the Unix time of its value in the second column, for the "latest" modes."""

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
        """Set the value. ``timestamp``: the Unix time of the value; now, if None."""
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
        """Count a value; NaN is ignored, since the sum would stay NaN."""
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
    """Each bucket counts the values above the next lower bound; column 0 is unused, the last column has the sum."""

    __slots__ = ()

    def observe(self, value: float) -> None:
        """Count a value; NaN is ignored, since it belongs to no bucket and the sum would stay NaN."""
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


def lock_every_store() -> None:
    """Make each store take the table's lock, for interpreters that may switch threads anywhere (:data:`ATOMIC`)."""
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
