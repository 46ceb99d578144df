"""MetricCollector: records samples of named metrics as frames of a ring, and reads them back.

    with MetricCollector("queue") as collector:
        collector.register_metric("queue_depth", "gauge", "jobs", "Jobs waiting.", ("queue",))
        collector.record_metric("queue_depth", 17, {"queue": "mail"})
        collector.record_metric("queue_depth", 12, {"queue": "mail"})
        [mail] = collector.get_time_series("queue_depth")

``record_metric`` stages a sample; ``commit`` appends all staged samples as one frame with one timestamp. Staged samples
are also committed before a second sample of a staged series, before reading, and at the end of ``with``.
"""

from __future__ import annotations

import logging
import threading
import time
from array import array
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING

from collector.frame.cardinality import Cardinality
from collector.frame.definitions import Definitions
from collector.frame.histogram import Cumulative, Observations
from collector.frame.rules import Rules
from collector.frame.samples import ABSENT_SAMPLE, Given, checked
from collector.loop.source_thread import SourceResult, SourceThread
from collector.source import MetricSource, Sample
from shm.errors import MetricError, NoSpace
from shm.metric import NO_LABELS, Metric, MetricType, SeriesKey
from shm.ring.layout import FLAG_TICK
from shm.ring.reader import Frame, RingReader
from shm.ring.series import TimeSeries, time_series
from shm.ring.writer import DEFAULT_CAPACITY, RingWriter
from shm.safe_repr import said, shown

if TYPE_CHECKING:
    from fogmetrics.application.shared_collector import SharedCollector

log = logging.getLogger(__name__)

_NO_RULES = Rules()

_Samples = dict[SeriesKey, float | None]


class MetricCollector:
    """Writes the ring ``name``. One per ring and process (I5); any thread may record.

    For an application of several processes see :meth:`shared`.

    ``interval_seconds``: expected time between frames; readers call the ring stale after three intervals without one.
    ``snapshot_dir``: directory from which the history is restored if shared memory has none. ``rules``: limits and
    buckets of single metrics; ``cardinality`` enforces the limits and counts what exceeds them. Raises WriterBusy,
    NoSpace, RingForeign or ConfigurationError if the ring can't be opened.
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
        self._guard = threading.RLock()  # recording a second sample of a series commits, under the same lock
        self._definitions = Definitions(name, rules)
        self._metrics = self._definitions.metrics
        # By the time of their frame; None: that of the next commit, whose frame has the columns of histograms, too.
        self._staged: defaultdict[int | None, _Samples] = defaultdict(dict)
        self._histograms: dict[SeriesKey, Cumulative] = {}
        self._threads: dict[str, SourceThread] = {}  # by the name of the source
        self.writer = RingWriter(
            namespace, name, interval_ns=round(interval_seconds * 1e9), capacity=capacity, group=group,
            snapshot_dir=snapshot_dir,
        )  # fmt: skip
        self.cardinality = Cardinality(self.writer, max_series, max_series_per_metric, rules)
        self._known = self.cardinality.known
        self.writer.staged = self._series_staged

    @staticmethod
    def shared(
        name: str, *, namespace: str | None = None, group: str | None = None, max_series: int | None = None
    ) -> SharedCollector:
        """A collector for one of the many processes of the application ``name``."""
        from fogmetrics.application.shared_collector import SharedCollector  # not needed by collectors of sources

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
        """Declare a metric before its samples are recorded. Raises MetricError for an invalid one."""
        metric = Metric(name, type, help, unit, tuple(label_names), tuple(float(bound) for bound in buckets))
        self.register(metric)
        return metric

    def register(self, *metrics: Metric) -> None:
        """Declare metrics; repeating a declaration is allowed. Raises MetricError for a second definition of a name."""
        with self._guard:
            for metric in metrics:
                self._definitions.declare(metric)

    def redeclare(self, metrics: Sequence[Metric]) -> list[MetricError]:
        """Declare metrics that may change. If the type, labels or buckets differ, the metric's history is discarded.

        Returns an error for each refused metric: the daemon's own names, and metrics beyond ``max_series``.
        """
        refused, known, most = [], self._metrics, self.cardinality.max_series
        with self._guard:
            changed = []
            for metric in metrics:
                try:
                    if metric.name not in known and len(known.keys() | self.writer.metrics.keys()) >= most:
                        raise MetricError(
                            f"metric {metric.name!r} would be one more than the {most} that ring {self.name!r} may "
                            "have, past ones included; raise max_series, or remove the ring with --unlink"
                        )
                    if self._definitions.redeclare(metric):
                        changed.append(metric.name)
                except MetricError as error:
                    refused.append(error)
            if changed:
                self._histograms = {key: one for key, one in self._histograms.items() if key[0] not in changed}
                self._enter_metrics()
        return refused

    def record_metric(
        self,
        name: str,
        value: float | None,
        labels: Mapping[str, str] = NO_LABELS,
        timestamp: float | None = None,
        observations: Observations | None = None,
    ) -> bool:
        """Stage one sample; False if it was dropped at a cardinality limit (:mod:`collector.frame.cardinality`).

        A frame has one sample of a series, so a second one commits the staged samples first. Histograms take many: each
        is counted in the buckets, the count and the sum, and the last is kept raw.

        Samples without ``timestamp`` share the frame of the next commit. A sample with ``timestamp``, in Unix seconds,
        gets a frame of its own, also for the past. ``value`` None keeps a histogram's series present without an
        observation. ``observations`` are counted in the buckets instead of ``value``, which is only kept raw. Raises
        MetricError for an unknown metric, labels that don't match, a value that is not a number, or a negative counter;
        RingLost and NoSpace as :meth:`commit` does.
        """
        return self._record(Sample(name, value, labels, timestamp, observations))

    def record_counted(self, name: str, counted: Sequence[float | None], labels: Mapping[str, str] = NO_LABELS) -> bool:
        """Stage a histogram or summary series with counts kept by another program, see ``Sample.counted``.

        False if it was dropped. Raises MetricError for an unknown metric, one of another type, or counts that don't
        match its buckets.
        """
        return self._record(Sample(name, None, labels, counted=counted))

    def _record(self, sample: Sample, given: Given | None = None) -> bool:
        """Stage one sample for the next frame.

        ``given``: the samples of this collection so far, of which a second one of a series is refused. Without it, a
        second one commits the frame first.
        """
        if sample.counted is not None:
            with self._guard:
                self._definitions.note_counted(sample.metric)
        metric = self._metrics.get(sample.metric)
        if metric is None:
            raise MetricError(f"metric {sample.metric!r} is not registered; call register_metric first")
        key, number, stamp_ns, columns = checked(metric, sample, given)
        single = columns is None and metric.type != "histogram"
        with self._guard:
            if given is None and single and key in self._staged.get(stamp_ns, ()):
                self.commit()
            if key not in self._known and not self.cardinality.admit(metric, key):
                return False
            if columns is not None:
                self._histograms[key] = Cumulative(metric.buckets, columns)
                self._staged[None][key] = None
            elif metric.type == "histogram":
                self._observe(metric, key, number, sample.observations)
            if number is not None:
                self._staged[stamp_ns][key] = number
            return True

    def _observe(self, metric: Metric, key: SeriesKey, number: float | None, many: Observations | None) -> None:
        cumulative = self._histograms.get(key)
        if cumulative is None:
            self._definitions.note_observed(metric.name)
            cumulative = self._histograms[key] = Cumulative(metric.buckets)
        if many is not None:
            cumulative.add(many.counts, many.total)
        elif number is not None:
            cumulative.add(((number, 1.0),), number)
        self._staged[None].setdefault(key, None)

    # ---- frames --------------------------------------------------------------------------------------------

    def commit(self, timestamp_ns: int | None = None, monotonic_ns: int | None = None, flags: int = FLAG_TICK) -> int:
        """Append the staged samples: first the timestamped frames, then the tick's, whose sequence is returned.

        Raises RingLost, and NoSpace if the ring's file was removed and there is no room for a new one.
        """
        timestamp_ns = time.time_ns() if timestamp_ns is None else timestamp_ns
        monotonic_ns = time.monotonic_ns() if monotonic_ns is None else monotonic_ns
        with self._guard:
            # The file may have been removed during the collection; no reader would find the frame.
            self.writer.keep_published()
            try:
                return self._commit(timestamp_ns, monotonic_ns, flags)
            finally:
                self._staged.clear()

    def keep_alive(self) -> None:
        """Renew the heartbeat between two frames, and publish the ring again if its file was removed.

        Raises RingLost and NoSpace, as :meth:`commit` does.
        """
        with self._guard:
            self.writer.keep_published()
            self.writer.beat()

    def _commit(self, timestamp_ns: int, monotonic_ns: int, flags: int) -> int:
        self._enter_metrics()
        self._admit_newcomers()
        self._drop_waiting()
        self._enter_series()
        for name, limit in self.cardinality.limits.items():
            try:
                self.writer.note_limit(name, limit)
            except NoSpace as error:  # already logged; /stats will not show the limit
                log.debug("limit not noted", extra={"ring": self.name, "error": str(error)})
        for stamp in sorted(stamp for stamp in self._staged if stamp is not None):
            self.writer.append(self._row(self._staged[stamp], cumulative=False), stamp, monotonic_ns, 0)
        return self.writer.append(self._row(self._staged[None], cumulative=True), timestamp_ns, monotonic_ns, flags)

    def _series_staged(self) -> Set[SeriesKey]:
        return dict.fromkeys(key for values in self._staged.values() for key in values).keys()

    def _enter_metrics(self) -> None:
        if self._definitions.enter(self.writer):
            # Keep staged series admitted that have no column yet.
            self.cardinality.reload(self._series_staged() & self._known)

    def _admit_newcomers(self) -> None:
        """Replace the oldest series with newcomers, and drop the samples of newcomers that find no room."""
        if not self.cardinality.newcomers:
            return
        for key in self.cardinality.replace_oldest(self._metrics, self._series_staged()):
            self._histograms.pop(key, None)
            for values in self._staged.values():
                values.pop(key, None)

    def _drop_waiting(self) -> None:
        """Drop the samples of metrics whose new definition waits for room to rebuild the ring."""
        why = "its definition changed, and there is no memory to rebuild the ring for it"
        for values in self._staged.values():
            for key in [key for key in values if key[0] in self._definitions.waiting]:
                del values[key]
                self.cardinality.drop(key[0], why)

    def _enter_series(self) -> None:
        """Add columns for new series; series without room are dropped, counted and logged."""
        columns = self.writer.columns
        new = [key for key in self._series_staged() if key not in columns]
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
        # Growing the ring also frees columns of series without samples.
        self._histograms = {key: one for key, one in self._histograms.items() if key in self._known}

    def _row(self, values: Mapping[SeriesKey, float | None], *, cumulative: bool) -> array[float]:
        """One value per column. ``cumulative``: include the buckets, count and sum of histograms."""
        columns = self.writer.columns
        row = ABSENT_SAMPLE * self.writer.column_count
        for key, value in values.items():
            series = columns.get(key)
            if series is None:
                continue
            if value is not None:
                row[series.column] = value
            if cumulative and key in self._histograms:
                first = series.column + (series.metric.type == "histogram")  # after its raw sample
                row[first : series.end] = self._histograms[key].columns
        return row

    def resume(self, *metrics: Metric) -> dict[SeriesKey, float]:
        """Continue cumulative values from the ring's history.

        Histograms of registered metrics continue from their last buckets; the last value of each series of ``metrics``
        (counters kept by the caller) is returned. If the ring may lack published frames, as after a restore from a
        snapshot, they begin at 0 instead: Prometheus takes a value below the last scraped one for a reset, and would
        count all of it as new.
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
        """Collect from all sources at once, each on its own thread, and stage their samples.

        A source that raises, hangs past the timeout or returns invalid samples does not affect the others: its result
        has ``up`` False, or errors for its bad samples. Never raises for a source's mistakes. If a source is opened and
        closed too, give its SourceThread, which makes all its calls on one thread.
        """
        threads = [one if isinstance(one, SourceThread) else self._thread_of(one) for one in sources]
        calls = [thread.start(timeout_seconds) for thread in threads]
        results = [thread.finish(call, stop) for thread, call in zip(threads, calls, strict=True)]
        given = Given()
        for result in results:
            self._stage(result, given)
        return results

    def _thread_of(self, source: MetricSource) -> SourceThread:
        thread = self._threads.setdefault(source.name, SourceThread(source))
        thread.source = source  # a second source of that name waits for the first
        return thread

    def _stage(self, result: SourceResult, given: Given) -> None:
        """Stage the samples of one collection; each refused sample becomes an error of its result."""
        result.errors += map(str, self.redeclare(result.metrics))
        for sample in result.samples:
            try:
                self._record(sample, given)
            except MetricError as error:
                result.errors.append(str(error))
            except Exception as error:  # noqa: BLE001 - a source may return any object as a sample
                result.errors.append(f"{result.source.name} returned {shown(sample)}, not a Sample: {said(error)}")

    # ---- reading and closing -------------------------------------------------------------------------------

    def get_time_series(
        self, name: str, start: float | None = None, end: float | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> list[TimeSeries]:  # fmt: skip
        """The samples of each series of a metric with start ≤ time ≤ end, as far back as the ring goes.

        Commits staged samples first. See :func:`shm.ring.series.time_series`. Raises MetricError for a metric that is
        neither registered nor in the ring.
        """
        with self._guard:
            if self._staged:
                self.commit()
        with RingReader(self.namespace, self.name) as reader:
            if name in self._metrics and not any(name == metric.name for metric in reader.catalog.metrics):
                return []  # registered, and without a sample so far
            return time_series(reader, name, start, end, labels)

    def close(self) -> None:
        """Release the ring to the next writer; its frames remain. Staged samples are dropped."""
        for thread in self._threads.values():
            thread.end()
        self.writer.close()

    def __enter__(self) -> MetricCollector:
        return self

    def __exit__(self, *exc: object) -> None:
        """Commit staged samples, and close."""
        try:
            if self._staged:
                self.commit()
        finally:
            self.close()
