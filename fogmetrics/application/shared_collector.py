"""SharedCollector: metrics of an application with any number of processes and threads.

    from fogmetrics import SharedCollector

    collector = SharedCollector("web")
    collector.register_metric("web_requests", "counter", help="Requests served.", label_names=("path",))
    collector.register_metric("web_request_seconds", "histogram", help="Time to serve.", buckets=(0.1, 0.5, 1.0))

    collector.increment("web_requests", labels={"path": "/"})
    collector.record_metric("web_request_seconds", 0.042)

Each process has its own table in shared memory (:mod:`shm.table.format`), a fork too. The exporter merges the tables of
all processes at each scrape; the source *applications* does so to keep a history. There is nothing to commit, and
nothing to call when a process ends.
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
from shm.errors import ConfigurationError, MetricError, NoSpace
from shm.metric import NO_LABELS, Metric, MetricType, SeriesKey, number_of
from shm.safe_repr import said
from shm.table import dead, removal
from shm.table.cells import Cell, CounterCell, HistogramCell, SummaryCell
from shm.table.process import DEFAULT_MAX_SERIES, ProcessTable

log = logging.getLogger(__name__)

_tables: dict[tuple[str, str], ProcessTable] = {}
_guard = threading.Lock()


def table_of(
    application: str, namespace: str | None = None, group: str | None = None, max_series: int | None = None
) -> ProcessTable:
    """This process's table of the application, the same at each call. Raises ConfigurationError, NoSpace, OSError.

    ``namespace`` and ``group`` default to $FOGMETRICS_NAMESPACE and $FOGMETRICS_GROUP, as for the daemon, and
    ``max_series`` to 10,000. A later call may give others, see :func:`check_same`.
    """
    if max_series is not None and (type(max_series) is not int or max_series < 1):
        raise ConfigurationError(
            f"the application {application!r} has the max_series {max_series!r}; give a whole number from 1"
        )
    namespace = namespace or os.environ.get(ENV_NAMESPACE) or "default"
    with _guard:
        table = _tables.get((namespace, application))
        if table is None:
            group = os.environ.get(ENV_GROUP, "") if group is None else group
            fold(namespace, application, group)  # first, to free the memory of dead processes
            table = _tables[namespace, application] = ProcessTable(
                namespace, application, group=group, max_series=max_series or DEFAULT_MAX_SERIES
            )
            # Killed workers leave tables, and their replacements are forks.
            table.on_birth = functools.partial(fold, table.namespace, application, group)
        return table


def check_same(table: ProcessTable, **settings: object) -> None:
    """Raises ConfigurationError if the table has another value of a setting that is not None."""
    for name, wanted in settings.items():
        there = getattr(table, name)
        if wanted is not None and wanted != there:
            raise ConfigurationError(
                f"the application {table.application!r} has {name} {there!r} in this process, since its first "
                f"collector, so it can't have {wanted!r} as well; give all of its collectors the same {name}, or only "
                "the first one"
            )


def fold(namespace: str, application: str, group: str) -> None:
    """Fold the tables of dead processes. Never raises: a failure is logged, and the next process tries again."""
    with _logged("dead processes of application %r not folded: %s", application):
        dead.fold(namespace, application, group)


@contextlib.contextmanager
def _logged(message: str, application: str) -> Iterator[None]:
    """Log any exception instead of raising it, so that a fault in shared memory does not end the program."""
    try:
        yield
    except Exception as error:  # noqa: BLE001
        log.warning(message, application, error, extra={"application": application, "error": str(error)})


class SharedCollector:
    """This process's part of the application ``name``. Any thread may use it. Raises ConfigurationError.

    A series for which there is no room, or that would be one more than ``max_series`` of this process (10,000), is not
    exported; without shared memory none is. The log says so, and the program goes on. Several collectors of one name
    share their table; a ``group`` or ``max_series`` that differs from the first one's is a ConfigurationError.
    """

    def __init__(
        self, name: str, *, namespace: str | None = None, group: str | None = None,
        max_series: int | None = None,
    ) -> None:  # fmt: skip
        self.name = name
        try:
            self._table = table_of(name, namespace, group, max_series)
        except (NoSpace, OSError) as error:
            log.warning("the metrics of application %r are not exported by this process: %s", name, said(error))
            self._table = ProcessTable(
                namespace or "default", name, max_series=max_series or DEFAULT_MAX_SERIES, private=True
            )
        else:
            check_same(self._table, group=group, max_series=max_series)
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
        """Declare a metric before its samples are recorded; repeating it is allowed. Raises MetricError.

        ``across``: how to combine the values of a gauge from several processes: "sum", "avg", "min", "max", "latest"
        (set last), or "each", a series per process with the label pid.
        """
        metric = Metric(name, type, help, unit, tuple(label_names), tuple(float(bound) for bound in buckets))
        with self._table.lock:
            self._table.declare(metric, across)
        self._metrics[name] = metric, across
        return metric

    def record_metric(self, name: str, value: float, labels: Mapping[str, str] = NO_LABELS) -> None:
        """Set a gauge, or this process's total of a counter; observe a value of a histogram or summary.

        Raises MetricError for an unknown metric, labels that don't match, or a value that is not a number.
        """
        metric, _ = self._registered(name)
        number = number_of(metric, value)
        if number is None:
            raise MetricError(f"metric {name!r} got None; don't record an unknown value")
        cell = self.series(name, labels)
        if isinstance(cell, (HistogramCell, SummaryCell)):
            cell.observe(number)
        else:
            assert isinstance(cell, CounterCell)
            cell.set(number)

    def increment(self, name: str, amount: float = 1.0, labels: Mapping[str, str] = NO_LABELS) -> None:
        """Add ``amount`` to a counter, or to a gauge, for which it may be negative. Raises MetricError."""
        metric, _ = self._registered(name)
        number = amount if type(amount) is float and 0.0 <= amount < math.inf else number_of(metric, amount)
        if number is None or metric.type in ("histogram", "summary"):
            raise MetricError(f"{metric.type} {name!r} can't be incremented by {amount!r}; call record_metric instead")
        if not math.isfinite(number):
            raise MetricError(f"{metric.type} {name!r} can't be incremented by {amount!r}; give a finite number")
        cell = self.series(name, labels)
        assert isinstance(cell, CounterCell)
        cell.inc(number)

    def series(self, name: str, labels: Mapping[str, str] = NO_LABELS) -> Cell:
        """The series itself, for code that counts often: ``inc`` and ``set``, or ``observe``. Raises MetricError.

        Label values are converted by str(). If a value is too long, or not valid Unicode, as a client may send, its
        series is not exported, and that is logged. After ``remove``, call this again.
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
        # An existing cell of this definition needs no checks.
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
        """Remove a series from all processes; the next store in any process creates it again. Raises MetricError."""
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
    """Remove the chosen series from all processes of the application. Never raises; failures are logged."""
    table.remove(filter(chosen, list(table.cells)))
    remove_elsewhere(table, chosen)


def remove_elsewhere(table: ProcessTable, chosen: Callable[[SeriesKey], bool]) -> None:
    """The same for all processes except this one."""
    with _logged("series of application %r removed only in this process: %s", table.application):
        removal.remove_elsewhere(table, chosen)


def _end() -> None:
    """At exit: fold this process's table now instead of when the next process starts."""
    for (namespace, application), table in list(_tables.items()):
        with contextlib.suppress(Exception):
            table.close()
            fold(namespace, application, table.group)


atexit.register(_end)


def _forked() -> None:
    global _guard
    _guard = threading.Lock()


os.register_at_fork(after_in_child=_forked)
