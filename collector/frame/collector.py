"""MetricCollector: from samples by name to frames in a ring, and back.

    with MetricCollector("queue") as collector:
        collector.register_metric("queue_depth", "gauge", "jobs", "Jobs waiting.", ("queue",))
        collector.record_metric("queue_depth", 17, {"queue": "mail"})
        collector.record_metric("queue_depth", 12, {"queue": "mail"})
        [mail] = collector.get_time_series("queue_depth")

``record_metric`` stages a sample; ``commit`` appends what was staged as one frame with one timestamp. A second sample
of a staged series commits the frame before it is staged itself, and so do reading and the end of ``with``.
"""

from __future__ import annotations

import logging
import threading
import time
from array import array
from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING

from collector.frame.cardinality import Cardinality
from collector.frame.definitions import Definitions
from collector.frame.histogram import Cumulative, Observations
from collector.frame.rules import Rules
from collector.frame.samples import ABSENT_SAMPLE, check_observations, counted_of, stamp_ns_of
from collector.loop.source_thread import SourceResult, SourceThread
from collector.source import MetricSource
from shm.errors import MetricError, NoSpace
from shm.metric import NO_LABELS, Metric, MetricType, SeriesKey, number_of
from shm.ring.layout import FLAG_TICK
from shm.ring.reader import Frame, RingReader
from shm.ring.series import TimeSeries, time_series
from shm.ring.writer import DEFAULT_CAPACITY, RingWriter
from shm.safe_repr import said, shown

if TYPE_CHECKING:
    from fogmetrics.application.shared_collector import SharedCollector

log = logging.getLogger(__name__)

_NO_RULES = Rules()

_Staged = dict[SeriesKey, float | None]


class MetricCollector:
    """Writes the ring ``name``. One per ring and process (I5); any thread may record.

    For an application of several processes see :meth:`shared`.

    ``interval_seconds`` is what readers take for the source's own pace: three of them without a frame make it
    stale. ``snapshot_dir``: where the history is restored from when shared memory has none. ``rules``: limits and
    buckets of single metrics; ``cardinality`` has the limits in force, and counts what met them. Raises WriterBusy,
    NoSpace, RingForeign or ConfigurationError when the ring can't be opened.
    """

    def __init__(
        self,
        name: str,
        capacity: int = DEFAULT_CAPACITY,
        interval_seconds: float = 15.0,
        *,
        namespace: str = "default",
        group: str = "",
        max_series: int = 1000,
        max_series_per_metric: int = 200,
        rules: Rules = _NO_RULES,
        snapshot_dir: Path | None = None,
    ) -> None:
        self.name = name
        self.namespace = namespace
        self._guard = threading.RLock()  # a second sample of a series commits while it is recorded
        self._definitions = Definitions(name, rules)
        self._metrics = self._definitions.metrics
        self._tick: _Staged = {}
        self._apart: dict[int, _Staged] = {}  # frames of their own, by timestamp
        self._histograms: dict[SeriesKey, Cumulative] = {}
        self._threads: dict[str, SourceThread] = {}  # of the sources that are collected here, by name
        self.writer = RingWriter(
            namespace, name, interval_ns=round(interval_seconds * 1e9), capacity=capacity, group=group,
            snapshot_dir=snapshot_dir,
        )  # fmt: skip
        self.cardinality = Cardinality(self.writer, max_series, max_series_per_metric, rules)
        self._known = self.cardinality.known
        self.writer.staged = self._series_staged

    @property
    def series_dropped(self) -> int:
        """Samples that were dropped because their series was not admitted."""
        return self.cardinality.dropped

    @staticmethod
    def shared(
        name: str, *, namespace: str | None = None, group: str | None = None, max_series: int = 10_000
    ) -> SharedCollector:
        """One process's part of the application ``name``, which any number of processes may have at once."""
        from fogmetrics.application.shared_collector import SharedCollector  # a collector of a source has no use for it

        return SharedCollector(name, namespace=namespace, group=group, max_series=max_series)

    # ---- metrics and samples -------------------------------------------------------------------------------

    def register_metric(
        self,
        name: str,
        type: MetricType,  # noqa: A002 - the field's word
        unit: str = "",
        help: str = "",  # noqa: A002 - the field's words
        label_names: Sequence[str] = (),
        *,
        buckets: Sequence[float] = (),
    ) -> Metric:
        """Declare a metric before its samples are recorded. Raises MetricError when a rule is broken."""
        metric = Metric(name, type, help, unit, tuple(label_names), tuple(float(bound) for bound in buckets))
        self.register(metric)
        return metric

    def register(self, *metrics: Metric) -> None:
        """Declare metrics. The same one again is fine; another under its name is a MetricError."""
        with self._guard:
            for metric in metrics:
                self._definitions.declare(metric)

    def redeclare(self, metrics: Sequence[Metric]) -> list[MetricError]:
        """Declare metrics that come and go; one of another type, labels or buckets than before begins anew.

        What is refused: the name of one of the daemon's own, and more of them than ``max_series``.
        """
        refused = []
        with self._guard:
            changed = []
            for metric in metrics:
                if metric.name not in self._metrics and self._metric_count() >= self.cardinality.max_series:
                    refused.append(self._one_metric_more(metric))
                    continue
                try:
                    if self._definitions.redeclare(metric):
                        changed.append(metric.name)
                except MetricError as error:
                    refused.append(error)
            if changed:
                self._begin_anew(frozenset(changed))
                self._enter_metrics()
        return refused

    def _begin_anew(self, names: Set[str]) -> None:
        self._histograms = {key: one for key, one in self._histograms.items() if key[0] not in names}

    def _metric_count(self) -> int:
        return len(self._metrics.keys() | self.writer.metrics.keys())

    def _one_metric_more(self, metric: Metric) -> MetricError:
        return MetricError(
            f"metric {metric.name!r} would be one more than the {self.cardinality.max_series} that ring {self.name!r} "
            "may have of all times; raise max_series, or begin the ring anew with --unlink"
        )

    def record_metric(
        self,
        name: str,
        value: float | None,
        labels: Mapping[str, str] = NO_LABELS,
        timestamp: float | None = None,
        observations: Observations | None = None,
    ) -> bool:
        """Stage one sample; False when it was dropped at a cardinality limit (:mod:`collector.frame.cardinality`).

        A frame has one sample of a series, so a second one commits what is staged first. Of a histogram a frame takes
        many: each is in the buckets, the count and the sum, and the last is kept raw.

        Samples without ``timestamp`` share the frame of the next commit. ``timestamp``, in Unix seconds, makes a frame
        of its own, also an older one. ``value`` None keeps a histogram's series visible though nothing was observed.
        ``observations`` go into its buckets in the place of ``value``, which then is only kept raw. Raises MetricError
        for an unknown metric, labels that don't fit, or a value that is no number or a negative counter; RingLost and
        NoSpace as :meth:`commit` does.
        """
        with self._guard:
            metric = self._registered(name)
            if metric.type != "histogram" and self._is_staged((name, metric.label_values(labels)), timestamp):
                self.commit()
            return self._record(name, value, labels, timestamp, observations)

    def _is_staged(self, key: SeriesKey, timestamp: float | None) -> bool:
        if timestamp is None:
            return key in self._tick
        return key in self._apart.get(stamp_ns_of(self._metrics[key[0]], timestamp), ())

    def _record(
        self,
        name: str,
        value: float | None,
        labels: Mapping[str, str],
        timestamp: float | None,
        observations: Observations | None,
    ) -> bool:
        """Stage one sample in the frame that is being made, in the place of an earlier one of its series."""
        metric = self._registered(name)
        if metric.type == "summary":
            raise MetricError(f"summary {name!r} got a value; record_counted takes its count and its sum")
        key = name, metric.label_values(labels)
        number = number_of(metric, value)
        if observations is not None:
            check_observations(metric, observations)
        stamp_ns = None if timestamp is None else stamp_ns_of(metric, timestamp)
        with self._guard:
            if key not in self._known and not self.cardinality.admit(metric, key):
                return False
            if metric.type == "histogram":
                self._observe(metric, key, number, stamp_ns, observations)
            elif stamp_ns is not None:
                self._apart.setdefault(stamp_ns, {})[key] = number
            else:
                self._tick[key] = number
            return True

    def record_counted(self, name: str, counted: Sequence[float | None], labels: Mapping[str, str] = NO_LABELS) -> bool:
        """Stage a histogram's or summary's series as somebody else counted it, see ``Sample.counted``.

        False when it was dropped. Raises MetricError for an unknown metric, one of another type, or what does not fit
        its buckets.
        """
        with self._guard:
            self._definitions.is_counted(name)
        metric = self._registered(name)
        columns = counted_of(metric, counted)
        key = name, metric.label_values(labels)
        with self._guard:
            if key not in self._known and not self.cardinality.admit(metric, key):
                return False
            self._histograms[key] = Cumulative(metric.buckets, columns)
            self._tick[key] = None
            return True

    def _registered(self, name: str) -> Metric:
        metric = self._metrics.get(name)
        if metric is None:
            raise MetricError(f"metric {name!r} is not registered; call register_metric first")
        return metric

    def _observe(
        self, metric: Metric, key: SeriesKey, number: float | None, stamp_ns: int | None, many: Observations | None
    ) -> None:
        cumulative = self._histograms.get(key)
        if cumulative is None:
            self._definitions.is_observed(metric.name)
            cumulative = self._histograms[key] = Cumulative(metric.buckets)
        if many is not None:
            cumulative.add(many)
        elif number is not None:
            cumulative.observe(number)
        if number is None:
            self._tick.setdefault(key, None)
            return
        if stamp_ns is not None:
            self._apart.setdefault(stamp_ns, {})[key] = number
            self._tick.setdefault(key, None)  # the buckets go with the tick's frame
        else:
            self._tick[key] = number

    # ---- frames --------------------------------------------------------------------------------------------

    def commit(self, timestamp_ns: int | None = None, monotonic_ns: int | None = None, flags: int = FLAG_TICK) -> int:
        """Append what was staged: first the frames of their own, then the tick's; the tick's sequence.

        Raises RingLost, and NoSpace where the ring's file was removed and there is no room for another.
        """
        timestamp_ns = time.time_ns() if timestamp_ns is None else timestamp_ns
        monotonic_ns = time.monotonic_ns() if monotonic_ns is None else monotonic_ns
        with self._guard:
            # A collection may have taken seconds, in which somebody removed the file: nobody would find the frame.
            self.writer.keep_published()
            try:
                return self._commit(timestamp_ns, monotonic_ns, flags)
            finally:
                self._tick, self._apart = {}, {}

    def keep_alive(self) -> None:
        """Say between two frames that this process lives, and publish the ring again if its file was removed.

        Raises RingLost and NoSpace, as :meth:`commit` does.
        """
        with self._guard:
            self.writer.keep_published()
            self.writer.beat()

    def _commit(self, timestamp_ns: int, monotonic_ns: int, flags: int) -> int:
        tick, apart = self._tick, self._apart
        self._enter_metrics()
        self._let_in(tick, apart)
        for values in (tick, *apart.values()):
            self._drop_waiting(values)
        self._enter_series([*tick, *(key for values in apart.values() for key in values)])
        for name, limit in self.cardinality.limits.items():
            self._note_limit(name, limit)
        for stamp in sorted(apart):
            self.writer.append(self._row(apart[stamp], cumulative=False), stamp, monotonic_ns, 0)
        return self.writer.append(self._row(tick, cumulative=True), timestamp_ns, monotonic_ns, flags)

    def _series_staged(self) -> Set[SeriesKey]:
        """The series that have a sample in the frames that are being made."""
        return {*self._tick, *(key for values in self._apart.values() for key in values)}

    def _enter_metrics(self) -> None:
        if self._definitions.enter(self.writer):
            # Series that are staged and admitted stay so, though they have no column yet.
            self.cardinality.reload(self._series_staged() & self._known)

    def _let_in(self, tick: _Staged, apart: Mapping[int, _Staged]) -> None:
        """Replace the oldest series by newcomers; take samples of newcomers without room out of the frames."""
        if not self.cardinality.newcomers:
            return
        for key in self.cardinality.replace_oldest(self._metrics, self._series_staged()):
            self._histograms.pop(key, None)
            for values in (tick, *apart.values()):
                values.pop(key, None)

    def _drop_waiting(self, values: _Staged) -> None:
        """Leave out the samples that don't fit the ring before it is rebuilt, for which there is no room."""
        for key in [key for key in values if key[0] in self._definitions.waiting]:
            del values[key]
            self.cardinality.drop(key[0], "its definition changed, and there is no memory to rebuild the ring for it")

    def _enter_series(self, keys: list[SeriesKey]) -> None:
        """Give columns to the series that have none yet; what finds no memory is dropped, counted and named."""
        columns = self.writer.columns
        new = [key for key in dict.fromkeys(keys) if key not in columns]
        if not new:
            return
        try:
            self.writer.reserve(sum(self._metrics[name].columns for name, _ in new))
        except NoSpace as error:
            log.error("ring can't grow", extra={"ring": self.name, "error": str(error)})
        for key in new:
            try:
                self.writer.add_series(self._metrics[key[0]], key[1])
            except NoSpace as error:
                self.cardinality.drop(key[0], str(error))
        self.cardinality.reload()
        # Growth frees columns, too.
        self._histograms = {key: one for key, one in self._histograms.items() if key in self._known}

    def _note_limit(self, name: str, limit: int) -> None:
        try:
            self.writer.note_limit(name, limit)
        except NoSpace as error:  # the log has it already; /stats will not name it
            log.debug("limit not noted", extra={"ring": self.name, "error": str(error)})

    def _row(self, values: Mapping[SeriesKey, float | None], *, cumulative: bool) -> array[float]:
        """One value per column. ``cumulative``: with the buckets of the histograms among them."""
        columns = self.writer.columns
        row = ABSENT_SAMPLE * self.writer.column_count
        for key, value in values.items():
            series = columns.get(key)
            if series is None:
                continue
            if value is not None:
                row[series.column] = value
            if cumulative and key in self._histograms:
                first = series.column + (series.metric.type == "histogram")  # behind its raw sample
                row[first : series.end] = self._histograms[key].columns()
        return row

    def resume(self, *metrics: Metric) -> dict[SeriesKey, float]:
        """Take up cumulative values where the ring's history left them.

        Histograms of every registered metric go on from their last buckets; the last value of each series of
        ``metrics`` (counters kept by the caller) is returned. Where the ring may lack frames that were published, as
        one restored from a snapshot after a crash, they begin at 0 instead: a value below the one that was scraped last
        is a reset to Prometheus, after which all of it would count as new.
        """
        with self._guard:
            self._enter_metrics()
        wanted = {metric.name for metric in metrics}
        last: dict[SeriesKey, float] = {}
        missing = {
            key
            for key, series in self.writer.columns.items()
            if (key[0] in wanted or (series.metric.type == "histogram" and key[0] in self._metrics))
            and self._definitions.fits(series)
            and (self.writer.continues or series.metric.type == "gauge")
        }
        for sequence in reversed(self.writer.history()):
            if not missing:
                break
            frame = self.writer.frame(sequence)
            if frame is not None:
                missing -= {key for key in missing if self._take_up(key, frame, last)}
        return last

    def _take_up(self, key: SeriesKey, frame: Frame, last: dict[SeriesKey, float]) -> bool:
        series = self.writer.columns[key]
        if series.metric.type == "histogram":
            values = [frame.value(column) for column in range(series.column + 1, series.end)]
            whole = [value for value in values if value is not None]
            if len(whole) == len(values):
                self._histograms[key] = Cumulative(series.metric.buckets, whole)
                return True
            return False
        value = frame.value(series.column)
        if value is not None:
            last[key] = value
        return value is not None

    # ---- sources -------------------------------------------------------------------------------------------

    def collect_from_sources(
        self,
        sources: Sequence[MetricSource | SourceThread],
        timeout_seconds: float = 10.0,
        stop: Callable[[], bool] = lambda: False,
    ) -> list[SourceResult]:
        """Collect from all sources at once, each in a thread of its own, and stage their samples.

        A source that raises, hangs past the timeout or gives nonsense costs itself alone: its result then has ``up``
        False, or the errors of its bad samples. Never raises for what a source does. Of a source that is opened and
        closed as well, give its SourceThread, so that all is done in one thread.
        """
        threads = [one if isinstance(one, SourceThread) else self._thread_of(one) for one in sources]
        calls = [thread.start(timeout_seconds) for thread in threads]
        results = [thread.finish(call, stop) for thread, call in zip(threads, calls, strict=True)]
        for result in results:
            self._stage(result)
        return results

    def _thread_of(self, source: MetricSource) -> SourceThread:
        thread = self._threads.setdefault(source.name, SourceThread(source))
        thread.source = source  # another one of that name waits for the one before
        return thread

    def _stage(self, result: SourceResult) -> None:
        """Record the samples of one collection; those that are refused become errors of its."""
        result.errors += map(str, self.redeclare(result.metrics))
        for sample in result.samples:
            try:
                if sample.counted is None:
                    self._record(sample.metric, sample.value, sample.labels, sample.timestamp, sample.observations)
                else:
                    self.record_counted(sample.metric, sample.counted, sample.labels)
            except MetricError as error:
                result.errors.append(str(error))
            except Exception as error:  # noqa: BLE001 - whatever it is, it is no sample
                result.errors.append(f"{result.source.name} gave {shown(sample)}, which is no sample: {said(error)}")

    # ---- the end -------------------------------------------------------------------------------------------

    def get_time_series(
        self, name: str, start: float | None = None, end: float | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> list[TimeSeries]:  # fmt: skip
        """The samples of each series of a metric with start ≤ time ≤ end, as far back as the ring goes.

        Commits what is staged first. See :func:`shm.ring.series.time_series`. Raises MetricError for a metric that is
        neither registered nor in the ring.
        """
        with self._guard:
            if self._tick or self._apart:
                self.commit()
        with RingReader(self.namespace, self.name) as reader:
            if name in self._metrics and not any(name == metric.name for metric in reader.catalog.metrics):
                return []  # registered, and without a sample so far
            return time_series(reader, name, start, end, labels)

    def close(self) -> None:
        """Release the ring to the next writer; its frames stay. Staged samples are dropped."""
        for thread in self._threads.values():
            thread.end()
        self.writer.close()

    def __enter__(self) -> MetricCollector:
        return self

    def __exit__(self, *exc: object) -> None:
        """Commit what is staged, and close."""
        try:
            if self._tick or self._apart:
                self.commit()
        finally:
            self.close()
