"""Merge the tables of an application's processes into one set of series, by the plan of :mod:`shm.table.plan`.

A scrape copies the tables and adds up arrays.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shm.catalog import Catalog
from shm.errors import RingCorrupt, RingError, RingMissing
from shm.metric import SeriesKey
from shm.ring.frame import absent
from shm.ring.layout import STALE_NAN_BITS
from shm.table.dead import since_removal
from shm.table.format import RETIRED, listed, table_path
from shm.table.plan import MergePlan, TablePlan, plan_of, with_label
from shm.table.reader import OpenTables, TableReader

log = logging.getLogger(__name__)

Values = NDArray[np.float64]
Removed = dict[str, list[tuple[SeriesKey, bytes]]]  # by identity of the table: series, and their words at the removal

_TRIES: Final = 20  # folding takes a millisecond, and happens when a process begins or ends


class ApplicationReader:
    """Reads and merges the tables of one application. ``plan`` describes the values that :meth:`refresh` returned last.

    ``owners``: user ids whose tables are trusted. ``label``: a label of all series, which has the application's name;
    empty: none. ``errors``: the errors of unreadable tables, by identity.
    """

    def __init__(self, namespace: str, application: str, owners: Collection[int], label: str = "") -> None:
        self.application = application
        self.plan = MergePlan()
        self.errors: dict[str, str] = {}
        self.processes = 0  # alive at the last refresh
        self._namespace = namespace
        self._label = label
        self._owners = owners
        self._tables = OpenTables(namespace, application, owners)
        self._made_from: tuple[tuple[int, int], ...] = ()
        self._replaced = False  # whether a table moved to another file while it was read
        self._whole: tuple[MergePlan, Values] | None = None  # the last values read without a fold meanwhile

    def refresh(self, identities: Sequence[str]) -> Values:
        """The merged current values: float64, shape (plan.width,), absent samples as STALE_NAN_BITS.

        ``identities``: those of the existing tables, RETIRED included. A damaged table is left out, with its reason in
        ``errors``.
        """
        for _ in range(_TRIES):
            # The table of the dead is always read: it may have been created after the names were listed, and the
            # tables folded into it removed.
            before = self._retired()
            values = self._read({*identities, RETIRED} if before is not None else identities)
            if self._retired() == before and not self._replaced:
                self._whole = self.plan, values
                return values
            # Another process folded meanwhile: a dead process's values may be counted twice, or not at all. Or a table
            # grew, and its old file was read, which is no longer locked.
            found = listed(self._namespace, application=self.application, owners=self._owners)
            identities = found.get(self.application, [])
        if self._whole is None:
            return values
        # Processes start and end faster than their tables can be read: return the last consistent values.
        self._made_from = ()
        self.plan, values = self._whole
        return values

    @property
    def tables(self) -> int:
        return len(self._tables)

    @property
    def bytes(self) -> int:
        """How many bytes of shared memory the tables take."""
        return sum(table.header.file_bytes for table in self._tables)

    def close_replaced(self) -> None:
        """Close the tables whose files were removed or replaced, so that their memory is freed."""
        self._tables.close_replaced()

    def close(self) -> None:
        self._tables.close()

    # ---- tables ---------------------------------------------------------------------------------------------

    def _retired(self) -> tuple[int, int, int] | None:
        """(inode, change time, size) of the table of the dead, which a fold changes; None without a trusted one."""
        try:
            status = os.stat(table_path(self._namespace, self.application, RETIRED), follow_symlinks=False)
        except OSError:
            return None
        return (status.st_ino, status.st_ctime_ns, status.st_size) if status.st_uid in self._owners else None

    def _read(self, identities: Collection[str]) -> Values:
        tables = self._open(identities)
        dead = next((table.catalog for table in tables if table.who == RETIRED), Catalog())
        folded = frozenset(dead.folded)
        tables = [table for table in tables if table.who not in folded]
        made_from = tuple((table.serial, table.catalog.used) for table in tables)
        if made_from != self._made_from:
            self.plan, self._made_from = plan_of(tables), made_from
            if self._label:
                self.plan.series = with_label(self.plan.series, self._label, self.application)
        removed: Removed = {}
        for (who, key), then in dead.removed.items():
            removed.setdefault(who, []).append((key, then))
        return self._merged(tables, removed)

    def _open(self, identities: Collection[str]) -> list[TableReader]:
        """All readable tables, refreshed: the table of the dead first, then by identity."""
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
            except RingMissing:  # removed since it was listed
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

    def _merged(self, tables: list[TableReader], removed: Removed) -> Values:
        merged = _Merged(self.plan)
        self.processes, self._replaced = 0, False
        for table, plan in zip(tables, self.plan.tables, strict=True):
            try:
                values = np.asarray(table.values())
            except RingCorrupt as error:
                self._note(table.who, str(error))
                continue
            for key, then in removed.get(table.who, ()):
                _subtract(values, plan.columns.get(key), then)
            alive = table.who != RETIRED and table.alive()
            self._replaced |= not alive and not table.in_place()
            self.processes += alive
            merged.add(values, plan, alive)
        return merged.values(self.plan)


class _Merged:
    """A merge in progress. By column: the total, how many tables have a value, and when the latest value was set."""

    def __init__(self, plan: MergePlan) -> None:
        self._total, self._count, self._when = np.zeros(plan.width), np.zeros(plan.width), np.full(plan.width, -np.inf)
        self._total[plan.extremes["min"]], self._total[plan.extremes["max"]] = np.inf, -np.inf

    def add(self, values: Values, plan: TablePlan, alive: bool) -> None:
        total, picked = self._total, values[plan.source]
        present = ~absent(picked)
        if not alive:
            present &= plan.dead
        for way, part in plan.parts.items():
            target, own, there = plan.target[part], picked[part], present[part]
            if way == "add":
                total[target] += np.where(there, own, 0.0)
            elif way == "latest":
                set_at = values[plan.source[part] + 1]
                there = there & (set_at >= self._when[target])
                total[target[there]], self._when[target[there]] = own[there], set_at[there]
            else:
                choose = np.minimum if way == "min" else np.maximum
                total[target] = choose(total[target], np.where(there, own, total[target]))
            self._count[target] += there

    def values(self, plan: MergePlan) -> Values:
        total, there = self._total, self._count > 0
        averaged = [column for column in plan.averaged if there[column]]
        total[averaged] /= self._count[averaged]
        for columns in plan.buckets:
            total[columns] = np.cumsum(total[columns], axis=1)
        total.view(np.uint64)[~there] = STALE_NAN_BITS
        return total


def _subtract(values: Values, columns: tuple[int, int, bool] | None, then: bytes) -> None:
    """Reduce a series that another process removed to its change since then, in place."""
    if columns is not None:
        first, count, gauge = columns
        own = values[first : first + count]
        own[:] = np.frombuffer(since_removal(own.tobytes(), then, gauge=gauge))
