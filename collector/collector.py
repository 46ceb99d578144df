"""MetricCollector: from samples by name to frames in a ring.

    with MetricCollector("queue") as collector:
        collector.register_metric("queue_depth", "gauge", unit="jobs", help="Jobs waiting.", label_names=("queue",))
        collector.record_metric("queue_depth", 17, {"queue": "mail"})
        collector.commit()

``record_metric`` stages; ``commit`` appends what was staged as one frame with one timestamp.
"""

from __future__ import annotations

import logging
import threading
import time
from array import array
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from collector.histogram import Cumulative
from collector.runner import Call, Hung, Runner
from collector.source import NO_LABELS, Collection, CollectResult, MetricSource, Sample
from shm.catalog import Metric, MetricType, SeriesKey
from shm.errors import MetricError, NoSpace
from shm.layout import FLAG_TICK, STALE_NAN_BITS
from shm.reader import Frame
from shm.writer import DEFAULT_CAPACITY, RingWriter

log = logging.getLogger(__name__)

_ABSENT = array("d", STALE_NAN_BITS.to_bytes(8, "little"))


@dataclass(frozen=True, slots=True)
class SourceResult:
    """What one source gave in one collection, and how long it took."""

    source: MetricSource
    collection: Collection
    seconds: float


class MetricCollector:
    """Writes the ring ``name``. One per ring and process (I5); any thread may record.

    ``interval_seconds`` is what readers take for the source's own pace: three of them without a frame make it
    stale. Raises WriterBusy, NoSpace, RingForeign or ConfigurationError when the ring can't be opened.
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
    ) -> None:
        self.name = name
        self.max_series = max_series
        self.max_series_per_metric = max_series_per_metric
        self.series_dropped = 0
        self._guard = threading.Lock()
        self._metrics: dict[str, Metric] = {}
        self._metrics_new = False
        self._tick: dict[SeriesKey, float | None] = {}
        self._apart: list[tuple[int | None, SeriesKey, float]] = []  # frames of their own: (timestamp, series, value)
        self._histograms: dict[SeriesKey, Cumulative] = {}
        self._runners: dict[str, Runner] = {}
        self._series_of: Counter[str] = Counter()  # series per metric, staged ones included
        self._known: set[SeriesKey] = set()
        self._limited: dict[str, int] = {}
        self.writer = RingWriter(
            namespace, name, interval_ns=round(interval_seconds * 1e9), capacity=capacity, group=group
        )
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
                known = self._metrics.setdefault(metric.name, metric)
                self._metrics_new = True
                if known != metric:
                    raise MetricError(
                        f"metric {metric.name!r} is registered as {known}, and can't also be {metric}; rename one"
                    )

    def record_metric(
        self, name: str, value: float | None, labels: Mapping[str, str] = NO_LABELS, timestamp: float | None = None
    ) -> bool:
        """Stage one sample; False when it was dropped at a cardinality limit.

        Samples without ``timestamp`` share the frame of the next commit; for a gauge or a counter the last value
        wins, a histogram counts each. ``timestamp``, in Unix seconds, makes a frame of its own, also an older
        one. ``value`` None keeps a histogram's series visible though nothing was observed. Raises MetricError for
        an unknown metric, labels that don't fit, or a value that is no number or a negative counter.
        """
        metric = self._metrics.get(name)
        if metric is None:
            raise MetricError(f"metric {name!r} is not registered; call register_metric first")
        key = name, metric.label_values(labels)
        number = _number(metric, value)
        with self._guard:
            if not self._admit(metric, key):
                return False
            if metric.type == "histogram":
                self._observe(metric, key, number, timestamp)
            elif timestamp is not None:
                assert number is not None
                self._apart.append((round(timestamp * 1e9), key, number))
            else:
                self._tick[key] = number
            return True

    def _observe(self, metric: Metric, key: SeriesKey, number: float | None, timestamp: float | None) -> None:
        cumulative = self._histograms.get(key)
        if cumulative is None:
            cumulative = self._histograms[key] = Cumulative(metric.buckets)
        if number is None:
            self._tick.setdefault(key, None)
            return
        cumulative.observe(number)
        if timestamp is not None:
            self._apart.append((round(timestamp * 1e9), key, number))
            return
        # A frame has one raw sample per series: earlier ones of this tick get frames of their own before it.
        earlier = self._tick.get(key)
        if earlier is not None:
            self._apart.append((None, key, earlier))
        self._tick[key] = number

    def _admit(self, metric: Metric, key: SeriesKey) -> bool:
        if key in self._known:
            return True
        limit = 0
        if not metric.own:
            if self._series_of[metric.name] >= self.max_series_per_metric:
                limit = self.max_series_per_metric
            elif len(self._known) >= self.max_series:
                limit = self.max_series
        if not limit:
            self._known.add(key)
            self._series_of[metric.name] += 1
            return True
        self._drop(metric.name, limit, f"the limit of {limit} series is reached")
        return False

    def _drop(self, metric: str, limit: int, why: str) -> None:
        self.series_dropped += 1
        if metric not in self._limited:
            self._limited[metric] = limit
            log.warning(
                "series dropped",
                extra={
                    "ring": self.name,
                    "metric": metric,
                    "error": why,
                    "remedy": "drop a label with many values, or raise max_series or max_series_per_metric",
                },
            )

    # ---- frames --------------------------------------------------------------------------------------------

    def commit(self, timestamp_ns: int | None = None, monotonic_ns: int | None = None, flags: int = FLAG_TICK) -> int:
        """Append what was staged: first the frames of their own, then the tick's; the tick's sequence."""
        timestamp_ns = time.time_ns() if timestamp_ns is None else timestamp_ns
        monotonic_ns = time.monotonic_ns() if monotonic_ns is None else monotonic_ns
        with self._guard:
            tick, self._tick = self._tick, {}
            apart, self._apart = self._apart, []
            self._enter_metrics()
            self._enter_series([*tick, *(key for _, key, _ in apart)])
            for name, limit in self._limited.items():
                self._note_limit(name, limit)
            for stamp, frame in _own_frames(apart, timestamp_ns).items():
                for values in frame:
                    self.writer.append(self._row(values, cumulative=False), stamp, monotonic_ns, 0)
            return self.writer.append(self._row(tick, cumulative=True), timestamp_ns, monotonic_ns, flags)

    def _enter_metrics(self) -> None:
        """Put every registered metric into the catalog, samples or none, so that readers know what could come."""
        if not self._metrics_new:
            return
        lost = self.writer.redefine(self._metrics.values())
        if lost:
            log.warning("metrics begin anew", extra={
                "ring": self.name, "metrics": ",".join(lost), "error": "their type, labels or buckets changed",
            })  # fmt: skip
        for metric in self._metrics.values():
            try:
                self.writer.add_metric(metric)
            except NoSpace as error:
                log.error("metric not entered", extra={"ring": self.name, "metric": metric.name, "error": str(error)})
        self._metrics_new = False
        self._know_series()

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
        ``metrics`` (counters kept by the caller) is returned.
        """
        with self._guard:
            self._enter_metrics()
        wanted = {metric.name for metric in metrics}
        last: dict[SeriesKey, float] = {}
        missing = {
            key
            for key, series in self.writer.columns.items()
            if key[0] in wanted or (series.metric.type == "histogram" and key[0] in self._metrics)
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
        begun = time.monotonic()
        calls: list[tuple[MetricSource, Runner, Call[tuple[Collection, float]] | Hung]] = []
        for source in sources:
            runner = self._runners.setdefault(source.name, Runner(source.name))
            try:
                calls.append((source, runner, runner.start(_job(source, runner, timeout_seconds))))
            except Hung as error:
                calls.append((source, runner, error))
        results = []
        for source, runner, call in calls:
            left = max(timeout_seconds - (time.monotonic() - begun), 0.0)
            try:
                if isinstance(call, Hung):
                    raise call
                collection, seconds = runner.wait(call, left, stop)
            except Exception as error:  # any failure of a source is its own
                log.debug("collection failed", extra={"source": source.name}, exc_info=error)
                collection, seconds = Collection((), (_said(error),), up=False), time.monotonic() - begun
            results.append(SourceResult(source, self._staged(source, collection), seconds))
        return results

    def _staged(self, source: MetricSource, collection: Collection) -> Collection:
        errors = list(collection.errors)
        for sample in collection.samples:
            try:
                self.record_metric(sample.metric, sample.value, sample.labels, sample.timestamp)
            except MetricError as error:
                errors.append(str(error))
            except (TypeError, AttributeError, ValueError, OverflowError) as error:
                errors.append(f"{source.name} gave {sample!r:.200}, which is no sample: {error}")
        return Collection(collection.samples, errors, collection.up)

    def run_in_source_thread(self, source: MetricSource, job: Callable[[], object], timeout_seconds: float) -> None:
        """Run ``job`` (open, close) where the source collects. Raises what it raises, Hung past the timeout."""
        runner = self._runners.setdefault(source.name, Runner(source.name))

        def run() -> None:
            result = job()
            if hasattr(result, "__await__"):
                runner.await_(result, timeout_seconds)

        runner.call(run, timeout_seconds)

    # ---- the end -------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Release the ring to the next writer; its frames stay. Staged samples are dropped."""
        for runner in self._runners.values():
            runner.stop()
        self.writer.close()

    def __enter__(self) -> MetricCollector:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def collect(source: MetricSource, runner: Runner, timeout_seconds: float) -> Collection:
    """One collection of ``source``, plain or async. To be called in the thread of ``runner``."""
    result: object = source.collect()
    if hasattr(result, "__await__"):
        result = runner.await_(cast("Awaitable[CollectResult]", result), timeout_seconds)
    if isinstance(result, Collection):
        return result
    try:
        return Collection(tuple(cast("Iterable[Sample]", result)))
    except TypeError:
        raise MetricError(
            f"collect() of source {source.name!r} gave {result!r:.100}; give a list of Sample, or a Collection"
        ) from None


def _job(source: MetricSource, runner: Runner, timeout_seconds: float) -> Callable[[], tuple[Collection, float]]:
    def run() -> tuple[Collection, float]:
        begun = time.monotonic()
        collection = collect(source, runner, timeout_seconds)
        return collection, time.monotonic() - begun

    return run


def _said(error: BaseException) -> str:
    return str(error) if isinstance(error, (MetricError, Hung)) else f"{type(error).__name__}: {error}"


def _number(metric: Metric, value: object) -> float | None:
    if value is None:
        if metric.type != "histogram":
            raise MetricError(f"metric {metric.name!r} got None; leave out a sample that is not known")
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise MetricError(f"metric {metric.name!r} got {value!r:.100}, a {type(value).__name__}; give a number")
    try:
        number = float(value)
    except OverflowError:
        raise MetricError(f"metric {metric.name!r} got an integer beyond float64; give a smaller number") from None
    if metric.type == "counter" and number < 0:
        raise MetricError(f"counter {metric.name!r} got {value!r}; a counter never is below 0")
    if metric.type == "histogram" and number != number:
        raise MetricError(f"histogram {metric.name!r} got NaN, which is in no bucket; leave the sample out")
    return number


def _own_frames(
    apart: list[tuple[int | None, SeriesKey, float]], tick_ns: int
) -> dict[int, list[dict[SeriesKey, float | None]]]:
    """The frames that go before the tick's: by timestamp, rising; two samples of one series never share a frame."""
    frames: dict[int, list[dict[SeriesKey, float | None]]] = {}
    for stamp, key, value in sorted(apart, key=lambda one: tick_ns if one[0] is None else one[0]):
        at_time = frames.setdefault(tick_ns if stamp is None else stamp, [])
        for frame in at_time:
            if key not in frame:
                frame[key] = value
                break
        else:
            at_time.append({key: value})
    return frames


__all__ = ["MetricCollector", "Sample", "SourceResult"]
