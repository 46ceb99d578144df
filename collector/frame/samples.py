"""Checks of samples, for record_metric and for ``--once``. Pure."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence

from collector.frame.histogram import Observations
from collector.source import Sample
from shm.errors import MetricError
from shm.metric import Metric, number_of
from shm.ring.layout import ABSENT
from shm.safe_repr import shown

ABSENT_SAMPLE = array("d", ABSENT)


def check_sample(metrics: Mapping[str, Metric], sample: Sample) -> None:
    """Raises MetricError, or what a nonsensical sample makes Python raise, when record_metric would refuse it."""
    metric = metrics.get(sample.metric)
    if metric is None:
        raise MetricError(f"metric {sample.metric!r} is not among the source's metrics")
    metric.label_values(sample.labels)
    if sample.counted is None:
        number_of(metric, sample.value)
    if sample.observations is not None:
        check_observations(metric, sample.observations)
    if sample.counted is not None:
        counted_of(metric, sample.counted)
    if sample.timestamp is not None:
        stamp_ns_of(metric, sample.timestamp)


def check_observations(metric: Metric, value: Observations) -> None:
    """Raises MetricError for observations that would spoil the histogram, or are of none."""
    if metric.type != "histogram":
        raise MetricError(f"metric {metric.name!r} got observations, which are for histograms; give a value alone")
    if not math.isfinite(value.total):
        raise MetricError(
            f"histogram {metric.name!r} got observations whose sum is {shown(value.total)}; leave them out"
        )
    for bound, count in value.counts:
        if bound != bound or not 0 <= count < math.inf:
            raise MetricError(
                f"histogram {metric.name!r} got observations with {shown(count)} at the bound {shown(bound)}; give a "
                "count, 0 or more, and a bound"
            )


def counted_of(metric: Metric, counted: Sequence[float | None]) -> array[float]:
    """The columns of a histogram that was counted elsewhere: buckets, count, sum; a None among them is absent.

    Of a summary: count and sum. Raises MetricError, and TypeError for what are no numbers.
    """
    if metric.type == "summary":
        if len(counted) != 2:
            raise MetricError(f"summary {metric.name!r} got {len(counted)} counts; give the count and the sum")
    elif metric.type != "histogram":
        raise MetricError(
            f"metric {metric.name!r} is of type {metric.type}, but only a histogram is counted in buckets"
        )
    elif len(counted) != len(metric.buckets) + 2:
        raise MetricError(
            f"histogram {metric.name!r} got {len(counted)} counts; give one for each of its {len(metric.buckets)} "
            "buckets, the count of all and the sum"
        )
    columns = ABSENT_SAMPLE * len(counted)
    least = 0.0
    for i, value in enumerate(counted):
        if value is None:
            continue
        columns[i] = value
        if i < len(counted) - 1:  # the last is the sum, which may be anything
            if not columns[i] >= least:  # of NaN neither is true
                raise MetricError(
                    f"histogram {metric.name!r} got the counts {shown(counted)}; they are cumulative: 0 or more, and "
                    "none below the one before"
                )
            least = columns[i]
    return columns


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
