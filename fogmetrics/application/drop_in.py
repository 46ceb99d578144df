"""Drop-in replacement for prometheus_client's multiprocess mode: stores values in shared memory.

    from fogmetrics import drop_in
    drop_in.install("web")

Call it first in each process of the application, or in gunicorn.conf.py. From then on prometheus_client stores its
values in this process's table of the application *web* (:mod:`fogmetrics.application.shared_collector`), through
``prometheus_client.values.ValueClass``. docs/applications.md lists what differs.
"""

from __future__ import annotations

import functools
import logging
import math
import re
import threading
import time
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from fogmetrics.application import drop_in_page
from fogmetrics.application.shared_collector import check_same, remove_elsewhere, table_of
from shm.errors import ConfigurationError, FogmetricsError
from shm.files import check_name
from shm.metric import MAX_HELP, Metric, MetricType, SeriesKey
from shm.safe_repr import said
from shm.table.cells import Cell, CounterCell, HistogramCell, LatestCell, SummaryCell
from shm.table.process import ProcessTable

# https://prometheus.github.io/client_python/multiprocess/
_MODES: Final = {
    "all": "each", "liveall": "each", "sum": "sum", "livesum": "sum", "min": "min+dead", "livemin": "min",
    "max": "max+dead", "livemax": "max", "mostrecent": "latest+dead", "livemostrecent": "latest",
}  # fmt: skip

_BEYOND_CLASSIC: Final = re.compile(r"\A[0-9]|[^a-zA-Z0-9_:]")

log = logging.getLogger(__name__)

_ENDINGS: Final = {"counter": "_total", "info": "_info"}  # that their series' names have in addition

_installed: DropIn | None = None


def install(
    application: str, *, namespace: str | None = None, group: str | None = None, max_series: int | None = None,
    registries: Iterable[Any] = (),
) -> None:  # fmt: skip
    """Store the metrics of this process and its forks in tables of ``application``. A repeated call does nothing.

    ``namespace``, ``group`` and ``max_series`` are as for SharedCollector.

    Existing metrics move with their values if they are in prometheus_client's REGISTRY or one of ``registries``.
    If the table can't be created, as when shared memory is full, this is logged, and prometheus_client works as without
    the drop-in. Raises ConfigurationError for a name that no application can have, a second application or other
    settings in one process, and without prometheus_client.
    """
    global _installed
    if _installed is not None:
        if _installed.table.application != application:
            raise ConfigurationError(
                f"the metrics of this process already belong to the application {_installed.table.application!r}, so "
                f"install({application!r}) can't take them; call install once"
            )
        check_same(_installed.table, namespace=namespace, group=group, max_series=max_series)
        return
    try:
        import prometheus_client
    except ImportError:
        raise ConfigurationError("prometheus_client is not installed here: pip install prometheus-client") from None
    check_name("the name of an application", application)
    try:
        table = table_of(application, namespace, group, max_series)
    except Exception as error:  # noqa: BLE001 - whatever fails there, the application must start
        log.warning(
            "the metrics of application %r are not exported by fogmetrics, and prometheus_client keeps them by itself: "
            "%s; restart the application when this is corrected", application, said(error),
        )  # fmt: skip
        return
    check_same(table, namespace=namespace, group=group, max_series=max_series)
    _installed = DropIn(table)
    _installed.replace_storage()
    drop_in_page.install(_installed.table)
    for registry in {prometheus_client.REGISTRY, *registries}:
        _installed.move_metrics(registry)


class Value:
    """A value of prometheus_client, stored in one column of a cell; it has the interface of its ValueClass."""

    __slots__ = ("get", "inc", "observe", "set")

    def __init__(self, cell: Cell | None = None, column: int = 0) -> None:
        if cell is not None:
            self.attach(cell, column)

    def attach(self, cell: Cell, column: int) -> None:
        """Store in that cell from now on. The value takes over its methods, which saves a call per store."""
        if isinstance(cell, CounterCell):
            self.inc, self.get, self.set = cell.inc, cell.get, cell.set
        else:
            self.inc, self.get = functools.partial(cell.add, column), functools.partial(cell.read, column)
        if isinstance(cell, (SummaryCell, HistogramCell)):
            self.observe = cell.observe

    def set_exemplar(self, exemplar: object) -> None:
        """Exemplars are not stored."""

    def get_exemplar(self) -> None:
        return None


class DropIn:
    """Patches prometheus_client to store its values in ``table``."""

    def __init__(self, table: ProcessTable) -> None:
        self.table = table
        # Unfinished histograms, by thread, name and labels: the bounds of the buckets arrive one by one.
        self._histograms: dict[tuple[int, str, tuple[str, ...]], list[tuple[float, Value]]] = {}
        self._originals: dict[str, str] = {}  # by name in the table

    def replace_storage(self) -> None:
        from prometheus_client import metrics, values

        values.ValueClass = self.value
        # A signal handler or destructor may call labels() while its thread is in labels().
        metrics.Lock = threading.RLock  # type: ignore[attr-defined, assignment]
        base = metrics.MetricWrapperBase
        base.labels = self._labels(base.labels)  # type: ignore[method-assign]
        # With PROMETHEUS_MULTIPROC_DIR the removing methods warn that they do nothing, which is not true any more.
        metrics.warnings = types.SimpleNamespace(warn=lambda *_: None)  # type: ignore[attr-defined, assignment]
        for name in ("remove", "remove_by_labels", "clear"):
            if hasattr(base, name):
                setattr(base, name, self._removing(getattr(base, name)))
        metrics.Summary.observe = metrics.Histogram.observe = _observe  # type: ignore[method-assign, assignment]
        metrics.Gauge.set_function = self._set_function(metrics.Gauge.set_function)  # type: ignore[method-assign]
        metrics.Info.info = self._info(metrics.Info.info)  # type: ignore[method-assign]
        # The initial state of a process is older than any state that was set.
        metrics.Enum.__init__ = self._enum(metrics.Enum.__init__, lambda: 0.0)  # type: ignore[method-assign]
        metrics.Enum.state = self._enum(metrics.Enum.state, time.time)  # type: ignore[method-assign]

    # ---- values ---------------------------------------------------------------------------------------------

    def value(
        self, typ: str, metric_name: str, name: str, labelnames: Iterable[str], labelvalues: Iterable[str],
        help_text: str, multiprocess_mode: str = "all", **_: object,
    ) -> Value:  # fmt: skip
        """Replacement of prometheus_client.values.ValueClass."""
        labels = dict(zip(labelnames, labelvalues, strict=True))
        if typ == "gauge":
            return Value(self._cell("gauge", name, help_text, labels, mode=_MODES[multiprocess_mode], first=0.0))
        if typ == "histogram":
            return self._histogram_value(metric_name, help_text, labels)
        if typ == "summary":
            return Value(self._cell("summary", metric_name, help_text, labels), int(name.endswith("_sum")))
        return Value(self._cell("counter", name, help_text, labels))

    def _histogram_value(self, name: str, help_text: str, labels: dict[str, str]) -> Value:
        """A value of a histogram. prometheus_client makes that of the sum first, then one per bucket, +Inf last."""
        value, le = Value(), labels.pop("le", "")
        bound = float(le or "nan")
        key = threading.get_ident(), name, tuple(labels.values())
        if not le:
            self._histograms[key] = []
        values = self._histograms[key]
        values.append((bound, value))
        if bound == math.inf:
            del self._histograms[key]
            cell = self._cell("histogram", name, help_text, labels, [bound for bound, _ in values[1:-1]])
            for column, (_, one) in enumerate(values):
                one.attach(cell, column or cell.columns - 1)
        return value

    def _cell(
        self, kind: MetricType, name: str, help_text: str, labels: Mapping[str, str], buckets: Iterable[float] = (),
        *, mode: str = "sum", first: float | None = None,
    ) -> Cell:  # fmt: skip
        """The cell of a series. If the table refuses the series, log it and return a cell that nobody reads."""
        written, name, bounds = name, _escaped(name), tuple(buckets)
        if (other := self._originals.setdefault(name, written)) != written:
            reason = f"its name {written!r} with underscores is that of {other!r}; rename one"
            return self.table.refused(kind, (name, tuple(labels.values())), bounds, reason)
        try:
            names = tuple(_escaped(label).replace(":", "_") for label in labels)
            metric = Metric(name, kind, str(help_text)[:MAX_HELP] or name, "", names, bounds)
            known, _ = self.table.metrics.get(name, (metric, mode))
            if known.shape == metric.shape:  # of another registry, whose help may differ
                metric = known
            return self.table.cell(metric, tuple(labels.values()), mode, first)
        except (FogmetricsError, UnicodeError) as error:
            return self.table.refused(kind, (name, tuple(labels.values())), bounds, str(error))

    # ---- methods of metrics ---------------------------------------------------------------------------------

    def _labels(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """``labels`` under the table's lock, so that no fork begins in the middle of it. An existing child is found
        without locks if its labels are given as strings."""

        @functools.wraps(original)
        def labels(one: Any, *values: Any, **named: Any) -> Any:
            strings = not named and {*map(type, values)} == {str}
            child = vars(one).get("_metrics", {}).get(values) if strings else None
            if child is None:
                with self.table.lock:
                    child = original(one, *values, **named)
                self.table.report()
            return child

        return labels

    def _removing(self, original: Callable[..., None]) -> Callable[..., None]:
        """``remove``, ``remove_by_labels`` and ``clear``, extended to the series of all processes."""
        by_labels = original.__name__ == "remove_by_labels"

        @functools.wraps(original)
        def removing(one: Any, *arguments: Any, **named: Any) -> None:
            with self.table.lock:  # so that no child is added meanwhile
                original(one, *arguments, **named)
                names = one._labelnames
                labels = dict(zip(names, arguments, strict=False))  # all of them for remove, none for clear
                if by_labels:
                    labels = arguments[0] if arguments else named["labels"]
                if not names or (by_labels and not labels):
                    return
                wanted = {names.index(name): str(value) for name, value in labels.items()}
                written = f"{one._name}{_ENDINGS.get(one._type, '')}"
                series = _escaped(written)
                if self._originals.get(series, written) != written:  # the series are another metric's
                    return

                def chosen(key: SeriesKey) -> bool:
                    return key[0] == series and all(key[1][at] == value for at, value in wanted.items())

                self.table.remove(filter(chosen, list(self.table.cells)))
            remove_elsewhere(self.table, chosen)

        return removing

    def _set_function(self, original: Callable[..., None]) -> Callable[..., None]:
        """``Gauge.set_function``, which also removes the gauge from this process's table: no other process can call the
        function, and the value 0 that the gauge has from its creation would be wrong."""

        @functools.wraps(original)
        def set_function(one: Any, f: Callable[[], float]) -> None:
            original(one, f)
            key = _escaped(one._name), tuple(one._labelvalues)
            self.table.remove([key])
            self.table.refused("gauge", key, (), "only its own process can call its function; use set() instead")
            self.table.report()

        return set_function

    def _info(self, original: Callable[..., None]) -> Callable[..., None]:
        """``Info.info``, stored as a gauge of 1 with the information as labels."""

        @functools.wraps(original)
        def info(one: Any, val: dict[str, str]) -> None:
            original(one, val)
            labels = dict(zip(one._labelnames, one._labelvalues, strict=True)) | {k: str(v) for k, v in val.items()}
            cell = self._cell("gauge", f"{one._name}_info", one._documentation, labels, mode="max", first=1.0)
            before, one._fogmetrics = getattr(one, "_fogmetrics", cell), cell
            if before is not cell:  # only in this process: others may still have the old one
                self.table.remove([before.key])
            self.table.report()

        return info

    def _enum(self, original: Callable[..., None], clock: Callable[[], float]) -> Callable[..., None]:
        """``Enum.__init__`` and ``Enum.state``, stored as a gauge of 0 or 1 per state. The state set last is shown."""

        @functools.wraps(original)
        def method(one: Any, *arguments: Any, **named: Any) -> None:
            original(one, *arguments, **named)
            if not one._labelnames or one._labelvalues:
                self._set_state(one, clock())

        return method

    def _set_state(self, one: Any, timestamp: float) -> None:
        labels = dict(zip(one._labelnames, one._labelvalues, strict=True))
        for number, state in enumerate(one._states):
            cell = self._cell("gauge", one._name, one._documentation, labels | {one._name: state}, mode="latest+dead")
            assert isinstance(cell, LatestCell)
            if timestamp or len(cell.words):  # a new child is made under locks, where logging is not allowed
                cell.set(float(number == one._value), timestamp)

    # ---- existing metrics -----------------------------------------------------------------------------------

    def move_metrics(self, registry: Any) -> None:
        """Store the values of the registry's metrics in the table from now on."""
        from prometheus_client.metrics import Enum, Info, MetricWrapperBase

        for collector in list(registry._collector_to_names):
            if not isinstance(collector, MetricWrapperBase):
                continue
            collector._lock = threading.RLock()  # type: ignore[assignment]  # as of metrics made from now on
            for one in list(collector._metrics.values()) if collector._labelnames else [collector]:
                if isinstance(one, Info):
                    if one._value:
                        one.info(one._value)
                elif isinstance(one, Enum):
                    self._set_state(one, time.time() if one._value else 0.0)
                elif "_child_samples" not in vars(one):  # else set_function() was called
                    _move(one)


def _move(one: Any) -> None:
    """Recreate the values of a counter, gauge, summary or histogram in the table, and add the old numbers."""
    names = [name for name in ("_value", "_count", "_sum", "_buckets") if hasattr(one, name)]
    before = [[value.get() for value in _listed(getattr(one, name))] for name in names]
    one._metric_init()
    for name, numbers in zip(names, before, strict=True):
        for value, number in zip(_listed(getattr(one, name)), numbers, strict=True):
            if number:
                value.inc(number)


def _escaped(name: str) -> str:
    """The name with underscores for what is beyond the classic character set, as prometheus_client's pages have it."""
    return _BEYOND_CLASSIC.sub("_", name)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _observe(one: Any, amount: float, exemplar: dict[str, str] | None = None) -> None:
    """Replacement of Summary.observe and Histogram.observe: one store for all columns, none for NaN."""
    one._raise_if_not_observable()
    one._sum.observe(amount)
