"""Checks samples, for the collector and for ``--once``. Pure."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Sequence

from collector.frame.histogram import Observations
from collector.source import Sample
from shm.errors import MetricError
from shm.metric import Metric, SeriesKey, label_set, number_of
from shm.ring.layout import ABSENT
from shm.safe_repr import shown

ABSENT_SAMPLE = array("d", ABSENT)


class Given:
    """The series of one collection so far. A frame holds one sample of a series, and any number of observations."""

    def __init__(self) -> None:
        self._observed: dict[tuple[SeriesKey, int | None], bool] = {}

    def add(self, metric: Metric, key: SeriesKey, stamp_ns: int | None = None, *, counted: bool = False) -> None:
        """Raises MetricError for the second sample of a series, unless both are observations of a histogram."""
        observed = metric.type == "histogram" and not counted
        before = self._observed.get((key, stamp_ns))
        if before is not None and not (before and observed):
            raise MetricError(
                f"series {series_name(metric.name, metric.label_names, key[1])} was given twice for one frame, which "
                "keeps the first sample; remove the second, or give the two a label that differs"
            )
        self._observed[key, stamp_ns] = observed


def series_name(metric: str, label_names: Iterable[str], label_values: Iterable[str]) -> str:
    """The series as Prometheus writes it: ``depth{queue="mail"}``."""
    return metric + label_set(zip(label_names, label_values, strict=True))


def checked(
    metric: Metric, sample: Sample, given: Given | None = None
) -> tuple[SeriesKey, float | None, int | None, array[float] | None]:
    """(series, value, time in Unix ns, columns of ``counted``) of a sample of the metric.

    ``given``: the samples of the collection before it, to which it is added. Raises MetricError for a sample that the
    metric can't have, and whatever Python raises for another object.
    """
    columns = None if sample.counted is None else counted_of(metric, sample.counted)
    if columns is None and metric.type == "summary":
        raise MetricError(f"summary {metric.name!r} got a value; give its count and sum: record_counted, or counted=")
    key = metric.name, metric.label_values(sample.labels)
    number = number_of(metric, sample.value) if columns is None else None
    if sample.observations is not None:
        check_observations(metric, sample.observations)
    stamp_ns = None if sample.timestamp is None else stamp_ns_of(metric, sample.timestamp)
    if given is not None:
        given.add(metric, key, stamp_ns, counted=columns is not None)
    return key, number, stamp_ns, columns


def check_observations(metric: Metric, value: Observations) -> None:
    """Raises MetricError for observations that would spoil the histogram, or if the metric is not a histogram."""
    if metric.type != "histogram":
        raise MetricError(f"metric {metric.name!r} got observations, which are for histograms; give only a value")
    if not math.isfinite(value.total):
        raise MetricError(f"histogram {metric.name!r} got observations with the sum {shown(value.total)}; omit them")
    for bound, count in value.counts:
        if bound != bound or not 0 <= count < math.inf:
            raise MetricError(
                f"histogram {metric.name!r} got observations with {shown(count)} at the bound {shown(bound)}; give a "
                "count, 0 or more, and a bound"
            )


def counted_of(metric: Metric, counted: Sequence[float | None]) -> array[float]:
    """The columns of a histogram with given counts: buckets, count, sum; None is absent. Of a summary: count, sum.

    Raises MetricError, and TypeError for counts that are not numbers.
    """
    if metric.type == "summary":
        if len(counted) != 2:
            raise MetricError(f"summary {metric.name!r} got {len(counted)} counts; give the count and the sum")
    elif metric.type != "histogram":
        raise MetricError(
            f"metric {metric.name!r} is of type {metric.type}, but only histograms and summaries have counts; give a "
            "value"
        )
    elif len(counted) != len(metric.buckets) + 2:
        raise MetricError(
            f"histogram {metric.name!r} got {len(counted)} counts; give one for each of its {len(metric.buckets)} "
            "buckets, the total count and the sum"
        )
    columns = ABSENT_SAMPLE * len(counted)
    least = 0.0
    for i, value in enumerate(counted):
        if value is None:
            continue
        columns[i] = value
        if i < len(counted) - 1:  # the last is the sum, which may be any number
            if not columns[i] >= least:  # also true for NaN
                raise MetricError(
                    f"histogram {metric.name!r} got the counts {shown(counted)}; give cumulative counts: 0 or more, "
                    "none below the one before"
                )
            least = columns[i]
    return columns


def stamp_ns_of(metric: Metric, timestamp: object) -> int:
    """Unix seconds as nanoseconds. Raises MetricError for a value that a slot can't hold, or not a number."""
    try:
        stamp_ns = round(timestamp * 1e9)  # type: ignore[operator]  # a TypeError is handled below
    except (TypeError, ValueError, OverflowError):
        stamp_ns = -1
    if not 0 <= stamp_ns < 1 << 63:
        raise MetricError(
            f"metric {metric.name!r} got the timestamp {shown(timestamp)}; give Unix seconds, not milliseconds or "
            "nanoseconds"
        )
    return stamp_ns
