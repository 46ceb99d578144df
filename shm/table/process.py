"""LiveTable: the table of this process, which its metrics store into.

    table = LiveTable("default", "web")
    requests = table.place(Metric("requests", "counter", "Requests served.", label_names=("path",)), ("/",))
    requests.inc(1.0)

A metric must never end the program that it measures. So nothing here raises once the table is there: a series that
finds no room, or is one too many, gets a place that nobody reads, and the log says so once.

Fork: the child has the same places, and at its first store a table of its own, in which each series begins with its
first store there. A child that stores nothing has none.

How they store: :mod:`shm.table.cells`.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import threading
import time
import weakref
from array import array
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

from shm import catalog
from shm.catalog import MetricExtra
from shm.create import create
from shm.errors import FogmetricsError, MetricError, NoSpace
from shm.files import check_name
from shm.metric import Metric, MetricType, SeriesKey
from shm.owners import group_number
from shm.ring.layout import HEADER_BYTES, KIND_METRIC, KIND_SERIES, MAX_WIDTH, aligned
from shm.table.cells import (
    ABSENT_WORD,
    AWAY,
    PLACES,
    Away,
    GaugePlace,
    LatestPlace,
    Nowhere,
    Place,
    first_value,
)
from shm.table.descriptors import own_files
from shm.table.file import Entry, LiveFile
from shm.table.format import CATALOG_USED, MAGIC, MAX_TABLE_BYTES, TableHeader, identity, table_path

log = logging.getLogger(__name__)

Done = TypeVar("Done")

# How the values that several processes have of one gauge become one at a scrape. A dead process's vanish; those of the
# modes with "+dead" stay in it, which is one number and no ghost.
MODES: Final = ("sum", "avg", "min", "max", "latest", "each", "min+dead", "max+dead", "latest+dead")

_FIRST_WIDTH: Final = 64
_FIRST_CATALOG_BYTES: Final = 8192
DEFAULT_MAX_SERIES: Final = 10_000

_FORK_SECONDS: Final = 0.5  # a table grows in milliseconds

_tables: weakref.WeakSet[LiveTable] = weakref.WeakSet()


class LiveTable:
    """The table of this process in ``application``. Raises ConfigurationError, NoSpace.

    ``values``: float64, one a column; but for the places' cells only under ``lock``. ``group``: who may read it, beside
    this user. ``on_birth``: called by a process that was forked and has its own table since, where no lock is held.
    """

    def __init__(
        self, namespace: str, application: str, *, group: str = "", max_series: int = DEFAULT_MAX_SERIES
    ) -> None:  # fmt: skip
        self.namespace = check_name("namespace", namespace)
        self.application = check_name("the name of an application", application)
        group_number(group)
        self.group = group
        self.max_series = max_series
        # A signal's handler, or a destructor, may count while its thread counts: it must not wait for itself.
        self.lock = threading.RLock()
        self.places: dict[SeriesKey, Place] = {}
        self.metrics: dict[str, tuple[Metric, str]] = {}
        self.lost = False  # whether there was no memory for this process's table
        self.values: memoryview[float]
        # What a signal's handler wanted while its own thread was moving the words, or entering a series.
        self.late: list[tuple[Callable[..., object], tuple[Any, ...]]] = []
        self.on_birth: Callable[[], None] = lambda: None
        self._unborn = False  # whether this process was forked, and has not stored yet
        # Only under the lock: whether this thread is at work, the words are about to be elsewhere, a series is about to
        # be entered. Where nobody is at work the last two are what a signal's handler left that raised.
        self._busy = False
        self._moving = False
        self._entering = False
        self._vacant: dict[SeriesKey, int] = {}  # columns of series that were removed, by what they were
        self._said: set[str] = set()
        self._to_do: list[Callable[[], object]] = []
        self._fd = -1
        self._state: LiveFile
        # Of the file: bytes of the catalog and columns that are taken, the metrics' indexes, the entry that is written.
        self._used = self._columns = 0
        self._index: dict[str, int] = {}
        self._entry: Entry | None = None
        self._next: LiveFile | None = None  # published, but not gone on in yet
        self._born(_FIRST_WIDTH, _FIRST_CATALOG_BYTES, 0)
        _tables.add(self)

    @property
    def who(self) -> str:
        """The identity of this process's table; empty where it was forked and has none yet."""
        return "" if self._unborn else identity(self._header.pid, self._header.token)

    # ---- metrics and series ---------------------------------------------------------------------------------

    def declare(self, metric: Metric, mode: str = "sum") -> None:
        """Raises MetricError where another metric has that name, or there is no such mode."""
        if mode not in MODES:
            raise MetricError(f"metric {metric.name!r} has the mode {mode!r}; use one of {', '.join(MODES)}")
        if metric.type == "untyped" or metric.own:
            raise MetricError(f"metric {metric.name!r} is {metric.type}; an application has gauges, counters, "
                              "histograms and summaries")  # fmt: skip
        if mode == "each" and "pid" in metric.label_names:
            raise MetricError(f"metric {metric.name!r} has a label pid already, which the mode each adds; rename it")
        mode = mode if metric.type == "gauge" else "sum"
        known = self.metrics.setdefault(metric.name, (metric, mode))
        if known != (metric, mode):
            raise MetricError(
                f"metric {metric.name!r} is registered as {known[0]}, {known[1]}, and can't also be {metric}, {mode}; "
                "rename one"
            )

    def place(
        self, metric: Metric, label_values: tuple[str, ...], mode: str = "sum", first: float | None = None
    ) -> Place:
        """The place of that series; a new one of a gauge has the value ``first``, or none. Raises MetricError."""
        try:
            return self.placed(metric, label_values, mode, first)
        finally:
            self.afterwards()

    def placed(
        self, metric: Metric, label_values: tuple[str, ...], mode: str = "sum", first: float | None = None
    ) -> Place:
        """The same for a caller that holds locks, and calls :meth:`afterwards` without them."""
        with self.lock:
            return self._at_work(self._placed, metric, label_values, mode, first)

    def _placed(self, metric: Metric, label_values: tuple[str, ...], mode: str, first: float | None) -> Place:
        key = metric.name, label_values
        place = self.places.get(key)
        if place is None or self.metrics[metric.name][0] is not metric:
            self.declare(metric, mode)
        if place is None:
            metric.check_values(label_values)
            place = self._entered(metric, key, self.metrics[metric.name][1])
            if isinstance(place, GaugePlace) and first is not None:
                place.begin(first)  # of the latest without a time: older than any that was set
        return place

    def _at_work(self, action: Callable[..., Done], *arguments: Any) -> Done:
        """Do it; before that, unless it is within another work of this thread, what was left undone. Only under the
        lock."""
        busy = self._busy
        try:
            self._busy = True
            if not busy:
                self._recover()
            return action(*arguments)
        finally:
            self._busy = busy

    def afterwards(self) -> None:
        """What has to wait until no lock is held: a handler of the log may count, and wait for who counts."""
        while self._to_do:
            with contextlib.suppress(IndexError):  # another thread's
                self._to_do.pop(0)()

    def remove(self, keys: Iterable[SeriesKey]) -> None:
        """Give the series up in this process: whoever still has its place stores where nobody reads."""
        with self.lock:
            self._at_work(self._remove, keys)

    def _remove(self, keys: Iterable[SeriesKey]) -> None:
        if self._moving or self._entering:
            self.late.append((self.remove, (list(keys),)))
            return
        try:
            self._entering = True  # no column may move meanwhile
            for key in keys:
                place = self.places.pop(key, None)
                if place is not None and place.table is self:
                    self._vacate(place)
        finally:
            self._entering = False
        self._do_late()

    def _vacate(self, place: Place) -> None:
        column = place.column
        self._send_nowhere(place)
        if column >= 0:
            self._vacant[place.key] = column
            _fill(self.values, column, place.columns, ABSENT_WORD)

    def _send_nowhere(self, place: Place) -> None:
        """Have it store where nobody reads."""
        nowhere = Nowhere(self, place.columns)
        place.table, place.column, place.cell = nowhere, 0, nowhere.words_of_all

    def cell(self, column: int, columns: int) -> memoryview[float] | Away:
        """These words, for a place; only under the lock."""
        return self.values[column : column + columns] if column >= 0 and not self._moving else AWAY

    def words(self, place: Place) -> list[float]:
        """What these words are; only under the lock."""
        if place.column < 0:
            return [0.0] * place.columns
        return list(self.values[place.column : place.column + place.columns])

    def settled(self, place: Place) -> bool:
        """Give the place its cell, if it has none; only under the lock. False for whom its own thread interrupted."""
        return self._at_work(self._settled, place)

    def _settled(self, place: Place) -> bool:
        if self._moving or self._entering:
            return False
        if self._unborn:
            self._bear()
        if place.column < 0:
            self._enter_place(place)
        elif place.cell is AWAY:
            place.cell = self.cell(place.column, place.columns)
        return True

    def _recover(self) -> None:
        """Bring to its end what an exception of a signal's handler left."""
        if self._moving or self._entering or self._next is not None:
            self._write_entry()
            self._arrive()
            self._moving = self._entering = False
            self._settle()
        elif self.late:
            self._do_late()

    def _entered(self, metric: Metric, key: SeriesKey, mode: str) -> Place:
        columns = catalog.columns_of(metric, MetricExtra(mode, 0))
        cls = PLACES[metric.type] if columns == metric.columns else LatestPlace
        if key not in self._vacant and len(self.places) >= self.max_series:
            self._say(f"the limit of {self.max_series} series is reached", metric.name)
            # Not kept among the others: what is without end must not grow here either.
            return cls(Nowhere(self, columns), key, 0, columns, metric.buckets)
        # A signal's handler, or a destructor, may have entered it since it was looked for.
        place = self.places.setdefault(key, cls(self, key, -1, columns, metric.buckets))
        if not self.settled(place):
            self.late.append((self.settled, (place,)))
        return place

    def _enter_place(self, place: Place) -> None:
        """Give a place its column, or words that nobody reads."""
        try:
            self._entering = True
            if place.column < 0:  # still: a signal's handler may have seen to it since
                self._give_column(place)
        finally:
            self._entering = False
        self._do_late()

    def _give_column(self, place: Place) -> None:
        metric, mode = self.metrics[place.key[0]]
        column = self._vacant.pop(place.key, None)
        if column is None:
            column = self._new_column(metric, place, mode)
        else:
            _fill(self.values, column, place.columns, first_value(place))
        if column is None:
            self._send_nowhere(place)
            return
        place.column, place.cell = column, self.cell(column, place.columns)

    def nowhere(self, kind: MetricType, key: SeriesKey, buckets: Sequence[float], error: str) -> Place:
        """A place that nobody reads, for what the table can't have: said in the log, once for a metric.

        For a caller that calls :meth:`afterwards`.
        """
        self._say(error, key[0])
        columns = len(buckets) + 3 if kind == "histogram" else 2
        cls = LatestPlace if kind == "gauge" else PLACES[kind]
        return cls(Nowhere(self, columns), key, 0, columns, buckets)

    def _new_column(self, metric: Metric, place: Place, mode: str) -> int | None:
        """A free column behind the others, with what a series begins with; None where there is no memory for it."""
        key, columns = place.key, place.columns
        if self.lost:
            return None
        try:
            bodies = self._bodies(metric, key, mode)
            room = sum(catalog.entry_bytes(body) for _, body in bodies)
            if self._columns + columns > self._header.width or self._used + room > self._header.catalog_bytes:
                self._grow(columns, room)
                bodies = self._bodies(metric, key, mode)
            column = self._columns
            # The values first: whoever reads the series' entry reads them, too.
            _fill(self.values, column, columns, first_value(place))
            for kind, body in bodies:
                self._enter(kind, body, place)
            del self._vacant[key]
        except (FogmetricsError, OSError) as error:
            self._say(str(error), metric.name)
            return None
        return column

    def _bodies(self, metric: Metric, key: SeriesKey, mode: str) -> list[tuple[int, bytes]]:
        """The catalog's entries that the series still needs."""
        index = self._index.get(metric.name)
        bodies = []
        if index is None:
            index = len(self._index)
            extra = MetricExtra(mode, self._header.created_ns)
            bodies.append((KIND_METRIC, catalog.metric_body(metric, extra)))
        bodies.append((KIND_SERIES, catalog.series_body(index, key[1], self._columns)))
        return bodies

    def _enter(self, kind: int, body: bytes, place: Place) -> None:
        """Add an entry to the catalog: the place's metric, or its series, whose column is vacant until it has it."""
        columns = place.columns if kind == KIND_SERIES else 0
        self._entry = Entry(self._used, catalog.entry(kind, body, self._used, self._salt), place.key, columns)
        self._write_entry()

    def _write_entry(self) -> None:
        """Write down what is to be entered. May be done again from wherever it was left."""
        entry = self._entry
        if entry is None:
            return
        # The seal last, then what announces it.
        start, data = HEADER_BYTES + entry.at, entry.data
        self._state.store(start, data[:8])
        self._state.store(start + 16, data[16:])
        self._state.store(start + 8, data[8:16])
        used, metrics, columns = entry.at + len(data), len(self._index), self._columns
        self._state.store(CATALOG_USED, used.to_bytes(8, "little"))
        # Nobody interrupts from here on: all of it is done, or none, and then all is done again.
        if entry.columns:
            self._vacant[entry.key] = columns
        else:
            self._index[entry.key[0]] = metrics
        self._used, self._columns, self._entry = used, columns + entry.columns, None

    def _say(self, error: str, metric: str) -> None:
        if metric not in self._said:
            self._said.add(metric)
            extra = {
                "application": self.application,
                "metric": metric,
                "error": error,
                "remedy": "drop a label with many values, raise max_series, or give shared memory more room",
            }
            # In words as well: the program's own log shows no fields.
            self._to_do.append(
                lambda: log.warning(
                    "series not exported: metric %r of application %r: %s; %s", metric, self.application, error,
                    extra["remedy"], extra=extra,
                )
            )  # fmt: skip

    # ---- the file -------------------------------------------------------------------------------------------

    def _grow(self, columns: int, catalog_bytes: int) -> None:
        """Go on in a larger file, or one as large without what was removed. Raises NoSpace, the table unchanged."""
        needed = sum(place.columns for place in self._own_places()) + columns
        width = self._header.width
        if needed > width // 2:
            width = min(aligned(2 * needed, 64), MAX_WIDTH)
        catalog = self._used - self._vacant_bytes() + catalog_bytes
        room = self._header.catalog_bytes
        most = MAX_TABLE_BYTES - HEADER_BYTES - 8 * MAX_WIDTH
        if catalog > room // 2:
            room = min(aligned(2 * catalog, 4096), most)
        if needed > width or catalog > room:
            raise NoSpace(self.application, f"a table has at most {MAX_WIDTH} columns and {most} bytes of catalog")
        self._born(width, room, self._header.token)

    def _vacant_bytes(self) -> int:
        return sum(catalog.entry_bytes(catalog.series_body(0, key[1], column)) for key, column in self._vacant.items())

    def _born(self, width: int, catalog_bytes: int, token: int) -> None:
        """Build a file with all series, publish it, and store into that. ``token``: 0 for a process's first."""
        try:
            self._moving = True
            for place in self._own_places():
                place.cell = AWAY
            self._build(width, catalog_bytes, token)
        finally:
            self._arrive()
            self._moving = False
            if not self._unborn:  # else there is no place for the words still
                self._settle()

    def _build(self, width: int, catalog_bytes: int, token: int) -> None:
        """Build and publish it; ``_next`` then."""
        pid = os.getpid()
        created = self._header.created_ns if token else time.time_ns()
        new = token or int.from_bytes(os.urandom(8), "little") or 1
        header = TableHeader(self.application, width, catalog_bytes, created, pid, new)
        path = table_path(self.namespace, self.application, identity(pid, new))
        building = path.with_suffix(".new")
        fd, mapped = create(self.application, building, header.file_bytes, self.group)
        state = LiveFile(fd, mapped, header)
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            state.store(8, header.behind_magic())
            self._fill(state)
            state.store(0, MAGIC.to_bytes(8, "little"))
            self._next = state
            os.rename(building, path)
        except BaseException:
            if state.is_at(path):  # what a signal's handler raised: the words are there all the same
                raise
            self._next = None
            state.close()
            with contextlib.suppress(OSError):
                os.unlink(building)
            raise

    def _own_places(self) -> list[Place]:
        """Those that have a column."""
        places = list(self.places.values())  # a signal's handler may add some
        return [place for place in places if place.table is self and place.column >= 0]

    def _fill(self, state: LiveFile) -> None:
        """The catalog and the values of what this process has."""
        bodies: list[tuple[int, bytes]] = []
        index: dict[str, int] = {}
        column = 0
        for place in self._own_places():
            metric, mode = self.metrics[place.key[0]]
            if metric.name not in index:
                index[metric.name] = len(index)
                bodies.append((KIND_METRIC, catalog.metric_body(metric, MetricExtra(mode, state.header.created_ns))))
            bodies.append((KIND_SERIES, catalog.series_body(index[metric.name], place.key[1], column)))
            state.moved.append((place, column))
            words = self.values[place.column : place.column + place.columns]
            state.values[column : column + place.columns] = words
            column += place.columns
        data = catalog.packed(bodies, state.salt)
        state.store(HEADER_BYTES, data)
        state.store(CATALOG_USED, len(data).to_bytes(8, "little"))
        state.used, state.columns, state.index = len(data), column, index

    def _arrive(self) -> None:
        """Go on in the file that was published, if there is one. May be done again from wherever it was left."""
        state = self._next
        if state is None:
            return
        if self._fd >= 0 and self._state is not state:
            state.before = self._state
        self._state = state
        self._fd, self._header, self._salt = state.fd, state.header, state.salt
        self._used, self._columns, self._index = state.used, state.columns, state.index
        self.values = state.values
        self._unborn = False
        for place, column in state.moved:
            place.column = column
        self._vacant.clear()
        if state.before is not None:
            state.before.close()
            state.before = None
        self._next = None

    def _settle(self) -> None:
        """Give the places their cells, and do what was put off meanwhile."""
        for place in self._own_places():
            place.cell = self.cell(place.column, place.columns)
        self._do_late()

    def _do_late(self) -> None:
        while self.late and not self._moving and not self._entering:
            try:
                action, arguments = self.late.pop(0)
            except IndexError:  # a signal's handler did it
                return
            action(*arguments)

    def _store_nowhere(self) -> None:
        """Go on where nobody reads."""
        self.values = memoryview(bytearray(8 * self._header.width)).cast("d")
        self.lost = True
        self._unborn = False
        self._settle()

    def close(self) -> None:
        """Let go of it, as the end of the process does: the lock, not the file. What comes later nobody reads."""
        with self.lock:
            if self._fd < 0:
                return
            self._store_nowhere()
            self._fd = -1
            self._state.close()

    # ---- fork -----------------------------------------------------------------------------------------------

    def forked(self) -> None:
        """In the child: nothing of the parent's table is ours."""
        self.lock = threading.RLock()  # the parent's may be held by a thread that is not here
        self._arrive()
        self._busy = self._moving = self._entering = False
        self._entry = None
        self.late.clear()
        self._to_do.clear()
        if self._fd < 0:
            return
        self._unborn = True
        for place in self._own_places():
            place.column, place.cell = -1, AWAY
        self._vacant.clear()
        self._state.close()  # frees nothing of the parent's: record locks are a process's own
        self._fd = -1

    def _bear(self) -> None:
        """A table for this process, at the first store in a child."""
        try:
            self._born(_FIRST_WIDTH, _FIRST_CATALOG_BYTES, 0)
        except (FogmetricsError, OSError) as error:
            extra = {"application": self.application, "error": str(error)}
            self._to_do.append(
                lambda: log.error("application %r not exported: %s", self.application, extra["error"], extra=extra)
            )
            self._store_nowhere()
        self._to_do.append(self.on_birth)


def _fill(values: memoryview[float], column: int, columns: int, word: array[float]) -> None:
    """Store that word as it is: arithmetic, and some moves of floats, would quiet the absent sample's NaN."""
    values[column : column + columns] = memoryview(word * columns)


# By thread: the tables whose locks it holds while it forks, so that no child begins with half of what a thread that
# it does not have was about to do.
_held: dict[int, list[LiveTable]] = {}


def _before_fork() -> None:
    tables = sorted(_tables, key=id)
    _held[threading.get_ident()] = [table for table in tables if table.lock.acquire(timeout=_FORK_SECONDS)]


def _forked_in_parent() -> None:
    for table in _held.pop(threading.get_ident(), []):
        table.lock.release()


def _forked() -> None:
    _held.clear()
    own_files.clear()
    for table in list(_tables):
        table.forked()


os.register_at_fork(before=_before_fork, after_in_parent=_forked_in_parent, after_in_child=_forked)
