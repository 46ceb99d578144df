"""The retired: what the dead processes of an application had counted, in one table, so that theirs can go.

A process that starts, or ends in good order, folds the tables of the dead into it: counters, summaries and histograms
are added up, gauges vanish but for those of a "+dead" mode. The new table is built beside and takes the old one's name,
and only then are the tables of the dead unlinked. It names them (entries of the kind *folded*) for as long as their
files are there: whoever sees both, as after a crash between the two steps, counts them once. One process folds at a
time, under a lock that is never waited for by who only wants to be rid of the dead.

Removed series have their place here, too (entries of the kind *removed*). A process removes a series from its own
table by itself, but the others do not know, and nobody may write into theirs. So it writes down what their columns are
at this moment; from then on they count what they have more than that, and nothing while they have just that.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from array import array
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from shm import catalog, files
from shm.catalog import MetricExtra, Removed
from shm.create import create
from shm.errors import NoSpace, RingCorrupt, RingError, RingMissing, WriterBusy
from shm.metric import Metric, SeriesKey, series_key
from shm.ring.frame import is_absent
from shm.ring.layout import (
    ABSENT,
    HEADER_BYTES,
    KIND_FOLDED,
    KIND_METRIC,
    KIND_REMOVED,
    KIND_SERIES,
    MAX_WIDTH,
    aligned,
)
from shm.ring.lock import WriterLock
from shm.table.descriptors import in_use, let_go, open_table
from shm.table.format import (
    CATALOG_USED,
    MAGIC,
    MAX_TABLE_BYTES,
    RETIRED,
    TableHeader,
    files_of,
    fold_lock_path,
    listed,
    table_path,
)
from shm.table.reader import OpenTables, TableReader

log = logging.getLogger(__name__)

_LITTER_SECONDS: Final = 60.0  # a table is built in milliseconds
_LOCK_SECONDS: Final = 2.0  # for others that fold or remove just now
_POLL_SECONDS: Final = 0.002
_holders: Final[set[int]] = set()  # threads of this process that have the lock


@dataclass(slots=True)
class _Kept:
    """What is known of one series of the dead: float64 as words, one a column of its table."""

    metric: Metric
    extra: MetricExtra
    values: array[float]


@dataclass(slots=True)
class _Account:
    series: dict[SeriesKey, _Kept] = field(default_factory=dict)
    removed: dict[tuple[str, SeriesKey], bytes] = field(default_factory=dict)
    folded: list[str] = field(default_factory=list)


def fold(namespace: str, application: str, group: str = "") -> int:
    """Fold the tables of the dead, of this user, into the retired; how many. Raises NoSpace, and nothing is changed.

    0 as well when another process folds just now.
    """
    if not files_of(namespace, application):
        return 0  # and no lock is left where there is nothing
    with _locked(namespace, application, wait_seconds=0.0) as ours, contextlib.ExitStack() as stack:
        if not ours:
            return 0
        _clear_litter(namespace, application)
        found = listed(namespace).get(application, [])
        dead = [one for who in found if who != RETIRED and (one := _if_dead(namespace, application, who, stack))]
        if not dead:
            return 0
        account = _account(namespace, application, RETIRED in found)
        before = set(account.folded)
        for table in list(dead):
            try:
                if table.who not in before:
                    _take_in(account, table)
            except RingCorrupt as error:  # cut since it was opened
                dead.remove(table)
                _set_aside(table.path, error)
        # With those that were folded before and that we can't be rid of: they are in here, and must not count again.
        left = set(found) - {table.who for table in dead}
        account.folded = [*sorted(before & left), *(table.who for table in dead)]
        account.removed = {key: value for key, value in account.removed.items() if key[0] in left}
        _publish(namespace, application, group, account)
        for table in dead:
            table.path.unlink(missing_ok=True)
        return len(dead)


def remove(
    namespace: str, application: str, group: str, own: str, keys: Sequence[SeriesKey], peers: Peers,
    metrics: Collection[str] = (),
) -> None:  # fmt: skip
    """Remove the series, and all of ``metrics``, from all of the application, but for the table ``own``.

    That one's process has done it itself. Raises NoSpace, or WriterBusy when others fold or remove for two seconds.
    """
    with _locked(namespace, application, wait_seconds=_LOCK_SECONDS) as ours:
        if not ours:
            raise WriterBusy(application, 0)
        found = listed(namespace).get(application, [])
        account = _account(namespace, application, RETIRED in found)
        there = {who for who in found if who not in (RETIRED, own)}
        wanted = set(keys)

        def chosen(key: SeriesKey) -> bool:
            return key in wanted or key[0] in metrics

        before = len(account.series), len(account.removed)
        account.series = {key: kept for key, kept in account.series.items() if not chosen(key)}
        account.removed = {
            (who, key): then for (who, key), then in account.removed.items() if who != own or not chosen(key)
        }
        changed = before != (len(account.series), len(account.removed))
        for table in peers.tables(there):
            columns = peers.columns(table)
            gone = [key for key in columns if chosen(key)] if metrics else [key for key in keys if key in columns]
            try:
                values = table.values() if gone else array("d")
            except RingCorrupt as error:  # of that process nothing is shown
                log.warning("table left out", extra={"application": application, "error": str(error)})
                continue
            for key in gone:
                first, count = columns[key]
                then = values[first : first + count].tobytes()
                if then[-8:] != ABSENT:
                    account.removed[table.who, key] = then
                    changed = True
                elif account.removed.pop((table.who, key), None) is not None:  # its process did it, too
                    changed = True
        # Entries of tables that no longer exist are dropped. Those of our own table, which other processes wrote, stay.
        account.folded = [who for who in account.folded if who in there]
        account.removed = {key: value for key, value in account.removed.items() if key[0] in {*there, own}}
        if changed:
            _publish(namespace, application, group, account)


class Peers:
    """The other tables of an application, kept open by a process that removes series."""

    def __init__(self, namespace: str, application: str) -> None:
        self._application = application
        self._tables = OpenTables(namespace, application, {os.geteuid()})
        self._columns: dict[int, dict[SeriesKey, tuple[int, int]]] = {}  # by the reader's serial

    def tables(self, there: Collection[str]) -> Iterator[TableReader]:
        self._tables.keep(there)
        for who in there:
            try:
                table = self._tables.refreshed(who)
            except RingMissing:
                continue
            except RingError as error:
                log.warning("table left out", extra={"application": self._application, "error": str(error)})
                continue
            yield table
        open_now = {table.serial for table in self._tables}
        self._columns = {serial: columns for serial, columns in self._columns.items() if serial in open_now}

    def columns(self, table: TableReader) -> dict[SeriesKey, tuple[int, int]]:
        """(first column, how many) of each of the table's series."""
        columns = self._columns.setdefault(table.serial, {})
        for series in table.catalog.series[len(columns) :]:
            columns[series_key(series)] = series.column, table.columns_of(series.metric)
        return columns

    def close(self) -> None:
        self._tables.close()
        self._columns.clear()


def since_removal(own: bytes, then: bytes, *, gauge: bool) -> bytes:
    """What a series has come to since it was removed, absent where that is nothing: float64 words, as they lie there.

    ``own``: its columns now; ``then``: when it was removed. Its process may have removed it, too, or have begun it anew
    from 0, and nobody has written that down yet.
    """
    if len(own) != len(then) or ABSENT in (own[-8:], then[-8:]):
        return own
    if own == then:
        return ABSENT * (len(own) // 8)
    if gauge:
        return own
    values = array("d", own)
    before = array("d", then)
    # Counts alone, not the sum, which may fall: a histogram's are all but the last, a summary's is the first.
    counts = max(len(values) - 1, 1)
    if any(now < once for now, once in zip(values[:counts], before[:counts], strict=True)):
        return own
    return array("d", [now - once for now, once in zip(values, before, strict=True)]).tobytes()


@contextlib.contextmanager
def _locked(namespace: str, application: str, wait_seconds: float) -> Iterator[bool]:
    """Hold the right to change the retired; False when another process has it all the time, or this very thread, of
    which a signal's handler or a destructor asks for it once more."""
    thread = threading.get_ident()
    if thread in _holders:
        yield False
        return
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            lock = WriterLock.acquire(fold_lock_path(namespace, application), application)
            if _leads_to(lock):
                break
            lock.release()  # removed since it was opened, with all of the application; another may have the next one
        except WriterBusy:
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


def _leads_to(lock: WriterLock) -> bool:
    try:
        return os.path.samestat(os.stat(lock.path), os.fstat(lock.fd))
    except OSError:
        return False


def _clear_litter(namespace: str, application: str) -> None:
    """Remove what processes left that died while they built a table."""
    for path in files.DIRECTORY.glob(f"fogmetrics.{namespace}.{application}.*.new"):
        with contextlib.suppress(OSError):
            fd = open_table(path)
            try:
                status = os.fstat(fd)
                old = time.time() - status.st_mtime > _LITTER_SECONDS
                if path.name.count(".") == 4 and old and status.st_uid == os.geteuid() and not in_use(fd):
                    path.unlink()
            finally:
                let_go(fd)


def _if_dead(namespace: str, application: str, who: str, stack: contextlib.ExitStack) -> TableReader | None:
    try:
        table = TableReader(namespace, application, who, {os.geteuid()})
    except RingMissing:
        return None
    except RingCorrupt as error:
        _set_aside(table_path(namespace, application, who), error)
        return None
    except RingError as error:  # another user's, most likely: for that user to fold
        log.debug("table not folded", extra={"application": application, "error": str(error)})
        return None
    stack.callback(table.close)
    # One that grows publishes the larger file first, and lets go of the smaller one's lock behind that.
    if table.alive() or not table.in_place():
        return None
    if table.mapped():
        log.warning(
            "table without its lock",
            extra={"application": application, "path": str(table.path), "remedy": "close no descriptors of others"},
        )
        return None
    table.refresh()
    if table.catalog.error:
        log.error("table damaged", extra={"application": application, "error": table.catalog.error})
    return table


def _set_aside(path: Path, error: RingCorrupt) -> None:
    """Keep what can't be read for whoever wants to know, under a name that nobody lists."""
    with contextlib.suppress(OSError):
        fd = open_table(path)
        try:
            if in_use(fd):
                return
        finally:
            let_go(fd)
        aside = path.with_suffix(".corrupt")
        path.rename(aside)
        log.error("table set aside", extra={"path": str(aside), "error": str(error)})


def _account(namespace: str, application: str, there: bool) -> _Account:
    account = _Account()
    if not there:
        return account
    try:
        table = TableReader(namespace, application, RETIRED, {os.geteuid()})
    except RingMissing:
        return account
    except RingCorrupt as error:
        _set_aside(table_path(namespace, application, RETIRED), error)
        return account
    try:
        table.refresh()
        if table.catalog.error:
            log.error("table damaged", extra={"application": application, "error": table.catalog.error})
        values = table.values()
        for series in table.catalog.series:
            extra = table.catalog.extra.get(series.metric.name, MetricExtra("sum", 0))
            columns = table.columns_of(series.metric)
            account.series[series_key(series)] = _Kept(
                series.metric, extra, values[series.column : series.column + columns]
            )
        account.folded = list(table.catalog.folded)
        account.removed = {(one.who, one.key): one.values for one in table.catalog.removed}
    finally:
        table.close()
    return account


def _take_in(account: _Account, table: TableReader) -> None:
    """Add what a dead process had counted."""
    values = table.values()
    for series in table.catalog.series:
        extra = table.catalog.extra.get(series.metric.name)
        if extra is None:
            continue
        columns = table.columns_of(series.metric)
        own = values[series.column : series.column + columns]
        since = account.removed.get((table.who, series_key(series)))
        if since is not None:
            own = array("d", since_removal(own.tobytes(), since, gauge=series.metric.type == "gauge"))
        if is_absent(own[-1]):  # removed, or never set
            continue
        if series.metric.type == "gauge" and not extra.mode.endswith("+dead"):
            continue
        _add(account, series_key(series), _Kept(series.metric, extra, own))


def _add(account: _Account, key: SeriesKey, new: _Kept) -> None:
    kept = account.series.get(key)
    if kept is None:
        account.series[key] = new
    elif (kept.metric.shape, kept.extra.mode) != (new.metric.shape, new.extra.mode):
        # Of two releases of the application the later one's definition holds.
        if new.extra.since_ns > kept.extra.since_ns:
            account.series[key] = new
    else:
        if new.extra.since_ns > kept.extra.since_ns:
            kept.metric, kept.extra = new.metric, new.extra  # as long as the last process that had it
        kept.values = _together(kept.values, new)


def _together(values: array[float], new: _Kept) -> array[float]:
    if new.metric.type != "gauge":
        return array("d", [one + two for one, two in zip(values, new.values, strict=True)])
    if new.extra.mode == "latest+dead":
        return new.values if new.values[1] >= values[1] else values
    choose = min if new.extra.mode == "min+dead" else max
    return array("d", [choose(values[0], new.values[0])])


def _publish(namespace: str, application: str, group: str, account: _Account) -> None:
    """Put a table of that account in the old one's place."""
    bodies: list[tuple[int, bytes]] = []
    values = array("d")
    # One definition a name: series of an older one go.
    metrics: dict[str, tuple[Metric, MetricExtra]] = {}
    for kept in account.series.values():
        known = metrics.get(kept.metric.name)
        if known is None or kept.extra.since_ns > known[1].since_ns:
            metrics[kept.metric.name] = kept.metric, kept.extra
    index: dict[str, int] = {}
    for key, kept in account.series.items():
        metric, extra = metrics[key[0]]
        if (metric.shape, extra.mode) != (kept.metric.shape, kept.extra.mode):
            continue
        if metric.name not in index:
            index[metric.name] = len(index)
            bodies.append((KIND_METRIC, catalog.metric_body(metric, extra)))
        bodies.append((KIND_SERIES, catalog.series_body(index[metric.name], key[1], len(values))))
        values += kept.values
    bodies += [
        (KIND_REMOVED, catalog.removed_body(Removed(who, key, then))) for (who, key), then in account.removed.items()
    ]
    for at in range(0, len(account.folded), 1000):
        bodies.append((KIND_FOLDED, catalog.folded_body(account.folded[at : at + 1000])))
    catalog_bytes = max(aligned(sum(catalog.entry_bytes(body) for _, body in bodies), 64), 64)
    header = TableHeader(application, max(len(values), 1), catalog_bytes, time.time_ns(), os.getpid(), 0)
    if header.width > MAX_WIDTH or header.file_bytes > MAX_TABLE_BYTES:  # which nobody would read
        raise NoSpace(application, f"the dead have {len(values)} columns, more than the {MAX_WIDTH} of a table")
    packed = catalog.packed(bodies, header.salt)
    path = table_path(namespace, application, RETIRED)
    building = path.with_suffix(".new")
    fd, mapped = create(application, building, header.file_bytes, group)
    try:
        mapped.close()
        os.pwrite(fd, header.behind_magic(), 8)
        os.pwrite(fd, packed, HEADER_BYTES)
        os.pwrite(fd, values.tobytes(), header.values_offset)
        os.pwrite(fd, len(packed).to_bytes(8, "little"), CATALOG_USED)
        os.pwrite(fd, MAGIC.to_bytes(8, "little"), 0)
        os.rename(building, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(building)
        raise NoSpace(application, f"{path} can't be written: {error.strerror}") from error
    finally:
        os.close(fd)


os.register_at_fork(after_in_child=_holders.clear)
