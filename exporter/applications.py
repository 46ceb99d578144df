"""Merge the tables of application processes into series at every scrape, for pages that show them like rings.

A table does not record when it changed, so every scrape copies all tables: two calls and a few microseconds for a
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
from shm.ring.discovery import TrustedFiles
from shm.ring.frame import all_absent
from shm.table.format import TABLE, listed
from shm.table.merge import ApplicationReader

log = logging.getLogger(__name__)


class Shown(Protocol):
    """Anything that /metrics shows: a ring, an application, or the exporter itself.

    ``latest``: float64, shape (width,) after the first read; each of ``series`` names its column.
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
    """The series that /metrics shows: all, or only the daemon's own of the ring with the applications' history.

    The applications' series themselves are read live.
    """
    if isinstance(ring, Ring) and ring.source == HISTORY_SOURCE:
        return [series for series in ring.series if series.metric.own]
    return ring.series


class Application:
    """One application's series and their values: ``latest`` is float64, shape (width,), indexed by series column.

    ``errors``: how often a table, or a part of it, could not be read.
    """

    def __init__(self, reader: ApplicationReader) -> None:
        self.source = reader.application
        self.reader = reader
        self.series: list[Series] = []
        self.latest: NDArray[np.float64] = all_absent(0)
        self.errors = 0
        self.wrong: dict[str, str] = {}  # present errors, by table identity

    @property
    def width(self) -> int:
        return len(self.latest)


class ApplicationSet:
    """The applications of one namespace, sorted by name. ``owners``: user ids whose tables are trusted.

    ``label``: see ApplicationReader. Not thread-safe. ``generation`` changes whenever series are added or removed.
    """

    def __init__(self, namespace: str, owners: Collection[int], label: str = "") -> None:
        self.applications: dict[str, Application] = {}
        self.generation = 0
        self._namespace = namespace
        self._owners = owners
        self._label = label
        self.files = TrustedFiles(namespace, TABLE, owners)
        self._names: list[str] = []
        self._listed: dict[str, list[str]] = {}

    def refresh(self) -> list[Application]:
        """All applications, each with its current samples. A bad table never raises; see errors()."""
        names = self.files.names()
        if names is not self._names:
            self._names, self._listed = names, listed(self._namespace, names)
        for name in [name for name in self.applications if name not in self._listed]:
            self.applications.pop(name).reader.close()
            self.generation += 1
        for name, identities in self._listed.items():
            one = self.applications.get(name)
            if one is None:
                one = Application(ApplicationReader(self._namespace, name, self._owners, self._label))
                self.applications[name] = one
            try:
                self._read(one, identities)
            except Exception:  # a table's bytes are untrusted input and must not affect other applications
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
            one.errors += sum(one.wrong.get(table) != error for table, error in errors.items())
            one.wrong = dict(errors)

    def errors(self) -> dict[str, str]:
        """The present errors of tables, as sentences by application."""
        return {name: "; ".join(one.wrong.values()) for name, one in self.applications.items() if one.wrong}

    def close_removed(self) -> None:
        """Close the tables whose files were removed."""
        for one in self.applications.values():
            one.reader.close_replaced()

    def close(self) -> None:
        for one in self.applications.values():
            one.reader.close()
        self.applications.clear()
        self.files.close()
