"""SharedCollector: the metrics of an application, from as many processes and threads as it has.

    from fogmetrics import SharedCollector

    collector = SharedCollector("web")
    collector.register_metric("web_requests", "counter", help="Requests served.", label_names=("path",))
    collector.register_metric("web_request_seconds", "histogram", help="Time to serve.", buckets=(0.1, 0.5, 1.0))

    collector.increment("web_requests", labels={"path": "/"})
    collector.record_metric("web_request_seconds", 0.042)

Each process has a table of its own in shared memory (:mod:`shm.table.format`). The exporter merges the tables of all of
them at each scrape; the source *applications* does so for their history. There is nothing to commit and nothing to call
when a process ends, and a fork has a table of its own.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import logging
import math
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

from fogmetrics.settings import ENV_GROUP, ENV_NAMESPACE
from shm.errors import MetricError
from shm.metric import NO_LABELS, Metric, MetricType, SeriesKey, number_of
from shm.table import dead, removal
from shm.table.cells import Cell, CounterCell, HistogramCell, SummaryCell
from shm.table.process import DEFAULT_MAX_SERIES, ProcessTable

log = logging.getLogger(__name__)

_tables: dict[tuple[str, str], ProcessTable] = {}
_guard = threading.Lock()


def table_of(
    application: str, namespace: str | None = None, group: str | None = None, max_series: int = DEFAULT_MAX_SERIES
) -> ProcessTable:
    """This process's table of the application, always the same. Raises ConfigurationError, NoSpace.

    ``namespace``, ``group``: else what $FOGMETRICS_NAMESPACE and $FOGMETRICS_GROUP say, as for the daemon.
    """
    namespace = namespace or os.environ.get(ENV_NAMESPACE) or "default"
    group = os.environ.get(ENV_GROUP, "") if group is None else group
    with _guard:
        table = _tables.get((namespace, application))
        if table is None:
            fold(namespace, application, group)  # first, to free the memory of the dead
            table = _tables[namespace, application] = ProcessTable(
                namespace, application, group=group, max_series=max_series
            )
            # Workers that are killed leave tables, and the workers that replace them are forks.
            table.on_birth = functools.partial(fold, table.namespace, application, group)
        return table


def fold(namespace: str, application: str, group: str) -> None:
    """Fold the tables of dead processes. Never raises; the log says what failed, and the next process tries again."""
    with _logged("dead processes of application %r not folded: %s", application):
        dead.fold(namespace, application, group)


@contextlib.contextmanager
def _logged(message: str, application: str) -> Iterator[None]:
    """Log what is raised, whatever is wrong in shared memory: the program goes on."""
    try:
        yield
    except Exception as error:  # noqa: BLE001
        log.warning(message, application, error, extra={"application": application, "error": str(error)})


class SharedCollector:
    """This process's part of the application ``name``. Any thread may use it. Raises ConfigurationError, NoSpace.

    A series for which there is no room, or that would be one more than ``max_series`` of this process, is not exported.
    The log says so, and the program goes on.
    """

    def __init__(
        self, name: str, *, namespace: str | None = None, group: str | None = None,
        max_series: int = DEFAULT_MAX_SERIES,
    ) -> None:  # fmt: skip
        self.name = name
        self._table = table_of(name, namespace, group, max_series)
        self._metrics: dict[str, tuple[Metric, str]] = {}

    def register_metric(
        self,
        name: str,
        type: MetricType,  # noqa: A002 - the field's word
        *,
        unit: str = "",
        help: str = "",  # noqa: A002 - the field's words
        label_names: Sequence[str] = (),
        buckets: Sequence[float] = (),
        across: str = "sum",
    ) -> Metric:
        """Declare a metric before its samples are recorded; the same one again is fine. Raises MetricError.

        ``across``: how the values that several processes have of a gauge become one: "sum", "avg", "min", "max",
        "latest" (set last), or "each", a series for every process, with its label pid.
        """
        metric = Metric(name, type, help, unit, tuple(label_names), tuple(float(bound) for bound in buckets))
        with self._table.lock:
            self._table.declare(metric, across)
        self._metrics[name] = metric, across
        return metric

    def record_metric(self, name: str, value: float, labels: Mapping[str, str] = NO_LABELS) -> None:
        """Set a gauge, or this process's total of a counter; observe a value of a histogram or summary.

        Raises MetricError for an unknown metric, labels that don't fit, or a value that is no number.
        """
        metric, _ = self._registered(name)
        number = number_of(metric, value)
        if number is None:
            raise MetricError(f"metric {name!r} got None; leave out a sample that is not known")
        cell = self.series(name, labels)
        if isinstance(cell, (HistogramCell, SummaryCell)):
            cell.observe(number)
        else:
            assert isinstance(cell, CounterCell)
            cell.set(number)

    def increment(self, name: str, amount: float = 1.0, labels: Mapping[str, str] = NO_LABELS) -> None:
        """Add to a counter, or to a gauge, where ``amount`` may be below 0. Raises MetricError."""
        metric, _ = self._registered(name)
        number = amount if type(amount) is float and 0.0 <= amount < math.inf else number_of(metric, amount)
        if number is None or metric.type in ("histogram", "summary"):
            raise MetricError(f"{metric.type} {name!r} can't be incremented by {amount!r}; record_metric observes")
        if not math.isfinite(number):
            raise MetricError(f"{metric.type} {name!r} can't be incremented by {amount!r}; it would stay that for good")
        cell = self.series(name, labels)
        assert isinstance(cell, CounterCell)
        cell.inc(number)

    def series(self, name: str, labels: Mapping[str, str] = NO_LABELS) -> Cell:
        """The series itself, for code that counts often: ``inc`` and ``set``, or ``observe``. Raises MetricError.

        A label value of another type is converted by str(). One that is too long, or not valid Unicode, may be what a
        client sent: its series is not exported, and the log says so. After ``remove``, ask for the series again.
        """
        metric, across = self._registered(name)
        names, table = metric.label_names, self._table
        try:
            values = tuple([labels[one] for one in names])
        except (KeyError, TypeError):
            values = ()
        if not len(values) == len(labels) == len(names):
            metric.label_values(labels)  # raises
        try:
            cell = table.cells.get((name, values))
        except TypeError:  # a value that is not hashable
            cell = None
        # If it exists, its labels have been checked; under this very definition, too.
        if cell is not None and table.metrics[name][0] is metric:
            return cell
        values = tuple(map(str, values))
        try:
            metric.check_values(values)
        except MetricError as error:
            cell = table.refused(metric.type, (name, values), metric.buckets, str(error))
        else:
            cell = table.cell(metric, values, across)
        table.report()
        return cell

    def remove(self, name: str, labels: Mapping[str, str] = NO_LABELS) -> None:
        """Remove a series from all processes; the next store in any of them makes it again. Raises MetricError."""
        metric, _ = self._registered(name)
        key = name, metric.label_values({label: str(value) for label, value in labels.items()})  # as series() does
        remove(self._table, key.__eq__)

    def clear(self, name: str) -> None:
        """Remove all series of the metric from all processes. Raises MetricError."""
        self._registered(name)
        remove(self._table, lambda key: key[0] == name)

    def _registered(self, name: str) -> tuple[Metric, str]:
        known = self._metrics.get(name)
        if known is None:
            raise MetricError(f"metric {name!r} is not registered; call register_metric first")
        return known


def remove(table: ProcessTable, chosen: Callable[[SeriesKey], bool]) -> None:
    """Remove the chosen series from all processes of the application. Never raises; the log says what failed."""
    table.remove(filter(chosen, list(table.cells)))
    remove_elsewhere(table, chosen)


def remove_elsewhere(table: ProcessTable, chosen: Callable[[SeriesKey], bool]) -> None:
    """The same for all processes but this one."""
    with _logged("series of application %r removed in this process alone: %s", table.application):
        removal.remove_elsewhere(table, chosen)


def _end() -> None:
    """At the end of a process: what it counted is folded now, not when the next one begins."""
    for (namespace, application), table in list(_tables.items()):
        with contextlib.suppress(Exception):
            table.close()
            fold(namespace, application, table.group)


atexit.register(_end)


def _forked() -> None:
    global _guard
    _guard = threading.Lock()


os.register_at_fork(after_in_child=_forked)
