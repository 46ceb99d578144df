"""What a sample may be: the checks that record_metric makes, and ``--once`` too. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from collector.source import Sample
from collector.words import shown
from shm.catalog import Metric
from shm.errors import MetricError


def check_sample(metrics: Mapping[str, Metric], sample: Sample) -> None:
    """Raises MetricError, or what a nonsensical sample makes Python raise, when record_metric would refuse it."""
    metric = metrics.get(sample.metric)
    if metric is None:
        raise MetricError(f"metric {sample.metric!r} is not among the source's metrics")
    metric.label_values(sample.labels)
    number_of(metric, sample.value)
    if sample.timestamp is not None:
        stamp_ns_of(metric, sample.timestamp)


def number_of(metric: Metric, value: object) -> float | None:
    """The value as a float, None for a histogram's "nothing observed". Raises MetricError for what it can't be."""
    if value is None:
        if metric.type != "histogram":
            raise MetricError(f"metric {metric.name!r} got None; leave out a sample that is not known")
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise MetricError(f"metric {metric.name!r} got {shown(value)}, a {type(value).__name__}; give a number")
    try:
        number = float(value)
    except OverflowError:
        raise MetricError(f"metric {metric.name!r} got an integer beyond float64; give a smaller number") from None
    if metric.type == "counter" and number < 0:
        raise MetricError(f"counter {metric.name!r} got {value!r}; a counter never is below 0")
    if metric.type == "histogram" and number != number:
        raise MetricError(f"histogram {metric.name!r} got NaN, which is in no bucket; leave the sample out")
    return number


def stamp_ns_of(metric: Metric, timestamp: object) -> int:
    """Unix nanoseconds, within what a slot holds; MetricError for what are no Unix seconds."""
    try:
        stamp_ns = round(timestamp * 1e9)  # type: ignore[operator]  # what can't be multiplied is told below
    except (TypeError, ValueError, OverflowError):
        stamp_ns = -1
    if not 0 <= stamp_ns < 1 << 63:
        raise MetricError(
            f"metric {metric.name!r} got the timestamp {shown(timestamp)}; give Unix seconds, not milliseconds or "
            "nanoseconds"
        )
    return stamp_ns
