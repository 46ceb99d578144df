"""From the families of a text to metrics and samples of a ring: never with a type that they do not have.

    counter NAME_total          counter
    counter of another name     untyped: a counter here is called NAME_total, and a series keeps its name
    gauge, untyped              gauge, untyped
    histogram                   histogram with the file's own bounds; where its series have not the same ones, each has
                                its own, and the others are absent
    histogram without a finite bound, or with more than 64
                                its samples as untyped metrics: NAME_bucket with the label le, NAME_sum, NAME_count
    summary                     summary: its count and its sum
    summary with quantiles      its samples as untyped metrics: NAME with the label quantile, NAME_sum, NAME_count

The label names of a metric are those of all its series; a label that one does not have is empty, which is the same to
Prometheus. ``NAME_created`` beside a counter NAME_total, a histogram or a summary NAME, as prometheus_client writes it,
is left out: the name is OpenMetrics' for the time that a counter began.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from collector.frame.samples import check_sample
from collector.source import Sample
from collector.sources.prometheus_text import BadText, Family, Point
from shm.errors import MetricError
from shm.metric import MAX_BUCKETS, Metric, MetricType
from shm.safe_repr import shown

_CREATED: Final = "_created"


@dataclass(frozen=True, slots=True)
class Told:
    """One metric of a text, its samples, and the line of its first."""

    metric: Metric
    samples: tuple[Sample, ...]
    line: int


def translate(families: Sequence[Family], help_text: str) -> list[Told]:
    """What a text tells, checked sample by sample. ``help_text``: of metrics without one. Raises BadText. Pure."""
    begun = {one.name.removesuffix("_total") for one in families if _counts(one)}
    return [
        told
        for family in families
        if not (family.name.endswith(_CREATED) and family.name.removesuffix(_CREATED) in begun)
        for told in _metrics(family, help_text if family.help is None else family.help)
    ]


def _counts(family: Family) -> bool:
    return (family.kind == "counter" and family.name.endswith("_total")) or family.kind in ("histogram", "summary")


def _metrics(family: Family, help_text: str) -> list[Told]:
    if family.kind == "summary":
        return _summary(family, help_text)
    if family.kind == "histogram":
        return _histogram(family, help_text)
    kind: MetricType = "gauge" if family.kind == "gauge" else "untyped"
    if family.kind == "counter":
        for point in family.points:
            if point.value < 0:
                raise BadText(point.line, f"the counter {point.name} is {point.value:g}; a counter never is below 0")
        kind = "counter" if family.name.endswith("_total") else "untyped"
    return [_plain(family.name, kind, help_text, family.unit, family.points)]


def _plain(name: str, kind: MetricType, help_text: str, unit: str, points: Sequence[Point]) -> Told:
    """A metric of one sample a series."""
    labels = _label_names(point.labels for point in points)
    metric = _metric(points[0].line, name, kind, help_text, unit, labels)
    seen: dict[tuple[str, ...], int] = {}
    samples = []
    for point in points:
        full = {label: point.labels.get(label, "") for label in labels}
        first = seen.setdefault(tuple(full.values()), point.line)
        if first != point.line:
            raise BadText(point.line, f"the same series of {name} is in line {first}; leave one of them")
        samples.append(_checked(metric, Sample(name, point.value, full, point.timestamp), point.line))
    return Told(metric, tuple(samples), points[0].line)


def _label_names(some: Iterable[Iterable[str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(label for labels in some for label in labels))


def _metric(
    line: int, name: str, kind: MetricType, help_text: str, unit: str, labels: tuple[str, ...],
    bounds: tuple[float, ...] = (),
) -> Metric:  # fmt: skip
    try:
        return Metric(name, kind, help_text, unit, labels, bounds)
    except MetricError as error:
        raise BadText(line, str(error)) from None


def _checked(metric: Metric, sample: Sample, line: int) -> Sample:
    try:
        check_sample({metric.name: metric}, sample)
    except MetricError as error:
        raise BadText(line, str(error)) from None
    return sample


# ---- summaries, and histograms that none of ours can hold ----------------------------------------------------


def _summary(family: Family, help_text: str) -> list[Told]:
    if any(point.name == family.name for point in family.points):
        return _apart(family, [_quantile(family, point) for point in family.points], help_text)
    series = _by_series(family)
    line, labels = family.points[0].line, tuple(series[0].labels)
    metric = _metric(line, family.name, "summary", help_text, family.unit, labels)
    samples = []
    for one in series:
        counted = [point and point.value for point in (one.count, one.sum)]
        samples.append(_checked(metric, Sample(family.name, None, one.labels, counted=counted), one.line))
    return [Told(metric, tuple(samples), line)]


def _quantile(family: Family, point: Point) -> Point:
    """The point with its quantile written as Prometheus writes it: 0.50 is the series of 0.5."""
    if point.name != family.name:
        return point
    if "quantile" not in point.labels:
        raise BadText(point.line, f"{point.name} of a summary has no label quantile; give it one, or another type")
    quantile = _bound(point, "quantile")
    return point._replace(labels={**point.labels, "quantile": repr(quantile).removesuffix(".0")})


def _apart(family: Family, points: Sequence[Point], help_text: str) -> list[Told]:
    by_name: dict[str, list[Point]] = {}
    for point in points:
        by_name.setdefault(point.name, []).append(point)
    return [_plain(name, "untyped", help_text, "", some) for name, some in by_name.items()]


def _bound(point: Point, label: str) -> float:
    written = point.labels[label]
    try:
        # float() also takes underscores, blanks and the digits of other scripts.
        value = float(written) if written.isascii() and "_" not in written and written.strip() == written else math.nan
    except ValueError:
        value = math.nan
    if math.isnan(value) or value == -math.inf:
        raise BadText(point.line, f"the label {label} of {point.name} is {shown(written)}; give a number")
    return value


# ---- histograms ----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Counted:
    """One series of a histogram or summary: its points by what they are of, a bucket under its bound."""

    line: int
    labels: dict[str, str]
    buckets: dict[float, Point] = field(default_factory=dict)
    count: Point | None = None
    sum: Point | None = None


def _histogram(family: Family, help_text: str) -> list[Told]:
    series = _by_series(family)
    counts = [_count(family.name, one) for one in series]
    bounds = tuple(sorted({bound for one in series for bound in one.buckets if bound != math.inf}))
    if not 1 <= len(bounds) <= MAX_BUCKETS:
        return _apart(family, family.points, help_text)
    line, labels = family.points[0].line, tuple(series[0].labels)
    metric = _metric(line, family.name, "histogram", help_text, family.unit, labels, bounds)
    samples = []
    for one, (count, total) in zip(series, counts, strict=True):
        found = [one.buckets[bound].value if bound in one.buckets else None for bound in bounds]
        samples.append(
            _checked(metric, Sample(family.name, None, one.labels, counted=(*found, count, total)), one.line)
        )
    return [Told(metric, tuple(samples), line)]


def _by_series(family: Family) -> list[_Counted]:
    labels = _label_names((name for name in point.labels if name != "le") for point in family.points)
    series: dict[tuple[str, ...], _Counted] = {}
    for point in family.points:
        full = {label: point.labels.get(label, "") for label in labels}
        _take(series.setdefault(tuple(full.values()), _Counted(point.line, full)), family.name, point)
    return list(series.values())


def _take(one: _Counted, name: str, point: Point) -> None:
    what = point.name.removeprefix(name)
    if what == "":
        raise BadText(
            point.line, f"the histogram {name} has a sample without _bucket, _sum or _count; give it its ending"
        )
    if what == "_bucket":
        if "le" not in point.labels:
            raise BadText(point.line, f"{point.name} has no label le; give it its upper bound")
        known = one.buckets.setdefault(_bound(point, "le"), point)
    elif "le" in point.labels:
        raise BadText(point.line, f"{point.name} has the label le; only the buckets have one")
    elif what == "_count":
        known = one.count = one.count or point
    else:
        known = one.sum = one.sum or point
    if known is not point:
        raise BadText(point.line, f"the same series of {point.name} is in line {known.line}; leave one of them")
    if what != "_sum" and not point.value >= 0:
        raise BadText(point.line, f"{point.name} is {point.value:g}; a count never is below 0, nor NaN")


def _count(name: str, one: _Counted) -> tuple[float, float]:
    """Count and sum of a series that is one: counts do not fall from bucket to bucket, and the last is that of all."""
    least, last = 0.0, None
    for _, point in sorted(one.buckets.items(), key=lambda item: item[0]):
        if point.value < least:
            raise BadText(point.line, f"{point.name} falls from {least:g} to {point.value:g}; buckets are cumulative")
        least, last = point.value, point
    every, count = one.buckets.get(math.inf), one.count
    if one.sum is None or (every is None and count is None):
        raise BadText(
            one.line, f"the histogram {name} lacks {name}_sum, or {name}_count and the bucket +Inf; give both"
        )
    total = every if every is not None else count
    assert total is not None
    if count is not None and (count.value != total.value or (last is not None and count.value < last.value)):
        raise BadText(count.line, f"{count.name} is {count.value:g}, but its buckets count {least:g}; they must agree")
    return total.value, one.sum.value
