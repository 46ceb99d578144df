"""Metrics and series: their definitions, the rules they obey, and the columns they take in a ring.

A metric is a name with a type, help, unit and label names. A series is a metric with one value for each
label. Gauges, counters and untyped series take one column. A summary takes two: the count and the sum of its
observations. A histogram takes ``len(buckets) + 3``:

    column + 0            the raw sample of the frame, for exact percentiles
    column + 1 + i        cumulative count of samples ≤ buckets[i]
    column + 1 + k        cumulative count of all samples: le="+Inf", which is also the histogram's count
    column + 2 + k        cumulative sum of all samples

so that one ring holds both the samples for percentiles and a true Prometheus histogram.

Names of metrics and labels are UTF-8 (https://prometheus.io/docs/concepts/data_model/#metric-names-and-labels), without
characters that can't be printed. The exporter escapes those that a server does not read.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from shm.errors import MetricError
from shm.safe_repr import shown

# untyped: values from another program that gives them no type, or a type that fogmetrics does not have.
MetricType = Literal["gauge", "counter", "histogram", "summary", "untyped"]

_RESERVED_LABELS = {
    "le": "the bucket bounds of histograms",
    "quantile": "the quantiles of summaries",
    "stat": "the statistics of /metrics/aggregated",
}
# An untyped metric may be a part of another program's summary or histogram, exported unchanged.
_RESERVED_LABELS_UNTYPED = {"stat": _RESERVED_LABELS["stat"]}
MAX_NAME = 200  # limited, because the size of a catalog entry is
MAX_HELP = 2_000
MAX_LABELS = 32
MAX_LABEL_VALUE = 1_000
MAX_BUCKETS = 64

NO_LABELS: Mapping[str, str] = {}

# Milliseconds; dense around 50, 100, 250, 500 ms and 1 s, where latency objectives are commonly set.
DEFAULT_BUCKETS_MS = (1.0, 5.0, 10.0, 25.0, 50.0, 75.0, 100.0, 250.0, 500.0, 1_000.0, 2_500.0, 5_000.0)


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric's definition. Raises MetricError, naming the field and the value, if it breaks a rule.

    ``own`` marks the daemon's own metrics (``collector_*``), which /stats lists separately.
    """

    name: str
    type: MetricType
    help: str
    unit: str = ""
    label_names: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    own: bool = False

    def __post_init__(self) -> None:
        check_text("metric name", self.name, MAX_NAME)
        if not (self.name and self.name.isprintable()):
            raise MetricError(
                f"metric name {self.name!r} is not a Prometheus name; use letters, digits, '_' and ':', not beginning "
                "with a digit, or other characters that can be printed, which some servers get as '_'"
            )
        if not self.family:
            raise MetricError("metric name '_total' is only the ending of a counter's name; put a name before it")
        if self.type not in get_args(MetricType):
            raise MetricError(
                f"metric {self.name!r} has the type {self.type!r}; use one of {', '.join(get_args(MetricType))}"
            )
        check_text(f"help of metric {self.name!r}", self.help, MAX_HELP)
        check_text(f"unit of metric {self.name!r}", self.unit, MAX_NAME)
        if len(self.label_names) > MAX_LABELS:
            raise MetricError(f"metric {self.name!r} has {len(self.label_names)} labels; at most {MAX_LABELS}")
        reserved = _RESERVED_LABELS_UNTYPED if self.type == "untyped" else _RESERVED_LABELS
        for label in self.label_names:
            _check_label_name(self.name, label, reserved)
        if len(set(self.label_names)) != len(self.label_names):
            raise MetricError(f"metric {self.name!r} names a label twice: {', '.join(self.label_names)}")
        if self.type == "histogram":
            check_buckets(self.name, self.buckets)
        elif self.buckets:
            raise MetricError(f"metric {self.name!r} is of type {self.type}, but only a histogram has buckets")

    @property
    def columns(self) -> int:
        """How many columns of a ring one series of this metric takes."""
        if self.type == "histogram":
            return len(self.buckets) + 3
        return 2 if self.type == "summary" else 1

    @property
    def shape(self) -> tuple[str, tuple[str, ...], tuple[float, ...]]:
        """The part of the definition that decides the columns of its series: type, label names, buckets."""
        return self.type, self.label_names, self.buckets

    @property
    def family(self) -> str:
        """The name of the metric family in OpenMetrics: a counter's name without ``_total``."""
        return self.name.removesuffix("_total") if self.type == "counter" else self.name

    @property
    def sample_names(self) -> tuple[str, ...]:
        """All names that its samples may have in an exposition, and ``_created``, which OpenMetrics reserves."""
        name = self.family
        if self.type == "counter":
            return (name, f"{name}_total", f"{name}_created")
        if self.type == "histogram":
            return (name, f"{name}_bucket", f"{name}_sum", f"{name}_count", f"{name}_created")
        if self.type == "summary":
            return (name, f"{name}_sum", f"{name}_count", f"{name}_created")
        return (name,)

    def label_values(self, labels: Mapping[str, str]) -> tuple[str, ...]:
        """The values of ``labels`` in the order of ``label_names``. Raises MetricError if the names don't match."""
        if len(labels) != len(self.label_names) or any(name not in labels for name in self.label_names):
            raise MetricError(
                f"metric {self.name!r} has the labels ({', '.join(self.label_names)}), "
                f"but the sample has ({', '.join(labels)}); give exactly the metric's labels"
            )
        values = tuple(labels[name] for name in self.label_names)
        self.check_values(values)
        return values

    def check_values(self, values: tuple[str, ...]) -> None:
        """Raises MetricError unless there is one string of bounded length for each of ``label_names``."""
        if len(values) != len(self.label_names):
            raise MetricError(f"metric {self.name!r} has {len(self.label_names)} labels, not {len(values)}: {values!r}")
        for name, value in zip(self.label_names, values, strict=True):
            check_text(f"label {name!r} of metric {self.name!r}", value, MAX_LABEL_VALUE)


@dataclass(frozen=True, slots=True)
class Series:
    """A metric with one label set, and the first of its columns in the ring."""

    metric: Metric
    label_values: tuple[str, ...]
    column: int

    @property
    def labels(self) -> dict[str, str]:
        return dict(zip(self.metric.label_names, self.label_values, strict=True))

    @property
    def end(self) -> int:
        """One past the last of its columns."""
        return self.column + self.metric.columns

    def samples(self) -> Iterator[tuple[str, str, int]]:
        """(name, bound of the bucket or "", column) of each of its samples in Prometheus's text, in their order."""
        metric, at = self.metric, self.column
        if metric.type == "histogram":
            for i, bound in enumerate((*map(repr, metric.buckets), "+Inf"), at + 1):
                yield f"{metric.name}_bucket", bound, i
            yield f"{metric.name}_count", "", self.end - 2  # the column of +Inf
            yield f"{metric.name}_sum", "", self.end - 1
        elif metric.type == "summary":
            yield f"{metric.name}_count", "", at
            yield f"{metric.name}_sum", "", at + 1
        else:
            yield f"{metric.family}_total" if metric.type == "counter" else metric.name, "", at


SeriesKey = tuple[str, tuple[str, ...]]  # metric name, label values


def series_key(series: Series) -> SeriesKey:
    return series.metric.name, series.label_values


def number_of(metric: Metric, value: object) -> float | None:
    """The value as a float; None for a histogram that observed nothing. Raises MetricError for an invalid value.

    A gauge or counter may be infinite or NaN, as in Prometheus.
    """
    if value is None:
        if metric.type != "histogram":
            raise MetricError(f"metric {metric.name!r} got None; leave out a sample that is not known")
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise MetricError(f"metric {metric.name!r} got {shown(value)}, of type {type(value).__name__}; give a number")
    try:
        number = float(value)
    except OverflowError:
        raise MetricError(f"metric {metric.name!r} got an integer beyond float64; give a smaller number") from None
    if metric.type == "counter" and number < 0:
        raise MetricError(f"counter {metric.name!r} got {value!r}; a counter is never below 0")
    if metric.type == "histogram" and number != number:
        raise MetricError(f"histogram {metric.name!r} got NaN, which is in no bucket; leave the sample out")
    if metric.type == "histogram" and math.isinf(number):
        # The sum is cumulative, over restarts too: later samples could not make it finite again.
        raise MetricError(
            f"histogram {metric.name!r} got {number}, which would make its sum infinite for ever; leave the sample out"
        )
    return number


def escape_label(value: str) -> str:
    """Escape a label's value for the text formats, which write it in quotes on one line."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def label_set(pairs: Iterable[tuple[str, str]]) -> str:
    """``{a="1",b="2"}``, or "" without labels."""
    inner = ",".join(f'{name}="{escape_label(value)}"' for name, value in pairs)
    return f"{{{inner}}}" if inner else ""


def increase(before: float | None, now: float | None) -> float | None:
    """The increase of a counter from one sample to the next; None if one of them is unknown.

    If the counter fell, it was reset: the increase is then the new value.
    """
    if before is None or now is None:
        return None
    return now - before if now >= before else now


def check_text(what: str, text: object, limit: int) -> None:
    """Raises MetricError, naming ``what``, unless ``text`` is a UTF-8 string of at most ``limit`` characters."""
    if not isinstance(text, str):
        raise MetricError(f"{what} is {text!r}, of type {type(text).__name__}; give a string")
    if len(text) > limit:
        raise MetricError(f"{what} has {len(text)} characters; at most {limit}: {text[:40]!r}…")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise MetricError(f"{what} is not valid Unicode text: {text!r}") from None


def _check_label_name(metric: str, label: object, reserved: Mapping[str, str]) -> None:
    check_text(f"label name of metric {metric!r}", label, MAX_NAME)
    assert isinstance(label, str)
    if not (label and label.isprintable()) or label.startswith("__"):
        raise MetricError(
            f"label name {label!r} of metric {metric!r} is not a Prometheus label name; use letters, digits and '_', "
            "not beginning with a digit or '__', or other characters that can be printed, which some servers get as '_'"
        )
    if label in reserved:
        raise MetricError(
            f"label name {label!r} of metric {metric!r} is reserved for {reserved[label]}; choose another"
        )


def check_buckets(metric: str, buckets: tuple[float, ...]) -> None:
    """Raises MetricError, naming the histogram, unless ``buckets`` are 1 to 64 finite bounds in rising order."""
    if not buckets or len(buckets) > MAX_BUCKETS:
        raise MetricError(f"histogram {metric!r} has {len(buckets)} buckets; give 1 to {MAX_BUCKETS} upper bounds")
    if any(not math.isfinite(bound) for bound in buckets):
        raise MetricError(f"histogram {metric!r} has a bucket that is not finite: {buckets}; +Inf is always added")
    if any(low >= high for low, high in itertools.pairwise(buckets)):
        raise MetricError(f"histogram {metric!r} has buckets that do not rise: {buckets}")
