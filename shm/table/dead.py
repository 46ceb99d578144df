"""The table of the dead: the merged values of ended processes, so that their own tables can be removed.

A process that starts, or ends in good order, folds the tables of dead processes into it: counters, summaries and
histograms are added up; gauges are dropped, except in the modes with "+dead". The new table is built under another
name and replaces the old one, and only then are the tables of the dead unlinked. The table names them (entries of
the kind *folded*) as long as their files exist: a reader that finds both, as after a crash between the two steps,
counts them once. One process folds at a time, under a lock.

It also holds the values that removed series had in the tables of other processes (entries of the kind *removed*), see
:mod:`shm.table.removal`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from shm import catalog, files
from shm.catalog import MetricExtra
from shm.errors import NoSpace, RingCorrupt, RingError, RingMissing, WriterBusy
from shm.metric import Metric, SeriesKey, series_key
from shm.ring.layout import ABSENT, KIND_FOLDED, KIND_REMOVED, MAX_WIDTH, aligned, is_absent
from shm.ring.lock import WriterLock
from shm.table.descriptors import path_in_use
from shm.table.file import Contents, TableFile
from shm.table.format import MAX_TABLE_BYTES, RETIRED, TableHeader, files_of, fold_lock_path, listed, table_path
from shm.table.reader import TableReader

log = logging.getLogger(__name__)

_LITTER_SECONDS: Final = 60.0  # a table is built in milliseconds
_POLL_SECONDS: Final = 0.002
_IDENTITIES_PER_ENTRY: Final = 1000
_holders: Final[set[int]] = set()  # threads of this process that hold the lock
os.register_at_fork(after_in_child=_holders.clear)


@dataclass(slots=True)
class DeadTable:
    """The contents of the table of the dead, to be changed and written. ``series``: one word per column.

    ``removed``: the words of a removed series in the table of a living process, as they were at the removal, by
    (identity, series key). ``folded``: identities of the tables that were folded into it and whose files still exist.
    """

    metrics: dict[str, tuple[Metric, MetricExtra]] = field(default_factory=dict)
    series: dict[SeriesKey, array[float]] = field(default_factory=dict)
    removed: dict[tuple[str, SeriesKey], bytes] = field(default_factory=dict)
    folded: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, namespace: str, application: str) -> DeadTable:
        """Read the table of the dead; empty if there is none, or a damaged one, which is set aside."""
        found = cls()
        table = _opened(namespace, application, RETIRED)
        if table is None:
            return found
        with contextlib.closing(table):
            _refresh(table)
            for key, metric, extra, values in _series_of(table):
                found.metrics[key[0]] = metric, extra or MetricExtra("sum", 0)
                found.series[key] = values
            found.folded, found.removed = table.catalog.folded, table.catalog.removed
        return found

    def fold(self, table: TableReader) -> None:
        """Add the values of a dead process's table. Raises RingCorrupt."""
        for key, metric, extra, values in _series_of(table):
            then = self.removed.get((table.who, key))
            if then is not None:
                values = array("d", since_removal(values.tobytes(), then, gauge=metric.type == "gauge"))
            absent = is_absent(values[-1])  # removed, or never set
            if absent or extra is None or (metric.type == "gauge" and not extra.mode.endswith("+dead")):
                continue
            if self._define(metric, extra):
                known = self.series.get(key)
                self.series[key] = values if known is None else _added(known, values, metric, extra.mode)

    def _define(self, metric: Metric, extra: MetricExtra) -> bool:
        """Whether values of this definition can be added. If definitions differ, the newest one is kept."""
        known, known_extra = self.metrics.setdefault(metric.name, (metric, extra))
        same = (known.shape, known_extra.mode) == (metric.shape, extra.mode)
        if extra.since_ns <= known_extra.since_ns:
            return same
        self.metrics[metric.name] = metric, extra
        if not same:
            self.series = {key: values for key, values in self.series.items() if key[0] != metric.name}
        return True

    def write(self, namespace: str, application: str, group: str) -> None:
        """Build the table and publish it in place of the old one. Raises NoSpace."""
        contents, values, bodies = Contents(), array("d"), list[tuple[int, bytes]]()
        for key, own in self.series.items():
            bodies += contents.add(key, *self.metrics[key[0]])
            values += own
        for (who, key), then in self.removed.items():
            bodies.append((KIND_REMOVED, catalog.removed_body(who, key, then)))
        for at in range(0, len(self.folded), _IDENTITIES_PER_ENTRY):
            bodies.append((KIND_FOLDED, catalog.folded_body(self.folded[at : at + _IDENTITIES_PER_ENTRY])))
        catalog_bytes = max(aligned(sum(catalog.entry_bytes(body) for _, body in bodies), 64), 64)
        header = TableHeader(application, max(len(values), 1), catalog_bytes, time.time_ns(), os.getpid(), 0)
        if header.width > MAX_WIDTH or header.file_bytes > MAX_TABLE_BYTES:  # no reader would accept it
            raise NoSpace(application, f"the dead have {len(values)} columns, more than the {MAX_WIDTH} of a table")
        path = table_path(namespace, application, RETIRED)
        file = TableFile(header, path, group, contents, catalog.packed(bodies, header.salt))
        try:
            file.values[: len(values)] = memoryview(values)
            file.publish()
        except NoSpace:
            file.discard()
            raise
        file.close()


def fold(namespace: str, application: str, group: str = "") -> int:
    """Fold the tables of this user's dead processes into the table of the dead; how many were folded.

    0 too if another process is folding. Raises NoSpace; nothing is changed then.
    """
    if not files_of(namespace, application):
        return 0  # without creating a lock file
    with fold_lock(namespace, application, wait_seconds=0.0) as ours, contextlib.ExitStack() as stack:
        if not ours:
            return 0
        _clear_litter(namespace, application)
        tables = listed(namespace, application=application, owners={os.geteuid()}).get(application, [])
        found = [who for who in tables if who != RETIRED]
        dead = [table for who in found if (table := _if_dead(namespace, application, who, stack)) is not None]
        if not dead:
            return 0
        total = DeadTable.read(namespace, application)
        before = set(total.folded)
        for table in list(dead):
            try:
                if table.who not in before:
                    total.fold(table)
            except RingCorrupt as error:  # cut short after it was opened
                dead.remove(table)
                _set_aside(table.path, error)
        # Tables that were folded before but not unlinked are named too, so that they are not counted twice.
        left = set(found) - {table.who for table in dead}
        total.folded = [*sorted(before & left), *(table.who for table in dead)]
        total.removed = {key: then for key, then in total.removed.items() if key[0] in left}
        total.write(namespace, application, group)
        for table in dead:
            table.path.unlink(missing_ok=True)
        return len(dead)


def since_removal(own: bytes, then: bytes, *, gauge: bool) -> bytes:
    """A series' change since another process removed it, as float64 words; absent if it has not changed.

    ``own``: its columns now; ``then``: at the removal. Since then its own process may have removed it too, and started
    it again from 0.
    """
    if len(own) != len(then) or ABSENT in (own[-8:], then[-8:]):
        return own
    if own == then:
        return ABSENT * (len(own) // 8)
    now, before = array("d", own), array("d", then)
    counts = max(len(now) - 1, 1)  # the counts: all columns but the last, a sum, which may fall
    if gauge or any(one < was for one, was in zip(now[:counts], before, strict=False)):
        return own
    return array("d", map(float.__sub__, now, before)).tobytes()


def _added(one: array[float], two: array[float], metric: Metric, mode: str) -> array[float]:
    """The values that two processes had of one series, merged."""
    if metric.type != "gauge":
        return array("d", map(float.__add__, one, two))
    if mode == "latest+dead":
        return two if two[1] >= one[1] else one
    return array("d", [(min if mode == "min+dead" else max)(one[0], two[0])])


@contextlib.contextmanager
def fold_lock(namespace: str, application: str, wait_seconds: float) -> Iterator[bool]:
    """Hold the lock that guards the table of the dead. Yields False if another process held it until the timeout, or if
    this thread holds it already, interrupted by a signal handler or a destructor."""
    thread = threading.get_ident()
    if thread in _holders:
        yield False
        return
    deadline = time.monotonic() + wait_seconds
    while True:
        with contextlib.suppress(WriterBusy):
            lock = WriterLock.acquire(fold_lock_path(namespace, application), application)
            if not lock.removed:
                break
            lock.release()
            continue
        if time.monotonic() >= deadline:
            yield False
            return
        time.sleep(_POLL_SECONDS)
    try:
        _holders.add(thread)
        yield True
    finally:
        _holders.discard(thread)
        lock.release()


def _series_of(table: TableReader) -> Iterator[tuple[SeriesKey, Metric, MetricExtra | None, array[float]]]:
    """The series of a table with their values. Raises RingCorrupt."""
    values = table.values()
    for series in table.catalog.series:
        end = series.column + table.columns_of(series.metric)
        extra = table.catalog.extra.get(series.metric.name)
        yield series_key(series), series.metric, extra, values[series.column : end]


def _refresh(table: TableReader) -> None:
    table.refresh()
    if table.catalog.error:
        log.error("table damaged", extra={"application": table.application, "error": table.catalog.error})


def _clear_litter(namespace: str, application: str) -> None:
    """Remove the unfinished files of processes that died while they built a table."""
    for path in files.DIRECTORY.glob(f"fogmetrics.{namespace}.{application}.*.new"):
        with contextlib.suppress(OSError):
            status = path.lstat()
            old = time.time() - status.st_mtime > _LITTER_SECONDS
            if path.name.count(".") == 4 and old and status.st_uid == os.geteuid() and not path_in_use(path):
                path.unlink()


def _opened(namespace: str, application: str, who: str) -> TableReader | None:
    """A table of this user; None if there is none, or a damaged one, which is set aside. Raises RingForeign."""
    try:
        return TableReader(namespace, application, who, {os.geteuid()})
    except RingMissing:
        return None
    except RingCorrupt as error:
        _set_aside(table_path(namespace, application, who), error)
        return None


def _if_dead(namespace: str, application: str, who: str, stack: contextlib.ExitStack) -> TableReader | None:
    """The table, open until ``stack`` is closed; None if its process is alive or the table can't be folded."""
    try:
        table = _opened(namespace, application, who)
    except RingError as error:  # most likely another user's table, which that user folds
        log.debug("table not folded", extra={"application": application, "error": str(error)})
        return None
    if table is None:
        return None
    stack.callback(table.close)
    # A growing table publishes the larger file first, then unlocks the smaller one.
    if table.alive() or not table.in_place():
        return None
    if table.mapped():
        log.warning(
            "table without its lock",
            extra={"application": application, "path": str(table.path), "remedy": "close only your own descriptors"},
        )
        return None
    _refresh(table)
    return table


def _set_aside(path: Path, error: RingCorrupt) -> None:
    """Set an unreadable table aside, unless its process is alive."""
    with contextlib.suppress(OSError):
        if not path_in_use(path):
            aside = files.aside_path(path.with_suffix(""), error)
            path.rename(aside)
            log.error("table set aside", extra={"path": str(aside), "error": str(error)})
