"""Merging: the tables of an application's processes → one set of series.

    counter, summary, histogram   the sum over all processes, dead ones included
    gauge   sum                   over the processes that live
            avg, min, max         of the values that those have
            latest                the one that was set last
            each                  a series for each process, with the label pid
            min+dead, max+dead, latest+dead     as min, max, latest, but the dead count as well

A *layout* says where each column of each table goes. It is made when a catalog changes; a scrape then copies the tables
and adds up arrays. Where processes disagree on a metric, as while an application is upgraded, the definition of the
process that began last holds, and what the others have under that name is left out and named.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shm.catalog import MetricExtra, Removed
from shm.errors import RingError, RingMissing
from shm.metric import Metric, Series, SeriesKey, series_key
from shm.ring.frame import absent
from shm.ring.layout import STALE_NAN_BITS
from shm.table.dead import since_removal
from shm.table.format import RETIRED, listed, table_path
from shm.table.reader import OpenTables, TableReader

log = logging.getLogger(__name__)

Indexes = NDArray[np.intp]
Values = NDArray[np.float64]

_TRIES: Final = 20  # folding takes a millisecond, and happens when a process begins or ends


class _Move(NamedTuple):
    """``source``: columns of one table; ``target``: those of the merged values that they go to, none twice."""

    source: Indexes
    target: Indexes


def _no_columns() -> Indexes:
    return np.empty(0, np.intp)


_NOTHING: Final = _Move(_no_columns(), _no_columns())


class _Moves(NamedTuple):
    """What becomes of a table's values, by how they are merged."""

    add: _Move = _NOTHING
    least: _Move = _NOTHING
    most: _Move = _NOTHING
    latest: _Move = _NOTHING


class _Of(NamedTuple):
    """One table's part of a layout. ``columns``: (first, how many, whether it is a gauge) of its series."""

    living: _Moves
    dead: _Moves
    columns: dict[SeriesKey, tuple[int, int, bool]]


@dataclass(slots=True)
class Layout:
    """``series`` take the merged values' columns one after the other, ``width`` in all.

    ``conflicts``: of a metric whose definition differs between processes, how many series were left out.
    """

    series: list[Series] = field(default_factory=list)
    width: int = 0
    conflicts: dict[str, int] = field(default_factory=dict)
    tables: list[_Of] = field(default_factory=list)
    averaged: Indexes = field(default_factory=_no_columns)
    least: Indexes = field(default_factory=_no_columns)
    most: Indexes = field(default_factory=_no_columns)
    buckets: list[NDArray[np.intp]] = field(default_factory=list)  # shape (series, buckets), +Inf's included


class ApplicationReader:
    """The tables of one application. ``layout`` belongs to what :meth:`refresh` returned last.

    ``owners``: user ids whose tables are believed. ``errors``: why a table can't be read now, by identity.
    """

    def __init__(self, namespace: str, application: str, owners: Collection[int]) -> None:
        self.application = application
        self.layout = Layout()
        self.errors: dict[str, str] = {}
        self.processes = 0  # that live
        self._namespace = namespace
        self._tables = OpenTables(namespace, application, owners)
        self._made_from: tuple[tuple[int, int], ...] = ()
        self._moved = False  # whether a table was let go of, and replaced, while it was read
        self._whole: tuple[Layout, Values] | None = None  # what was read last while nobody folded

    def refresh(self, identities: Sequence[str]) -> Values:
        """The merged values now: float64, shape (layout.width,), absent samples as STALE_NAN_BITS.

        ``identities``: of the tables that there are, RETIRED included. Never raises for what a table is like.
        """
        for _ in range(_TRIES):
            # The retired are read in any case: since the names were listed, a table of theirs may have come up, and
            # the tables that went into it gone.
            before = self._retired()
            values = self._read({*identities, RETIRED} if before is not None else identities)
            if self._retired() == before and not self._moved:
                self._whole = self.layout, values
                return values
            # Somebody folded meanwhile: what a dead process had may be there twice, or not at all. Or a table grew, and
            # what was read is the smaller one, which its process has let go of as if it were dead.
            identities = listed(self._namespace).get(self.application, [])
        if self._whole is None:
            return values
        # Processes come and go faster than they can be read: what was right a moment ago is better than what never was.
        self._made_from = ()
        self.layout, values = self._whole
        return values

    @property
    def tables(self) -> int:
        return len(self._tables)

    @property
    def bytes(self) -> int:
        """Of shared memory, that the tables take."""
        return sum(table.header.file_bytes for table in self._tables)

    def let_go(self) -> None:
        """Close the tables that are no more in place."""
        self._tables.let_go()

    def close(self) -> None:
        self._tables.close()

    # ---- tables ---------------------------------------------------------------------------------------------

    def _retired(self) -> tuple[int, int, int] | None:
        """What differs between any two tables of the dead; None where there is none."""
        try:
            status = os.stat(table_path(self._namespace, self.application, RETIRED), follow_symlinks=False)
        except OSError:
            return None
        return status.st_ino, status.st_ctime_ns, status.st_size

    def _read(self, identities: Collection[str]) -> Values:
        tables = self._open(identities)
        retired = self._tables.get(RETIRED)
        folded, removed = frozenset[str](), []
        if retired is not None:
            folded, removed = frozenset(retired.catalog.folded), retired.catalog.removed
        tables = [table for table in tables if table.who not in folded]
        made_from = tuple((table.serial, table.catalog.used) for table in tables)
        if made_from != self._made_from:
            self.layout, self._made_from = laid_out(tables), made_from
        since: dict[str, list[Removed]] = {}
        for one in removed:
            since.setdefault(one.who, []).append(one)
        return self._merged(tables, since)

    def _open(self, identities: Collection[str]) -> list[TableReader]:
        """Every table that can be read, up to date, the retired first, then by identity."""
        wanted = set(identities)
        self._tables.keep(wanted)
        self.errors = {who: error for who, error in self.errors.items() if who in wanted}
        found = []
        for who in sorted(wanted, key=lambda one: (one != RETIRED, one)):
            error = ""
            try:
                table = self._tables.refreshed(who)
                if table.catalog.error:
                    error = f"{table.path}: {table.catalog.error}"
                found.append(table)
            except RingMissing:  # gone since it was listed
                pass
            except (RingError, OSError) as trouble:
                error = str(trouble)
            self._note(who, error)
        return found

    def _note(self, who: str, error: str) -> None:
        if not error:
            self.errors.pop(who, None)
        elif self.errors.get(who) != error:
            self.errors[who] = error
            log.error("table refused", extra={"application": self.application, "error": error})

    # ---- values ---------------------------------------------------------------------------------------------

    def _merged(self, tables: list[TableReader], removed: dict[str, list[Removed]]) -> Values:
        layout = self.layout
        width = layout.width
        total, count, when = np.zeros(width), np.zeros(width), np.full(width, -np.inf)
        least, most = np.full(width, np.inf), np.full(width, -np.inf)
        self.processes, self._moved = 0, False
        for table, part in zip(tables, layout.tables, strict=True):
            values = np.empty(table.catalog.columns)
            if len(values) and not table.read_into(values.view(np.uint8).data):
                self._note(table.who, f"{table.path} was cut short; its process goes on with another at its next start")
                continue
            for one in removed.get(table.who, ()):
                _take_off(values, part.columns.get(one.key), one.values)
            alive = table.who != RETIRED and table.alive()
            self._moved |= not alive and not table.in_place()
            self.processes += alive
            moves = part.living if alive else part.dead
            if len(moves.add.source):
                picked, present = _picked(values, moves.add.source)
                total[moves.add.target] += np.where(present, picked, 0.0)
                count[moves.add.target] += present
            for move, extreme, choose, none in (
                (moves.least, least, np.minimum, np.inf), (moves.most, most, np.maximum, -np.inf),
            ):  # fmt: skip
                if len(move.source):
                    picked, present = _picked(values, move.source)
                    extreme[move.target] = choose(extreme[move.target], np.where(present, picked, none))
                    count[move.target] += present
            if len(moves.latest.source):
                picked, present = _picked(values, moves.latest.source)
                set_at = values[moves.latest.source + 1]
                later = present & (set_at >= when[moves.latest.target])
                target = moves.latest.target[later]
                total[target], when[target] = picked[later], set_at[later]
                count[target] += 1
        total[layout.least], total[layout.most] = least[layout.least], most[layout.most]
        there = count > 0
        averaged = layout.averaged[there[layout.averaged]]
        total[averaged] /= count[averaged]
        for columns in layout.buckets:
            total[columns] = np.cumsum(total[columns], axis=1)
        total.view(np.uint64)[~there] = STALE_NAN_BITS
        return total


def _picked(values: Values, source: Indexes) -> tuple[Values, NDArray[np.bool_]]:
    """(those of the columns, whether each is no absent sample)."""
    picked = values[source]
    return picked, ~absent(picked)


def _take_off(values: Values, columns: tuple[int, int, bool] | None, then: bytes) -> None:
    """Make of a removed series what it has come to since."""
    if columns is not None:
        first, count, gauge = columns
        own = values[first : first + count]
        own[:] = np.frombuffer(since_removal(own.tobytes(), then, gauge=gauge))


# ---- layouts -------------------------------------------------------------------------------------------------


def laid_out(tables: Sequence[TableReader]) -> Layout:
    """The layout of these tables, in this order."""
    layout = Layout()
    definitions = _definitions(tables)
    columns: dict[SeriesKey, int] = {}
    by_pid: dict[str, Metric] = {}
    modes: dict[str, list[int]] = {"avg": [], "min": [], "max": []}
    buckets: dict[int, list[list[int]]] = {}
    for table in tables:
        moves: dict[str, list[tuple[int, int]]] = {}  # by kind, and by kind + " dead": (source, target)
        known: dict[SeriesKey, tuple[int, int, bool]] = {}
        for series in table.catalog.series:
            metric, extra = series.metric, table.catalog.extra.get(series.metric.name)
            gauge = metric.type == "gauge"
            known[series_key(series)] = series.column, table.columns_of(metric), gauge
            merged, definition = definitions[metric.name]
            if extra is None or (metric.shape, extra.mode) != (definition.shape, merged.mode):
                layout.conflicts[metric.name] = layout.conflicts.get(metric.name, 0) + 1
                continue
            key = series_key(series)
            if gauge and merged.mode == "each":
                definition = by_pid.setdefault(metric.name, replace(metric, label_names=(*metric.label_names, "pid")))
                key = key[0], (*key[1], str(table.header.pid))
            target = columns.get(key)
            if target is None:
                target = columns[key] = layout.width
                layout.series.append(Series(definition, key[1], target))
                layout.width += definition.columns
                if metric.type == "histogram":
                    n = len(metric.buckets) + 1
                    buckets.setdefault(n, []).append(list(range(target + 1, target + 1 + n)))
                elif gauge and merged.mode[:3] in modes:
                    modes[merged.mode[:3]].append(target)
            kind = _KINDS.get(merged.mode[:3], "add") if gauge else "add"
            if kind == "latest" and table.columns_of(metric) == metric.columns:  # no mode of ours
                kind = "add"
            # A histogram's first column is for raw samples, which a table has none of.
            skipped = metric.type == "histogram"
            pairs = [(series.column + i, target + i) for i in range(skipped, metric.columns)]
            moves.setdefault(kind, []).extend(pairs)
            if not gauge or merged.mode.endswith("+dead"):
                moves.setdefault(f"{kind} dead", []).extend(pairs)
        layout.tables.append(_Of(_moves(moves, ""), _moves(moves, " dead"), known))
    layout.averaged, layout.least, layout.most = (np.array(modes[mode], np.intp) for mode in ("avg", "min", "max"))
    layout.buckets = [np.array(some, np.intp) for some in buckets.values()]
    return layout


_KINDS: Final = {"min": "least", "max": "most", "lat": "latest"}


def _definitions(tables: Sequence[TableReader]) -> dict[str, tuple[MetricExtra, Metric]]:
    """Of each metric the definition of the process that began last."""
    found: dict[str, tuple[MetricExtra, Metric]] = {}
    for table in tables:
        for metric in table.catalog.metrics:
            extra = table.catalog.extra.get(metric.name)
            if extra is None:
                extra = MetricExtra("sum", -1)
            if metric.name not in found or extra.since_ns > found[metric.name][0].since_ns:
                found[metric.name] = extra, metric
    return found


def _moves(moves: dict[str, list[tuple[int, int]]], ending: str) -> _Moves:
    made = {}
    for kind in _Moves._fields:
        pairs = moves.get(f"{kind}{ending}")
        if pairs:
            source, target = np.array(pairs, np.intp).T
            made[kind] = _Move(np.ascontiguousarray(source), np.ascontiguousarray(target))
    return _Moves(**made)
