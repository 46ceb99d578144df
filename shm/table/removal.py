"""Remove series from all processes of an application.

A process can remove a series only from its own table. For the tables of other processes, it records the series' current
values in the table of the dead (:attr:`shm.table.dead.DeadTable.removed`). Readers then show only the change since
then, and nothing while the series has not changed.
"""

from __future__ import annotations

import logging
import os
from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from shm.errors import RingError, RingMissing, WriterBusy
from shm.metric import SeriesKey, series_key
from shm.ring.layout import ABSENT
from shm.table.dead import DeadTable, fold_lock
from shm.table.format import RETIRED, listed

if TYPE_CHECKING:
    from shm.table.process import ProcessTable

log = logging.getLogger(__name__)

_LOCK_SECONDS: Final = 2.0  # how long to wait for other processes that fold or remove


def remove_elsewhere(table: ProcessTable, chosen: Callable[[SeriesKey], bool]) -> None:
    """Remove the chosen series from all processes of the application except this one, whose table is ``table``.

    Raises NoSpace, or WriterBusy if other processes fold or remove for two seconds.
    """
    namespace, application, own = table.namespace, table.application, table.who
    with fold_lock(namespace, application, wait_seconds=_LOCK_SECONDS) as ours:
        if not ours:
            raise WriterBusy(application, 0)
        tables = listed(namespace, application=application, owners={os.geteuid()}).get(application, [])
        others = {who for who in tables if who not in (RETIRED, own)}
        dead = DeadTable.read(namespace, application)
        series, removed = len(dead.series), dict(dead.removed)
        dead.series = {key: one for key, one in dead.series.items() if not chosen(key)}
        for key in [key for who, key in dead.removed if who == own and chosen(key)]:
            del dead.removed[own, key]
        table.peers.keep(others)
        for who in others:
            try:
                peer = table.peers.refreshed(who)
                gone = [one for one in peer.catalog.series if chosen(series_key(one))]
                values = peer.values() if gone else array("d")
            except RingMissing:
                continue
            except (RingError, OSError) as error:  # readers show nothing of that table
                log.warning("table left out", extra={"application": application, "error": str(error)})
                continue
            for one in gone:
                then = values[one.column : one.column + peer.columns_of(one.metric)].tobytes()
                dead.removed[who, series_key(one)] = then
                if then[-8:] == ABSENT:  # its process removed it as well
                    del dead.removed[who, series_key(one)]
        # Drop the entries of tables that no longer exist. Those of this process's table, by other processes, are kept.
        dead.folded = [who for who in dead.folded if who in others]
        dead.removed = {(who, key): then for (who, key), then in dead.removed.items() if who in {*others, own}}
        if len(dead.series) != series or dead.removed != removed:
            dead.write(namespace, application, table.group)
