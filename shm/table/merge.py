"""Merging: the tables of an application's processes → one set of series, as :mod:`shm.table.plan` says.

A scrape copies the tables and adds up arrays.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shm.catalog import Removed
from shm.errors import RingError, RingMissing
from shm.ring.layout import STALE_NAN_BITS
from shm.table.dead import since_removal
from shm.table.format import RETIRED, listed, table_path
from shm.table.plan import MergePlan, TablePlan, plan_of
from shm.table.reader import OpenTables, TableReader

log = logging.getLogger(__name__)

Values = NDArray[np.float64]

_TRIES: Final = 20  # folding takes a millisecond, and happens when a process begins or ends


class ApplicationReader:
    """The tables of one application. ``plan`` belongs to what :meth:`refresh` returned last.

    ``owners``: user ids whose tables are believed. ``errors``: why a table can't be read now, by identity.
    """

    def __init__(self, namespace: str, application: str, owners: Collection[int]) -> None:
        self.application = application
        self.plan = MergePlan()
        self.errors: dict[str, str] = {}
        self.processes = 0  # that live
        self._namespace = namespace
        self._tables = OpenTables(namespace, application, owners)
        self._made_from: tuple[tuple[int, int], ...] = ()
        self._replaced = False  # whether a table grew into another file while it was read
        self._whole: tuple[MergePlan, Values] | None = None  # what was read last without a fold meanwhile

    def refresh(self, identities: Sequence[str]) -> Values:
        """The merged values now: float64, shape (plan.width,), absent samples as STALE_NAN_BITS.

        ``identities``: those of the existing tables, RETIRED included. A damaged table is no exception but an error.
        """
        for _ in range(_TRIES):
            # The table of the dead is read in any case: since the names were listed, it may have been made, and the
            # tables that it has may be gone.
            before = self._retired()
            values = self._read({*identities, RETIRED} if before is not None else identities)
            if self._retired() == before and not self._replaced:
                self._whole = self.plan, values
                return values
            # Another process folded meanwhile: what a dead one had may be there twice, or not at all. Or a table grew,
            # and the smaller one was read, whose lock its process has freed.
            identities = listed(self._namespace).get(self.application, [])
        if self._whole is None:
            return values
        # Processes come and go faster than they can be read: return what was right a moment ago.
        self._made_from = ()
        self.plan, values = self._whole
        return values

    @property
    def tables(self) -> int:
        return len(self._tables)

    @property
    def bytes(self) -> int:
        """How much shared memory the tables take."""
        return sum(table.header.file_bytes for table in self._tables)

    def let_go(self) -> None:
        """Close the tables whose files have lost their names, so that their memory can be freed."""
        self._tables.let_go()

    def close(self) -> None:
        self._tables.close()

    # ---- tables ---------------------------------------------------------------------------------------------

    def _retired(self) -> tuple[int, int, int] | None:
        """An identification of the table of the dead as it is now; None where there is none."""
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
            self.plan, self._made_from = plan_of(tables), made_from
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
        merged = _Merged(self.plan)
        self.processes, self._replaced = 0, False
        for table, plan in zip(tables, self.plan.tables, strict=True):
            values = np.empty(table.catalog.columns)
            if len(values) and not table.read_into(values.view(np.uint8).data):
                self._note(table.who, f"{table.path} was cut short; its process goes on with another at its next start")
                continue
            for one in removed.get(table.who, ()):
                _subtract(values, plan.columns.get(one.key), one.values)
            alive = table.who != RETIRED and table.alive()
            self._replaced |= not alive and not table.in_place()
            self.processes += alive
            merged.add(values, plan, alive)
        return merged.values(self.plan)


class _Merged:
    """Values under way: ``count`` says how many tables have one for the column, ``when`` when the latest was set."""

    def __init__(self, plan: MergePlan) -> None:
        self._total, self._count, self._when = np.zeros(plan.width), np.zeros(plan.width), np.full(plan.width, -np.inf)
        self._total[plan.extremes["min"]], self._total[plan.extremes["max"]] = np.inf, -np.inf

    def add(self, values: Values, plan: TablePlan, alive: bool) -> None:
        """Merge one table's values."""
        total, picked = self._total, values[plan.source]
        present = picked.view(np.uint64) != STALE_NAN_BITS
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
    """Make of a series that another process removed what it has come to since."""
    if columns is not None:
        first, count, gauge = columns
        own = values[first : first + count]
        own[:] = np.frombuffer(since_removal(own.tobytes(), then, gauge=gauge))
