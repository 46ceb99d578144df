"""MetricCollector: from samples by name to frames in a ring.

    with MetricCollector("queue") as collector:
        collector.register_metric("queue_depth", "gauge", unit="jobs", help="Jobs waiting.", label_names=("queue",))
        collector.record_metric("queue_depth", 17, {"queue": "mail"})
        collector.commit()

``record_metric`` stages; ``commit`` appends what was staged as one frame with one timestamp.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from collector.definitions import Definitions
from collector.histogram import Cumulative
from collector.samples import number_of, stamp_ns_of
from collector.source import NO_LABELS, Collection, MetricSource
from collector.threads import SourceResult, SourceThreads
from collector.words import said, shown
from shm.catalog import Metric, MetricType, SeriesKey
from shm.errors import MetricError, NoSpace
from shm.layout import FLAG_TICK, STALE_NAN_BITS
from shm.reader import Frame
from shm.writer import DEFAULT_CAPACITY, RingWriter

log = logging.getLogger(__name__)

_FEWER_OR_MORE = "drop a label with many values, or raise max_series or max_series_per_metric"
_ABSENT = array("d", STALE_NAN_BITS.to_bytes(8, "little"))


class MetricCollector:
    """Writes the ring ``name``. One per ring and process (I5); any thread may record.

    ``interval_seconds`` is what readers take for the source's own pace: three of them without a frame make it
    stale. ``snapshot_dir``: where the history is restored from when shared memory has none. Raises WriterBusy,
    NoSpace, RingForeign or ConfigurationError when the ring can't be opened.
    """

    def __init__(
        self,
        name: str,
        *,
        namespace: str = "default",
        interval_seconds: float = 15.0,
        capacity: int = DEFAULT_CAPACITY,
        group: str = "",
        max_series: int = 1000,
        max_series_per_metric: int = 200,
        snapshot_dir: Path | None = None,
    ) -> None:
        self.name = name
        self.max_series = max_series
        self.max_series_per_metric = max_series_per_metric
        self.series_dropped = 0
        self._guard = threading.Lock()
        self._definitions = Definitions(name)
        self._metrics = self._definitions.metrics
        self._tick: dict[SeriesKey, float | None] = {}
        self._apart: dict[int, dict[SeriesKey, float | None]] = {}  # frames of their own, by timestamp
        self._histograms: dict[SeriesKey, Cumulative] = {}
        self.threads = SourceThreads()
        self._series_of: Counter[str] = Counter()  # series per metric, staged ones included
        self._known: set[SeriesKey] = set()
        self._limited: dict[str, int] = {}
        self._freed_at = 0  # the head at which columns were last looked for that could be freed
        self.writer = RingWriter(
            namespace, name, interval_ns=round(interval_seconds * 1e9), capacity=capacity, group=group,
            snapshot_dir=snapshot_dir,
        )  # fmt: skip
        self._know_series()

    # ---- metrics and samples -------------------------------------------------------------------------------

    def register_metric(
        self,
        name: str,
        type: MetricType,  # noqa: A002 - the field's word
        *,
        unit: str = "",
        help: str = "",  # noqa: A002 - the field's words
        label_names: Sequence[str] = (),
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

    def record_metric(
        self, name: str, value: float | None, labels: Mapping[str, str] = NO_LABELS, timestamp: float | None = None
    ) -> bool:
        """Stage one sample; False when it was dropped at a cardinality limit.

        Samples without ``timestamp`` share the frame of the next commit. A frame has one sample of a series: the
        last one recorded; of a histogram each is in the buckets, the count and the sum, but only the last is kept
        raw. ``timestamp``, in Unix seconds, makes a frame of its own, also an older one. ``value`` None keeps a
        histogram's series visible though nothing was observed. Raises MetricError for an unknown metric, labels that
        don't fit, or a value that is no number or a negative counter.
        """
        metric = self._metrics.get(name)
        if metric is None:
            raise MetricError(f"metric {name!r} is not registered; call register_metric first")
        key = name, metric.label_values(labels)
        number = number_of(metric, value)
        stamp_ns = None if timestamp is None else stamp_ns_of(metric, timestamp)
        with self._guard:
            if not self._admit(metric, key):
                return False
            if metric.type == "histogram":
                self._observe(metric, key, number, stamp_ns)
            elif stamp_ns is not None:
                self._apart.setdefault(stamp_ns, {})[key] = number
            else:
                self._tick[key] = number
            return True

    def _observe(self, metric: Metric, key: SeriesKey, number: float | None, stamp_ns: int | None) -> None:
        cumulative = self._histograms.get(key)
        if cumulative is None:
            cumulative = self._histograms[key] = Cumulative(metric.buckets)
        if number is None:
            self._tick.setdefault(key, None)
            return
        cumulative.observe(number)
        if stamp_ns is not None:
            self._apart.setdefault(stamp_ns, {})[key] = number
            self._tick.setdefault(key, None)  # the buckets go with the tick's frame
        else:
            self._tick[key] = number

    def _admit(self, metric: Metric, key: SeriesKey) -> bool:
        if key in self._known:
            return True
        limit = self._limit(metric)
        if limit and self._free():
            limit = self._limit(metric)
        if not limit:
            self._known.add(key)
            self._series_of[metric.name] += 1
            return True
        self._drop(metric.name, limit, f"the limit of {limit} series is reached")
        return False

    def _limit(self, metric: Metric) -> int:
        """The limit that one more series of the metric would exceed, 0 for none. The daemon's own have none."""
        if metric.own:
            return 0
        if self._series_of[metric.name] >= self.max_series_per_metric:
            return self.max_series_per_metric
        own = sum(self._series_of[one.name] for one in self._metrics.values() if one.own)
        return self.max_series if len(self._known) - own >= self.max_series else 0

    def _free(self) -> bool:
        """Give back the places of series without a sample in the whole ring; True if there were any.

        It reads the ring to know, so it is tried eight times in a ring's length and no more.
        """
        if self.writer.head - self._freed_at < self.writer.header.capacity // 8:
            return False
        self._freed_at = self.writer.head
        staged = self._known - set(self.writer.columns)
        try:
            if not self.writer.free():
                return False
        except NoSpace as error:
            log.debug("columns not freed", extra={"ring": self.name, "error": str(error)})
            return False
        self._know_series()
        self._known |= staged
        self._series_of.update(name for name, _ in staged)
        self._histograms = {key: one for key, one in self._histograms.items() if key in self._known}
        return True

    def _drop(self, metric: str, limit: int, why: str) -> None:
        self.series_dropped += 1
        if metric not in self._limited:
            self._limited[metric] = limit
            # Without memory for them the error has its own remedy.
            remedy = {"remedy": _FEWER_OR_MORE} if limit else {}
            log.warning("series dropped", extra={"ring": self.name, "metric": metric, "error": why, **remedy})

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
            tick, self._tick = self._tick, {}
            apart, self._apart = self._apart, {}
            self._enter_metrics()
            for values in (tick, *apart.values()):
                self._drop_waiting(values)
            self._enter_series([*tick, *(key for values in apart.values() for key in values)])
            for name, limit in self._limited.items():
                self._note_limit(name, limit)
            for stamp in sorted(apart):
                self.writer.append(self._row(apart[stamp], cumulative=False), stamp, monotonic_ns, 0)
            return self.writer.append(self._row(tick, cumulative=True), timestamp_ns, monotonic_ns, flags)

    def _enter_metrics(self) -> None:
        if self._definitions.enter(self.writer):
            self._know_series()

    def _drop_waiting(self, values: dict[SeriesKey, float | None]) -> None:
        """Leave out the samples that don't fit the ring before it is rebuilt, for which there is no room."""
        for key in [key for key in values if key[0] in self._definitions.waiting]:
            del values[key]
            self._drop(key[0], 0, "its definition changed, and there is no memory to rebuild the ring for it")

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
                self._drop(key[0], 0, str(error))
        self._know_series()
        # Growth frees columns, too.
        self._histograms = {key: one for key, one in self._histograms.items() if key in self._known}

    def _know_series(self) -> None:
        self._known = set(self.writer.columns)
        self._series_of = Counter(name for name, _ in self._known)

    def _note_limit(self, name: str, limit: int) -> None:
        try:
            self.writer.note_limit(name, limit)
        except NoSpace as error:  # the log has it already; /stats will not name it
            log.debug("limit not noted", extra={"ring": self.name, "error": str(error)})

    def _row(self, values: Mapping[SeriesKey, float | None], *, cumulative: bool) -> array[float]:
        """One value per column. ``cumulative``: with the buckets of the histograms among them."""
        columns = self.writer.columns
        row = _ABSENT * self.writer.column_count
        for key, value in values.items():
            series = columns.get(key)
            if series is None:
                continue
            if value is not None:
                row[series.column] = value
            if cumulative and key in self._histograms:
                row[series.column + 1 : series.end] = self._histograms[key].columns()
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
        self, sources: Sequence[MetricSource], timeout_seconds: float, stop: Callable[[], bool] = lambda: False
    ) -> list[SourceResult]:
        """Collect from all sources at once, each in a thread of its own, and stage their samples.

        A source that raises, hangs past the timeout or gives nonsense costs itself alone: its Collection then has
        ``up`` False, or the errors of its bad samples. Never raises for what a source does.
        """
        return [
            dataclasses.replace(result, collection=self._staged(result.source, result.collection))
            for result in self.threads.collect(sources, timeout_seconds, stop)
        ]

    def _staged(self, source: MetricSource, collection: Collection) -> Collection:
        errors = list(collection.errors)
        for sample in collection.samples:
            try:
                self.record_metric(sample.metric, sample.value, sample.labels, sample.timestamp)
            except MetricError as error:
                errors.append(str(error))
            except Exception as error:  # noqa: BLE001 - whatever it is, it is no sample
                errors.append(f"{source.name} gave {shown(sample)}, which is no sample: {said(error)}")
        return dataclasses.replace(collection, errors=errors)

    # ---- the end -------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Release the ring to the next writer; its frames stay. Staged samples are dropped."""
        self.threads.stop()
        self.writer.close()

    def __enter__(self) -> MetricCollector:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
