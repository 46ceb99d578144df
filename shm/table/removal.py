"""Removal of series from all processes of an application.

A process removes a series from its own table, and may not write into those of others. So it writes down in the table of
the dead what the series' columns are there at that moment (:attr:`shm.table.dead.DeadTable.removed`); readers show of
such a series what it has come to since, and nothing while it has not changed.
"""

from __future__ import annotations

import logging
from array import array
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Final

from shm.errors import RingCorrupt, RingError, RingMissing, WriterBusy
from shm.metric import SeriesKey, series_key
from shm.ring.layout import ABSENT
from shm.table.dead import DeadTable, fold_lock
from shm.table.format import RETIRED, listed
from shm.table.reader import OpenTables, TableReader

if TYPE_CHECKING:
    from shm.table.process import ProcessTable

log = logging.getLogger(__name__)

_LOCK_SECONDS: Final = 2.0  # for others that fold or remove just now


def remove_elsewhere(table: ProcessTable, chosen: Callable[[SeriesKey], bool]) -> None:
    """Remove the chosen series from all processes of the application but this one, whose table is ``table``.

    Raises NoSpace, or WriterBusy when others fold or remove for two seconds.
    """
    namespace, application, own = table.namespace, table.application, table.who
    with fold_lock(namespace, application, wait_seconds=_LOCK_SECONDS) as ours:
        if not ours:
            raise WriterBusy(application, 0)
        others = {who for who in listed(namespace).get(application, []) if who not in (RETIRED, own)}
        dead = DeadTable.read(namespace, application)
        series, removed = len(dead.series), dict(dead.removed)
        dead.series = {key: one for key, one in dead.series.items() if not chosen(key)}
        for key in [key for who, key in dead.removed if who == own and chosen(key)]:
            del dead.removed[own, key]
        for peer in _refreshed(table.peers, application, others):
            gone = [one for one in peer.catalog.series if chosen(series_key(one))]
            try:
                values = peer.values() if gone else array("d")
            except RingCorrupt as error:  # of that process nothing is shown
                log.warning("table left out", extra={"application": application, "error": str(error)})
                continue
            for one in gone:
                then = values[one.column : one.column + peer.columns_of(one.metric)].tobytes()
                dead.removed[peer.who, series_key(one)] = then
                if then[-8:] == ABSENT:  # its process removed it as well
                    del dead.removed[peer.who, series_key(one)]
        # Entries of tables that are gone go too. Those of the own table, which other processes wrote, stay.
        dead.folded = [who for who in dead.folded if who in others]
        dead.removed = {(who, key): then for (who, key), then in dead.removed.items() if who in {*others, own}}
        if len(dead.series) != series or dead.removed != removed:
            dead.write(namespace, application, table.group)


def _refreshed(peers: OpenTables, application: str, others: Collection[str]) -> Iterator[TableReader]:
    peers.keep(others)
    for who in others:
        try:
            yield peers.refreshed(who)
        except RingMissing:
            continue
        except (RingError, OSError) as error:
            log.warning("table left out", extra={"application": application, "error": str(error)})
