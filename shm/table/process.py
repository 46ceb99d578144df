"""ProcessTable: the table that holds the values of this process's metrics.

    table = ProcessTable("default", "web")
    requests = table.cell(Metric("requests", "counter", "Requests served.", label_names=("path",)), ("/",))
    requests.inc(1.0)

A metric must never end the program that it measures: once the table exists, lack of room raises nothing. A series
without room stores into private memory that no process reads, and the log names its metric once.

**Growth.** A full table is copied into a larger file, without the removed series. All cells are detached first; each is
attached again by its next store (:mod:`shm.table.cells`). All operations that need the lock (stores of detached cells,
new series, removals) go through one queue, which the thread that has the lock works off. An operation that a signal
handler or a destructor adds in that thread runs after the interrupted one. If a handler raises, the next call that
takes the lock completes the rest: the queue, and the growth whose file is in ``_next``.

**Fork.** The child has the same cells, detached, and no file. Its first store creates a file; a series is in it from
its first store in the child.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from shm import catalog
from shm.catalog import MetricExtra
from shm.errors import FogmetricsError, MetricError
from shm.files import check_name
from shm.metric import Metric, MetricType, SeriesKey
from shm.owners import group_number
from shm.ring.layout import ABSENT, is_absent
from shm.table.cells import CELLS, DETACHED, Cell, LatestCell
from shm.table.descriptors import own_files
from shm.table.file import TableFile, grown
from shm.table.reader import OpenTables

log = logging.getLogger(__name__)

# How a scrape merges the values of one gauge from several processes, see shm.table.plan. Values of dead processes are
# dropped, except in the modes with "+dead".
MODES: Final = ("sum", "avg", "min", "max", "latest", "each", "min+dead", "max+dead", "latest+dead")

DEFAULT_MAX_SERIES: Final = 10_000

_FORK_SECONDS: Final = 0.5  # a table grows in milliseconds

_tables: weakref.WeakSet[ProcessTable] = weakref.WeakSet()


class ProcessTable:
    """The table of this process in ``application``. Raises ConfigurationError, NoSpace.

    ``group``: the group that may read it. ``who``: the identity of its file; empty in a fork that has none yet.
    ``peers``: the tables of other processes, which removals keep open. ``on_birth``: called in a fork, without a lock,
    after it has created its file. ``private``: it has no file, and all stores go into private memory.
    """

    def __init__(
        self, namespace: str, application: str, *, group: str = "", max_series: int = DEFAULT_MAX_SERIES,
        private: bool = False,
    ) -> None:  # fmt: skip
        self.namespace = check_name("namespace", namespace)
        self.application = check_name("the name of an application", application)
        group_number(group)
        self.group = group
        self.max_series = max_series
        self.lock = threading.RLock()  # reentrant: a signal handler may take it again in the same thread
        self.cells: dict[SeriesKey, Cell] = {}
        self.metrics: dict[str, tuple[Metric, str]] = {}
        self.who = ""
        self.peers = OpenTables(namespace, application, {os.geteuid()})
        self.on_birth: Callable[[], None] = lambda: None
        self._queue: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._busy = False  # whether the thread that has the lock is working off the queue
        self._file: TableFile | None = None
        self._next: TableFile | None = None
        self._closed = private  # or no memory for a file: the cells store into private memory
        self._named: set[str] = set()  # metrics that were logged as not exported
        self._reports: deque[Callable[[], object]] = deque()
        if not private:
            self._grow()
        _tables.add(self)

    # ---- metrics and series ---------------------------------------------------------------------------------

    def declare(self, metric: Metric, mode: str = "sum") -> None:
        """Register a metric. Raises MetricError if another metric has its name, or the mode does not exist."""
        if mode not in MODES:
            raise MetricError(f"metric {metric.name!r} has the mode {mode!r}; use one of {', '.join(MODES)}")
        if metric.type == "untyped" or metric.own:
            raise MetricError(f"metric {metric.name!r} is {metric.type}; an application has gauges, counters, "
                              "histograms and summaries")  # fmt: skip
        if mode == "each" and "pid" in metric.label_names:
            raise MetricError(f"metric {metric.name!r} has a label 'pid', which the mode 'each' adds; rename the label")
        mode = mode if metric.type == "gauge" else "sum"
        known = self.metrics.setdefault(metric.name, (metric, mode))
        if known != (metric, mode):
            raise MetricError(
                f"metric {metric.name!r} is registered as {known[0]}, {known[1]}, and can't also be {metric}, {mode}; "
                "rename one"
            )

    def cell(
        self, metric: Metric, label_values: tuple[str, ...], mode: str = "sum", first: float | None = None
    ) -> Cell:
        """The cell of that series, added if it is new; a new gauge has the value ``first``, if given.

        Raises MetricError. The caller must call :meth:`report` afterwards, when it holds no lock.
        """
        key = metric.name, label_values
        with self.lock:
            cell = self.cells.get(key)
            if cell is None or self.metrics[metric.name][0] is not metric:
                self.declare(metric, mode)
            if cell is None:
                metric.check_values(label_values)
                columns = catalog.columns_of(metric, MetricExtra(self.metrics[metric.name][1], 0))
                cls = CELLS[metric.type] if columns == metric.columns else LatestCell
                cell = cls(self, key, columns, metric.buckets)
                if len(self.cells) >= self.max_series:
                    self._refuse(
                        metric.name,
                        f"the limit of {self.max_series} series is reached; drop a label with many values, or raise "
                        "max_series",
                    )
                    return cell
                cell = self.cells.setdefault(key, cell)  # a signal handler may have added it meanwhile
                self._do(self._begin, cell, first)
            return cell

    def refused(self, kind: MetricType, key: SeriesKey, buckets: Sequence[float], error: str) -> Cell:
        """A cell in private memory, for a series that the table can't have; the reason is logged once per metric."""
        self._refuse(key[0], error)
        cls = LatestCell if kind == "gauge" else CELLS[kind]
        return cls(self, key, len(buckets) + 3 if kind == "histogram" else 2, buckets)

    def remove(self, keys: Iterable[SeriesKey]) -> None:
        """Remove these series from this process. Code that still has their cells stores into private memory."""
        with self.lock:
            self._do(self._remove, list(keys))

    def store(self, cell: Cell, action: Callable[..., object], *arguments: Any) -> None:
        """The slow path of a store: attach the cell, if it is detached, and store under the lock."""
        with self.lock:
            self._do(self._store, cell, action, arguments)
        self.report()

    def values_of(self, cell: Cell) -> list[float]:
        """The values of a cell's columns, even if this thread was interrupted in the middle of a growth."""
        with self.lock:
            words, file = cell.words, self._file
            if words is DETACHED and file is not None and self.cells.get(cell.key) is cell:
                column = file.contents.columns.get(cell.key)
                words = DETACHED if column is None else file.values[column : column + cell.columns]
            return list(words) or [0.0] * cell.columns

    def report(self) -> None:
        """Write the pending log lines, and call ``on_birth``. Never under a lock: a log handler may store as well."""
        while self._reports:
            with contextlib.suppress(IndexError):  # another thread took it
                self._reports.popleft()()

    def close(self) -> None:
        """Close and unlock the file, which stays. Later stores go into private memory."""
        with self.lock:
            file = self._current()
            self._closed = True
            self._file = None
            self._detach()
            if file is not None:
                file.close()

    def forked(self) -> None:
        """Reset the table in a forked child: close the parent's file, detach all cells, and renew the lock."""
        self.lock = threading.RLock()
        self._busy = False
        self._queue.clear()
        self._reports.clear()
        self._reports.append(self.on_birth)
        for file in (self._file, self._next):
            if file is not None:
                file.close()  # the parent keeps its lock: record locks belong to a process
        self._file = self._next = None
        self.who = ""
        self._detach()

    # ---- the queue: each of these is called under the lock --------------------------------------------------

    def _do(self, action: Callable[..., object], *arguments: Any) -> None:
        """Queue the action, and work off the queue, unless this call interrupts the thread that does so."""
        self._queue.append((action, arguments))
        if self._busy:
            return
        self._busy = True
        try:
            while self._queue:
                action, arguments = self._queue.popleft()
                action(*arguments)
        finally:
            self._busy = False

    def _store(self, cell: Cell, action: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        self._attach(cell)
        action(*arguments)

    def _begin(self, cell: Cell, first: float | None) -> None:
        self._attach(cell)
        if first is not None:
            value = cell.words[0]
            if value != value:
                cell.words[0] = first

    def _remove(self, keys: list[SeriesKey]) -> None:
        file = self._current()
        for key in keys:
            cell = self.cells.get(key)
            if cell is None:
                continue
            cell.words = DETACHED
            if file is not None and key in file.contents.columns:
                file.fill(file.contents.columns[key], cell.columns, ABSENT)
            del self.cells[key]

    def _attach(self, cell: Cell) -> None:
        """Give a detached cell its words: in the file, or in private memory if it was removed or refused."""
        if cell.words is not DETACHED:
            return
        words = self._words(cell) if self.cells.get(cell.key) is cell and not self._closed else None
        cell.words = memoryview(bytearray(8 * cell.columns)).cast("d") if words is None else words

    def _words(self, cell: Cell) -> memoryview[float] | None:
        """The words of a series in the file, to which it is added if it is new; None if there is no room."""
        file = self._current()
        if file is None or cell.key not in file.contents.columns:
            metric, mode = self.metrics[cell.key[0]]
            try:
                if file is None or not file.append(
                    cell.key, metric, MetricExtra(mode, file.header.created_ns), cell.initial()
                ):
                    file = self._grow(cell)
            except (FogmetricsError, OSError) as error:
                self._closed = file is None
                self._refuse(metric.name, f"no table for this process: {error}" if self._closed else str(error))
                return None
        column = file.contents.columns[cell.key]
        words = file.values[column : column + cell.columns]
        if is_absent(words[-1]):  # it was removed, and is added again
            file.fill(column, cell.columns, cell.initial())
        return words

    # ---- the file -------------------------------------------------------------------------------------------

    def _grow(self, new: Cell | None = None) -> TableFile:
        """Move to a new file, with the series of the old one and with ``new``. Raises NoSpace, MetricError, OSError;
        the cells then continue in the old file."""
        old = self._current()
        known = {} if old is None else old.contents.columns
        cells = [cell for cell in list(self.cells.values()) if cell.key in known]
        series = [(cell.key, *self.metrics[cell.key[0]]) for cell in (cells if new is None else [*cells, new])]
        self._next = file = grown(old, self.namespace, self.application, self.group, series)
        self._detach()
        for cell in cells:
            column, before = file.contents.columns[cell.key], known[cell.key]
            assert old is not None
            file.values[column : column + cell.columns] = old.values[before : before + cell.columns]
        if new is not None:
            file.fill(file.contents.columns[new.key], new.columns, new.initial())
        file.publish()
        self._current()
        return file

    def _current(self) -> TableFile | None:
        """The file to store into: that of a growth, once it is published (all cells are detached then), or the old."""
        new = self._next
        if new is not None:
            if new.published():
                old, self._file, self.who, self._next = self._file, new, new.who, None
                if old is not None:
                    old.close()
            else:
                self._next = None
                new.discard()
        return self._file

    def _detach(self) -> None:
        for cell in list(self.cells.values()):
            cell.words = DETACHED

    def _refuse(self, metric: str, error: str) -> None:
        """Queue a log line, once per metric, that series of the metric are not exported."""
        if metric in self._named:
            return
        self._named.add(metric)
        extra = {"application": self.application, "metric": metric, "error": error}
        # All fields in the text as well: the program's own log may not show ``extra``.
        text = f"series not exported: metric {metric!r} of application {self.application!r}: {error}"
        self._reports.append(lambda: log.warning("%s", text, extra=extra))


# By thread: the tables whose locks it holds while it forks, so that no other thread is in the middle of an operation
# that the child would find half done.
_held: dict[int, list[ProcessTable]] = {}


def _before_fork() -> None:
    tables = sorted(_tables, key=id)
    _held[threading.get_ident()] = [table for table in tables if table.lock.acquire(timeout=_FORK_SECONDS)]


def _forked_in_parent() -> None:
    for table in _held.pop(threading.get_ident(), []):
        table.lock.release()


def _forked() -> None:
    _held.clear()
    for table in list(_tables):
        table.forked()
    own_files.clear()


os.register_at_fork(before=_before_fork, after_in_parent=_forked_in_parent, after_in_child=_forked)
