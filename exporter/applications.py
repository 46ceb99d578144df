"""Applications: the series of programs that keep tables, merged at every scrape; beside the rings, and shown like them.

A table says nothing of when it changed, so each is copied at each scrape: two calls and a few microseconds for a
process of a thousand series.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from exporter.rings import HISTORY_SOURCE, Ring
from shm.metric import Series
from shm.ring.discovery import Listing
from shm.ring.frame import all_absent
from shm.table.format import listed
from shm.table.merge import ApplicationReader

log = logging.getLogger(__name__)


class Shown(Protocol):
    """What /metrics shows: a ring, an application, or the exporter itself.

    ``latest``: float64, shape (width,) once something was read; ``series`` says whose value each column is.
    """

    @property
    def source(self) -> str: ...
    @property
    def series(self) -> Sequence[Series]: ...
    @property
    def latest(self) -> NDArray[np.float64]: ...
    @property
    def width(self) -> int: ...


def shown_series(ring: Shown) -> Sequence[Series]:
    """What /metrics has of it: of the ring of the applications' history the daemon's own alone, theirs are live."""
    if isinstance(ring, Ring) and ring.source == HISTORY_SOURCE:
        return [series for series in ring.series if series.metric.own]
    return ring.series


class Application:
    """One application as a page sees it: ``series`` and ``latest``, float64, shape (width,), belong together.

    ``errors``: how often a table, or a part of it, could not be read.
    """

    def __init__(self, reader: ApplicationReader) -> None:
        self.source = reader.application
        self.reader = reader
        self.series: list[Series] = []
        self.latest: NDArray[np.float64] = all_absent(0)
        self.errors = 0
        self.wrong: dict[str, str] = {}  # with a table now, by identity

    @property
    def width(self) -> int:
        return len(self.latest)


class ApplicationSet:
    """The applications of one namespace, sorted by name. ``owners``: user ids whose tables are believed.

    Not for two threads at once. ``generation`` changes whenever series came or went.
    """

    def __init__(self, namespace: str, owners: Collection[int]) -> None:
        self.applications: dict[str, Application] = {}
        self.generation = 0
        self._namespace = namespace
        self._owners = owners
        self._listing = Listing()
        self._names: list[str] = []
        self._listed: dict[str, list[str]] = {}

    def refresh(self) -> list[Application]:
        """Each with its samples of now. Never raises for what a table is like."""
        names = self._listing.names()
        if names is not self._names:
            self._names, self._listed = names, listed(self._namespace, names)
        for name in [name for name in self.applications if name not in self._listed]:
            self.applications.pop(name).reader.close()
            self.generation += 1
        for name, identities in self._listed.items():
            one = self.applications.get(name)
            if one is None:
                one = Application(ApplicationReader(self._namespace, name, self._owners))
                self.applications[name] = one
            try:
                self._read(one, identities)
            except Exception:  # a table's bytes are foreign input: nothing in them may cost the others
                log.exception("application can't be read", extra={"application": name})
                one.errors += 1
                one.series, one.latest = [], all_absent(0)
                self.generation += 1
        return [self.applications[name] for name in sorted(self.applications)]

    def _read(self, one: Application, identities: list[str]) -> None:
        one.latest = one.reader.refresh(identities)
        if one.reader.plan.series is not one.series:
            one.series = one.reader.plan.series
            self.generation += 1
        errors = one.reader.errors
        if errors != one.wrong:
            one.errors += sum(one.wrong.get(who) != error for who, error in errors.items())
            one.wrong = dict(errors)

    def errors(self) -> dict[str, str]:
        """What is wrong with tables now, as sentences by application."""
        return {name: "; ".join(one.wrong.values()) for name, one in self.applications.items() if one.wrong}

    def let_go(self) -> None:
        """Close the tables that are no more in place."""
        for one in self.applications.values():
            one.reader.let_go()

    def close(self) -> None:
        for one in self.applications.values():
            one.reader.close()
        self.applications.clear()
