"""prometheus_client.multiprocess for the drop-in, for applications that serve their own page of metrics."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

from fogmetrics.application.shared_collector import fold
from shm.ring.layout import is_absent
from shm.table.format import listed
from shm.table.process import ProcessTable


def install(table: ProcessTable) -> None:
    """Patch MultiProcessCollector to read the application's tables, and mark_process_dead to fold those of the dead.

    Their argument ``path`` is ignored.
    """
    from prometheus_client import multiprocess

    def begin(self: Any, registry: Any, path: str | None = None) -> None:
        if registry:
            registry.register(self)

    def collect(self: Any) -> Iterable[Any]:
        return families(table.namespace, table.application)

    def mark_process_dead(pid: int, path: str | None = None) -> None:
        fold(table.namespace, table.application, table.group)

    multiprocess.MultiProcessCollector.__init__ = begin  # type: ignore[method-assign]
    multiprocess.MultiProcessCollector.collect = collect  # type: ignore[method-assign]
    multiprocess.mark_process_dead = mark_process_dead
    # For code that imported the original mark_process_dead by name before: without modes it looks for no files.
    multiprocess._LIVE_GAUGE_MULTIPROCESS_MODES = set()


def families(namespace: str, application: str) -> Iterator[Any]:
    """The application's metrics as prometheus_client's metric families."""
    from prometheus_client.metrics_core import Metric

    try:
        from shm.table.merge import ApplicationReader  # imports numpy, needed only for pages
    except ModuleNotFoundError as error:
        raise ImportError(
            f"an application's own page needs {error.name}, which this environment lacks; install it: "
            "pip install 'fogmetrics[page]'"
        ) from None

    reader = ApplicationReader(namespace, application, {os.geteuid()})
    try:
        tables = listed(namespace, application=application, owners={os.geteuid()})
        values = reader.refresh(tables.get(application, []))
        found: dict[str, Any] = {}
        for series in reader.plan.series:
            metric = series.metric
            family = found.get(metric.family)
            if family is None:
                family = found[metric.family] = Metric(metric.family, metric.help, metric.type, metric.unit)
            if not is_absent(values[series.end - 1]):
                for name, bound, column in series.samples():
                    labels = {**series.labels, "le": bound} if bound else series.labels
                    family.add_sample(name, labels, float(values[column]))
        yield from (family for family in found.values() if family.samples)
    finally:
        reader.close()
