"""SharedCollector: the metrics of an application, from as many processes and threads as it has.

    from fogmetrics import SharedCollector

    collector = SharedCollector("web")
    collector.register_metric("web_requests", "counter", help="Requests served.", label_names=("path",))
    collector.register_metric("web_request_seconds", "histogram", help="Time to serve.", buckets=(0.1, 0.5, 1.0))

    collector.increment("web_requests", labels={"path": "/"})
    collector.record_metric("web_request_seconds", 0.042)

Every process that says so has a table of its own in shared memory (:mod:`shm.table.format`); the exporter makes one set
of series of all of them at each scrape, and so does the source *applications*, for their history. Nothing has to be
committed, nobody has to be told of a process's end, and what a fork has is its own.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import logging
import math
import os
import threading
from collections.abc import Collection, Mapping, Sequence

from fogmetrics.settings import ENV_GROUP, ENV_NAMESPACE
from shm.errors import MetricError
from shm.metric import NO_LABELS, Metric, MetricType, SeriesKey, number_of
from shm.table import dead
from shm.table.cells import CounterPlace, HistogramPlace, Place, SummaryPlace
from shm.table.process import DEFAULT_MAX_SERIES, LiveTable

log = logging.getLogger(__name__)

_tables: dict[tuple[str, str], LiveTable] = {}
_guard = threading.Lock()


def table_of(
    application: str, namespace: str | None = None, group: str | None = None, max_series: int = DEFAULT_MAX_SERIES
) -> LiveTable:
    """This process's table of the application, one for all who ask. Raises ConfigurationError, NoSpace.

    ``namespace``, ``group``: else what $FOGMETRICS_NAMESPACE and $FOGMETRICS_GROUP say, as for the daemon.
    """
    namespace = namespace or os.environ.get(ENV_NAMESPACE) or "default"
    group = os.environ.get(ENV_GROUP, "") if group is None else group
    with _guard:
        table = _tables.get((namespace, application))
        if table is None:
            fold(namespace, application, group)  # first, so that what the dead had is room for the living
            table = _tables[namespace, application] = LiveTable(
                namespace, application, group=group, max_series=max_series
            )
            # Workers that are killed leave tables, and those that take their place are forks.
            table.on_birth = functools.partial(fold, table.namespace, application, group)
        return table


def fold(namespace: str, application: str, group: str) -> None:
    """Fold the tables of dead processes. Never raises: what fails is said in the log, and somebody else will."""
    try:
        dead.fold(namespace, application, group)
    except Exception as error:  # noqa: BLE001 - whatever lies in shared memory, the program goes on
        log.warning(
            "dead processes of application %r not folded: %s", application, error,
            extra={"application": application, "error": str(error)},
        )  # fmt: skip


class SharedCollector:
    """This process's part of the application ``name``. Any thread may use it. Raises ConfigurationError, NoSpace.

    Where there is no room for a series, or it would be one more than ``max_series`` of this process, it is not
    exported, and the log says so; the program goes on.
    """

    def __init__(
        self, name: str, *, namespace: str | None = None, group: str | None = None,
        max_series: int = DEFAULT_MAX_SERIES,
    ) -> None:  # fmt: skip
        self.name = name
        self._table = table_of(name, namespace, group, max_series)
        self._peers = dead.Peers(self._table.namespace, name)
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
        place = self.series(name, labels)
        if isinstance(place, (HistogramPlace, SummaryPlace)):
            place.observe(number)
        else:
            assert isinstance(place, CounterPlace)
            place.set(number)

    def increment(self, name: str, amount: float = 1.0, labels: Mapping[str, str] = NO_LABELS) -> None:
        """Add to a counter, or to a gauge, where ``amount`` may be below 0. Raises MetricError."""
        metric, _ = self._registered(name)
        number = amount if type(amount) is float and 0.0 <= amount < math.inf else number_of(metric, amount)
        if number is None or metric.type in ("histogram", "summary"):
            raise MetricError(f"{metric.type} {name!r} can't be incremented by {amount!r}; record_metric observes")
        if not math.isfinite(number):
            raise MetricError(f"{metric.type} {name!r} can't be incremented by {amount!r}; it would stay that for good")
        place = self.series(name, labels)
        assert isinstance(place, CounterPlace)
        place.inc(number)

    def series(self, name: str, labels: Mapping[str, str] = NO_LABELS) -> Place:
        """The series itself, for code that counts often: ``inc`` and ``set``, or ``observe``. Raises MetricError.

        A label's value that is no text is one by str(); one that is too long, or no Unicode, costs the series, and is
        said in the log: it may be what a client sent. After ``remove`` it is to be asked for again.
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
            place = table.places.get((name, values))
        except TypeError:  # a value that is no text, and no key
            place = None
        # There already, so its labels have been checked, and under this very definition.
        if place is not None and table.metrics[name][0] is metric:
            return place
        values = tuple(map(str, values))
        try:
            metric.check_values(values)
        except MetricError as error:
            place = table.nowhere(metric.type, (name, values), metric.buckets, str(error))
            table.afterwards()
            return place
        return table.place(metric, values, across)

    def remove(self, name: str, labels: Mapping[str, str] = NO_LABELS) -> None:
        """Remove a series, in all processes; it is there again when one counts or sets it. Raises MetricError."""
        metric, _ = self._registered(name)
        values = metric.label_values({label: str(value) for label, value in labels.items()})  # as series() has them
        remove(self._table, [(name, values)], self._peers)

    def clear(self, name: str) -> None:
        """Remove all series of the metric, in all processes. Raises MetricError."""
        self._registered(name)
        remove(self._table, [key for key in list(self._table.places) if key[0] == name], self._peers, (name,))

    def _registered(self, name: str) -> tuple[Metric, str]:
        known = self._metrics.get(name)
        if known is None:
            raise MetricError(f"metric {name!r} is not registered; call register_metric first")
        return known


def remove(
    table: LiveTable, keys: Sequence[SeriesKey], peers: dead.Peers, metrics: Collection[str] = ()
) -> None:  # fmt: skip
    """Remove series, and all of ``metrics``, from the whole application. Never raises: the log says what failed."""
    table.remove(keys)
    remove_elsewhere(table, keys, peers, metrics)


def remove_elsewhere(
    table: LiveTable, keys: Sequence[SeriesKey], peers: dead.Peers, metrics: Collection[str] = ()
) -> None:  # fmt: skip
    """The same, for who has removed them from this process already."""
    try:
        dead.remove(table.namespace, table.application, table.group, table.who, keys, peers, metrics)
    except Exception as error:  # noqa: BLE001 - the same
        log.warning(
            "series of application %r removed in this process alone: %s", table.application, error,
            extra={"application": table.application, "error": str(error)},
        )  # fmt: skip


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
