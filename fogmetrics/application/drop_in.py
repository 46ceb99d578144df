"""The drop-in for prometheus_client's multiprocess mode: one line, and no directory.

    from fogmetrics import drop_in
    drop_in.install("web")

in what each process of the application runs first, or in gunicorn.conf.py. From there on what the application keeps
with prometheus_client is in this process's table of the application *web*
(:mod:`fogmetrics.application.shared_collector`), and the exporter serves it: Counter, Gauge in all its modes, Summary,
Histogram, Info, Enum, ``remove()`` and ``clear()``. Metrics that are there already, in whatever registry, move with
their values. PROMETHEUS_MULTIPROC_DIR must not be set. What the
application has of ``prometheus_client.multiprocess`` goes on to work: a page of its own by MultiProcessCollector, and
``mark_process_dead``.

Different from the original, on purpose: a gauge of the modes ``all`` and ``sum`` shows no processes that are dead, as
``liveall`` and ``livesum`` do; ``min``, ``max`` and ``mostrecent`` go on to count them, as they are documented to. The
time when a series was created (``_created``), exemplars, and the callbacks of ``set_function`` stay in the process.
"""

from __future__ import annotations

import functools
import gc
import logging
import math
import os
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any, Final

from fogmetrics.application import drop_in_page
from fogmetrics.application.shared_collector import remove_elsewhere, table_of
from shm.errors import ConfigurationError, FogmetricsError
from shm.metric import MAX_HELP, Metric, MetricType
from shm.table.cells import ATOMIC, CounterPlace, GaugePlace, HistogramPlace, LatestPlace, Moving, Place, SummaryPlace
from shm.table.dead import Peers
from shm.table.process import LiveTable

log = logging.getLogger(__name__)

# https://prometheus.github.io/client_python/multiprocess/
_MODES: Final = {
    "all": "each", "liveall": "each", "sum": "sum", "livesum": "sum", "min": "min+dead", "livemin": "min",
    "max": "max+dead", "livemax": "max", "mostrecent": "latest+dead", "livemostrecent": "latest",
}  # fmt: skip

_ENDINGS: Final = {"counter": "_total", "info": "_info"}  # of the names of their series

_RLOCK: Final = type(threading.RLock())

_installed: _DropIn | None = None


def install(application: str, *, namespace: str | None = None, group: str | None = None) -> None:
    """Keep this process's metrics, and its forks', in tables of ``application``. The same again does nothing.

    Raises ConfigurationError where that can't be, NoSpace where there is no shared memory for the first table.
    """
    global _installed
    if _installed is not None:
        if _installed.table.application != application:
            raise ConfigurationError(
                f"the metrics of this process are those of the application {_installed.table.application!r} already, "
                f"and can't be those of {application!r}; install it once"
            )
        return
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ or "prometheus_multiproc_dir" in os.environ:
        raise ConfigurationError(
            "PROMETHEUS_MULTIPROC_DIR is set, and prometheus_client would keep its files too; unset it: the drop-in "
            "takes its place"
        )
    try:
        from prometheus_client import metrics
    except ImportError:
        raise ConfigurationError("prometheus_client is not installed here: pip install prometheus-client") from None
    _installed = _DropIn(metrics, table_of(application, namespace, group))
    drop_in_page.install(_installed.table)


class _Kept:
    """What a metric of prometheus_client keeps its value in: the interface of its ValueClass."""

    __slots__ = ("_place", "get", "inc", "set_value")

    def __init__(self, place: CounterPlace) -> None:
        self._place = place
        self.inc, self.get, self.set_value = place.inc, place.get, place.set

    def set(self, value: float, timestamp: float | None = None) -> None:
        self.set_value(value)

    def set_exemplar(self, exemplar: object) -> None:
        """Exemplars have no place in a table."""

    def get_exemplar(self) -> None:
        return None


class _Part:
    """The same of one number of a summary or histogram: column ``at`` of its place.

    ``inc`` is for who calls the library's own ``observe``: one that kept the method from before the exchange.
    """

    __slots__ = ("_at", "_place")

    def __init__(self, place: Place, at: int) -> None:
        self._place, self._at = place, at

    def inc(self, amount: float) -> None:
        amounts = [0.0] * self._place.columns
        amounts[self._at] = amount
        self._place.add(amounts)

    def get(self) -> float:
        return self._place.words()[self._at]

    def set_exemplar(self, exemplar: object) -> None:
        """Exemplars have no place in a table."""

    def get_exemplar(self) -> None:
        return None


class _DropIn:
    """prometheus_client's classes with their storage exchanged, and the table that takes its place."""

    def __init__(self, metrics: Any, table: LiveTable) -> None:
        self.table = table
        self._peers = Peers(table.namespace, table.application)
        self._base = metrics.MetricWrapperBase
        self._inits: dict[type, Callable[[Any], None]] = {
            metrics.Counter: self._counter,
            metrics.Gauge: self._gauge,
            metrics.Summary: self._summary,
            metrics.Histogram: self._histogram,
            metrics.Info: self._info,
        }
        moved = [(one, _told(one)) for one in _existing(metrics)]
        for cls, begin in self._inits.items():
            cls._metric_init = self._with(cls._metric_init, begin)  # type: ignore[attr-defined]
        for cls in (metrics.Summary, metrics.Histogram):
            cls.observe = _observing(cls.observe)
        if ATOMIC:
            exchange_stores(metrics)
        metrics.Info.info = self._with_info(metrics.Info.info)
        metrics.Enum.__init__ = self._with_states(metrics.Enum.__init__)
        metrics.Enum.state = self._with_state(metrics.Enum.state)
        self._base.labels = self._finding(self._base.labels)
        for name in ("remove", "remove_by_labels", "clear"):
            if hasattr(self._base, name):
                setattr(self._base, name, self._removing(getattr(self._base, name), name == "clear"))
        for one, tell in moved:
            one._metric_init()
            tell()
        self.table.afterwards()

    def _with(self, original: Callable[[Any], None], begin: Callable[[Any], None]) -> Callable[[Any], None]:
        """The library's own first, for what else it keeps; its values are then given up for those of the table."""

        @functools.wraps(original)
        def _metric_init(one: Any) -> None:
            original(one)
            begin(one)
            self._afterwards(one)

        return _metric_init

    def _afterwards(self, one: Any) -> None:
        """Of a child later: it is made under its parent's lock."""
        if not one._labelvalues:
            self.table.afterwards()

    def _finding(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """``labels``, without its lock where the child is there already, asked for by strings."""

        @functools.wraps(original)
        def labels(one: Any, *values: Any, **named: Any) -> Any:
            try:
                if named:
                    names = one._labelnames
                    key = tuple(map(named.__getitem__, names)) if len(named) == len(names) and not values else ()
                else:
                    key = values
                for value in key:
                    if type(value) is not str:  # another that equals one, as of an Enum, may be written differently
                        break
                else:
                    return one._metrics[key]
            except (KeyError, AttributeError):
                pass  # new, or wrong, which the library says best
            # The table's lock too, which is nobody's while a process forks: a child must not find the parent's taken.
            with self.table.lock:
                if "_metrics" in vars(one) and not isinstance(one._lock, _RLOCK):
                    one._lock = threading.RLock()  # a signal's handler may ask in the middle of this
                child = original(one, *values, **named)
            self.table.afterwards()
            return child

        return labels

    # ---- storage --------------------------------------------------------------------------------------------

    def _place(
        self, one: Any, kind: MetricType, name: str, labels: tuple[tuple[str, ...], tuple[str, ...]],
        buckets: Sequence[float] = (), mode: str = "sum", first: float | None = None,
    ) -> Place:  # fmt: skip
        """The place of a series; one that nobody reads, and a line in the log, where the table can't have it."""
        names, values = labels
        metric_name = f"{name}_total" if kind == "counter" else name
        try:
            metric = Metric(
                metric_name,
                kind,
                one._documentation[:MAX_HELP] or name,
                one._unit,
                tuple(names),
                tuple(buckets),
            )
            place = self.table.placed(metric, tuple(values), mode, first)
        except (FogmetricsError, UnicodeError) as error:
            place = self.table.nowhere(kind, (metric_name, tuple(values)), buckets, str(error))
        one._fogmetrics = [*getattr(one, "_fogmetrics", ()), place]
        return place

    def _counter(self, one: Any) -> None:
        place = self._place(one, "counter", one._name, _labels(one))
        assert isinstance(place, CounterPlace)
        one._value = _Kept(place)
        one._fogmetrics_place = place

    def _gauge(self, one: Any) -> None:
        place = self._place(one, "gauge", one._name, _labels(one), mode=_MODES[one._multiprocess_mode], first=0.0)
        assert isinstance(place, GaugePlace)
        one._value = _Kept(place)
        if not isinstance(place, LatestPlace):
            one._fogmetrics_place = place

    def _summary(self, one: Any) -> None:
        place = self._place(one, "summary", one._name, _labels(one))
        assert isinstance(place, SummaryPlace)
        one._count, one._sum = _Part(place, 0), _Part(place, 1)
        one._fogmetrics_place = place

    def _histogram(self, one: Any) -> None:
        bounds = [bound for bound in one._upper_bounds if bound != math.inf]
        place = self._place(one, "histogram", one._name, _labels(one), bounds)
        assert isinstance(place, HistogramPlace)
        one._sum = _Part(place, place.columns - 1)
        one._buckets = [_Part(place, 1 + at) for at in range(len(one._upper_bounds))]
        one._fogmetrics_place = place

    def _info(self, one: Any) -> None:
        """Its series is known when it is told: the labels are the information."""

    def _with_info(self, original: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(original)
        def info(one: Any, val: dict[str, str]) -> None:
            original(one, val)
            names, values = _labels(one)
            labels = (*names, *val), (*values, *map(str, val.values()))
            before = getattr(one, "_fogmetrics", ())
            one._fogmetrics = []
            place = self._place(one, "gauge", f"{one._name}_info", labels, mode="max", first=1.0)
            # In this process alone: another may be of another release, and say something else.
            self.table.remove(old.key for old in before if old is not place)
            self.table.afterwards()

        return info

    def _with_states(self, original: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(original)
        def init(one: Any, *arguments: Any, **named: Any) -> None:
            original(one, *arguments, **named)  # it learns of its states at the end
            if one._is_observable():
                self._tell_state(one, 0.0)
                self._afterwards(one)

        return init

    def _with_state(self, original: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(original)
        def state(one: Any, state: str) -> None:
            original(one, state)
            self._tell_state(one, time.time())
            self.table.afterwards()

        return state

    def _tell_state(self, one: Any, set_at: float) -> None:
        """Of all processes the state that was set last holds; that in which a process begins is never later."""
        names, values = _labels(one)
        one._fogmetrics = []
        for number, state in enumerate(one._states):
            labels = (*names, one._name), (*values, state)
            place = self._place(one, "gauge", one._name, labels, mode="latest+dead")
            assert isinstance(place, LatestPlace)
            place.set_at(float(number == one._value), set_at)

    # ---- removal --------------------------------------------------------------------------------------------

    def _removing(self, original: Callable[..., None], everything: bool) -> Callable[..., None]:
        @functools.wraps(original)
        def removing(one: Any, *arguments: Any, **named: Any) -> None:
            with self.table.lock:  # as in labels
                before = dict(getattr(one, "_metrics", {}))
                original(one, *arguments, **named)
                gone = [child for values, child in before.items() if one._metrics.get(values) is not child]
                keys = [place.key for child in gone for place in getattr(child, "_fogmetrics", ())]
                # Under the same lock: a child that is made behind it would have the place that is about to go.
                self.table.remove(keys)
            # Whatever of the metric another process has goes, too. One without labels has no children: nothing does.
            cleared = {f"{one._name}{_ENDINGS.get(one._type, '')}"} if everything and one._labelnames else ()
            if keys or cleared:
                remove_elsewhere(self.table, keys, self._peers, cleared)

        return removing


def _labels(one: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return tuple(one._labelnames), tuple(one._labelvalues)


# ---- stores ---------------------------------------------------------------------------------------------------


def _observing(original: Callable[..., None]) -> Callable[..., None]:
    """``observe``, by way of the place."""

    @functools.wraps(original)
    def observe(one: Any, amount: float, *exemplar: Any, **named: Any) -> None:
        one._raise_if_not_observable()
        one._fogmetrics_place.observe(amount)

    return observe


def exchange_stores(metrics: Any) -> None:
    """Methods that store as the places' do (:mod:`shm.table.cells`), in the metric's own call: another costs half as
    much again. What is not plain goes to the method that was there before.
    """
    metrics.Counter.inc = _counting(metrics.Counter.inc)
    metrics.Gauge.inc = _adding(metrics.Gauge.inc, 1.0)
    metrics.Gauge.dec = _adding(metrics.Gauge.dec, -1.0)
    metrics.Gauge.set = _setting(metrics.Gauge.set)
    metrics.Histogram.observe = _sorting_in(metrics.Histogram.observe)
    metrics.Summary.observe = _summing(metrics.Summary.observe)


def _counting(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def inc(one: Any, amount: float = 1.0, exemplar: dict[str, str] | None = None) -> None:
        if amount < 0 or exemplar:
            original(one, amount, exemplar)
            return
        amount = 0.0 + amount
        try:
            one._fogmetrics_place.cell[0] += amount
        except (Moving, AttributeError):
            original(one, amount)

    return inc


def _adding(original: Callable[..., None], sign: float) -> Callable[..., None]:
    """``inc``, or ``dec`` with the sign -1."""

    @functools.wraps(original)
    def add(one: Any, amount: float = 1.0) -> None:
        added = sign * amount
        try:
            cell = one._fogmetrics_place.cell
            value = cell[0]
            if value == value:
                cell[0] = value + added
                return
        except (Moving, AttributeError):
            pass
        original(one, amount)

    return add


def _setting(original: Callable[..., None]) -> Callable[..., None]:
    # Positional: the name of its argument is a part of what the library promises.
    @functools.wraps(original)
    def set(one: Any, value: float) -> None:  # noqa: A001 - the library's word
        value = float(value)
        try:
            one._fogmetrics_place.cell[0] = value
        except (Moving, AttributeError):
            original(one, value)

    return set


def _sorting_in(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def observe(one: Any, amount: float, exemplar: dict[str, str] | None = None) -> None:
        if amount != amount:
            return
        amount = 0.0 + amount
        try:
            place = one._fogmetrics_place
            at = bisect_left(place.bounds, amount) + 1
            cell = place.cell
            cell[at] += 1.0
            cell[-1] += amount
        except (Moving, AttributeError):
            original(one, amount)

    return observe


def _summing(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def observe(one: Any, amount: float) -> None:
        if amount != amount:
            return
        amount = 0.0 + amount
        try:
            cell = one._fogmetrics_place.cell
            cell[0] += 1.0
            cell[1] += amount
        except (Moving, AttributeError):
            original(one, amount)

    return observe


# ---- metrics that are there already --------------------------------------------------------------------------


def _existing(metrics: Any) -> list[Any]:
    """What can be observed of all there are, registered or not: metrics without labels, and children."""
    found: list[Any] = []
    for one in gc.get_objects():
        # By its type alone: to ask some objects what they are makes them work.
        if issubclass(type(one), metrics.MetricWrapperBase) and not getattr(one, "_labelvalues", True):
            found += one._metrics.values() if one._is_parent() else [one]
    return found


def _told(one: Any) -> Callable[[], None]:
    """What tells the metric, once it has its place in the table, what it was told before."""
    if hasattr(one, "_buckets"):
        counts, total = [bucket.get() for bucket in one._buckets], one._sum.get()
        return lambda: one._fogmetrics_place.add([0.0, *counts, total])
    if hasattr(one, "_count"):
        count, total = one._count.get(), one._sum.get()
        return lambda: one._fogmetrics_place.add([count, total])
    value = one._value
    if isinstance(value, dict):
        return lambda: one.info(value) if value else None
    if isinstance(value, int):
        return lambda: one.state(one._states[value])
    number = value.get()
    if one._type == "counter":
        return lambda: one._fogmetrics_place.add([number])
    return lambda: one._value.set(number) if number else None
