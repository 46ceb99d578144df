"""Translates the families of a text to metrics and samples of a ring.

    counter NAME_total          counter
    counter of another name     untyped, since counters of a ring are called NAME_total and series keep their names
    gauge, untyped              gauge, untyped
    histogram                   histogram with the bounds of all its series; bounds that a series lacks are absent
    summary                     summary: its count and its sum

A family that its type can't hold in a ring becomes untyped metrics, one per sample name: a summary with quantiles; a
histogram without a sum, without a count, without a finite bound, or with more than 64 bounds; a family with a label
``le`` or ``quantile`` of its own. A family that no metric of a ring can hold is omitted, with an error: a label
``stat``, more than 32 labels, a name of more than 200 characters or with one that can't be printed. Of a family with
series that are wrong, only these are omitted. Of a series given twice, the first sample is kept.

The label names of a metric are those of all its series; a label that a series lacks is empty, which means the same to
Prometheus. ``NAME_created`` next to a counter NAME_total, histogram NAME or summary NAME, as prometheus_client writes
it, is omitted: in OpenMetrics it is the time at which a counter began.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from collector.frame.samples import checked, series_name
from collector.source import Sample
from collector.sources.prometheus_text import BadText, Family, Point, to_number
from shm.errors import MetricError
from shm.metric import MAX_HELP, MAX_NAME, Metric, MetricType
from shm.safe_repr import shown

_CREATED: Final = "_created"
_BOUNDS: Final = {"histogram": "le", "summary": "quantile"}  # labels that are numbers


@dataclass(frozen=True, slots=True)
class ParsedMetric:
    """One metric of a text, its samples, and the line of the first sample."""

    metric: Metric
    samples: tuple[Sample, ...]
    line: int


class _Unfit(BadText):
    """The family's type can't hold it in a ring; untyped metrics may."""


def translate(families: Sequence[Family], help_text: str) -> tuple[list[list[ParsedMetric]], list[BadText]]:
    """Translate families and check each sample: (metrics of each family, errors of what is omitted). Pure.

    ``help_text``: for metrics without HELP.
    """
    cumulative = {one.name.removesuffix("_total") for one in families if _is_cumulative(one)}
    found: list[list[ParsedMetric]] = []
    errors: list[BadText] = []
    for family in families:
        if family.name.endswith(_CREATED) and family.name.removesuffix(_CREATED) in cumulative:
            continue
        if family.wrong:
            errors.append(family.wrong)
            continue
        points, repeated = _distinct(family)
        help_of = (help_text if family.help is None else family.help)[:MAX_HELP]
        metrics, wrong = _right(replace(family, points=points), help_of)
        if metrics:
            found.append(metrics)
        errors += repeated + wrong
    return found, errors


def _distinct(family: Family) -> tuple[list[Point], list[BadText]]:
    """(the first sample of each series, errors of the others)."""
    first: dict[object, Point] = {}
    errors = []
    for point in family.points:
        labels = {label: value for label, value in sorted(point.labels.items()) if value}
        bound = _BOUNDS.get(family.kind, "")
        number = to_number(labels.get(bound, ""))
        same = labels if number is None else {**labels, bound: number}  # 1 and 1.0 are one bound
        if first.setdefault((point.name, *same.items()), point) is not point:
            series = series_name(point.name, labels, labels.values())
            errors.append(BadText(point.line, f"two samples of {series}; the first is kept, remove the other"))
    return list(first.values()), errors


def _right(family: Family, help_text: str) -> tuple[list[ParsedMetric], list[BadText]]:
    """(metrics of the family's right series, errors of the others)."""
    try:
        return _metrics(family, help_text), []
    except BadText as error:
        whole = error
    series: dict[tuple[tuple[str, str], ...], list[Point]] = {}
    for point in family.points:
        labels = sorted(item for item in point.labels.items() if item[1] and item[0] not in ("le", "quantile"))
        series.setdefault(tuple(labels), []).append(point)
    good: list[Point] = []
    errors: list[BadText] = []
    for points in series.values():
        try:
            _metrics(replace(family, points=points), help_text)
            good += points
        except BadText as error:
            errors.append(error)
    try:
        return (_metrics(replace(family, points=good), help_text), errors) if good and errors else ([], [whole])
    except BadText as error:  # each series is right, but together they are not
        return [], [error]


def _is_cumulative(family: Family) -> bool:
    return (family.kind == "counter" and family.name.endswith("_total")) or family.kind in ("histogram", "summary")


def _metrics(family: Family, help_text: str) -> list[ParsedMetric]:
    try:
        return _typed(family, help_text)
    except _Unfit:
        return _untyped(family, family.points, help_text)


def _typed(family: Family, help_text: str) -> list[ParsedMetric]:
    if family.kind == "summary":
        return _summary(family, help_text)
    if family.kind == "histogram":
        return _histogram(family, help_text)
    kind: MetricType = "gauge" if family.kind == "gauge" else "untyped"
    if family.kind == "counter":
        for point in family.points:
            if point.value < 0:
                raise BadText(point.line, f"the counter {point.name} is {point.value:g}; a counter is never below 0")
        kind = "counter" if family.name.endswith("_total") else "untyped"
    return [_plain(family.name, kind, help_text, family.unit[:MAX_NAME], family.points)]


def _plain(name: str, kind: MetricType, help_text: str, unit: str, points: Sequence[Point]) -> ParsedMetric:
    """A metric with one sample per series."""
    labels = _label_names(point.labels for point in points)
    metric = _metric(points[0].line, name, kind, help_text, unit, labels)
    samples = []
    for point in points:
        full = {label: point.labels.get(label, "") for label in labels}
        samples.append(_checked(metric, Sample(name, point.value, full, point.timestamp), point.line))
    return ParsedMetric(metric, tuple(samples), points[0].line)


def _label_names(some: Iterable[Iterable[str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(label for labels in some for label in labels))


def _metric(
    line: int, name: str, kind: MetricType, help_text: str, unit: str, labels: tuple[str, ...],
    bounds: tuple[float, ...] = (),
) -> Metric:  # fmt: skip
    try:
        return Metric(name, kind, help_text, unit, labels, bounds)
    except MetricError as error:
        raise _Unfit(line, str(error)) from None


def _checked(metric: Metric, sample: Sample, line: int) -> Sample:
    try:
        checked(metric, sample)
    except MetricError as error:
        raise BadText(line, str(error)) from None
    return sample


# ---- summaries, and families that a ring can't hold as what they are -----------------------------------------


def _summary(family: Family, help_text: str) -> list[ParsedMetric]:
    if any(point.name == family.name for point in family.points):
        return _untyped(family, [_quantile(family, point) for point in family.points], help_text)
    series = _by_series(family)
    line, labels = family.points[0].line, tuple(series[0].labels)
    metric = _metric(line, family.name, "summary", help_text, family.unit[:MAX_NAME], labels)
    samples = []
    for one in series:
        counted = [point and point.value for point in (one.count, one.sum)]
        samples.append(_checked(metric, Sample(family.name, None, one.labels, counted=counted), one.line))
    return [ParsedMetric(metric, tuple(samples), line)]


def _quantile(family: Family, point: Point) -> Point:
    """The point with its quantile as Prometheus writes it: 0.50 is the series of 0.5."""
    if point.name != family.name:
        return point
    if "quantile" not in point.labels:
        raise BadText(point.line, f"{point.name} of a summary has no label quantile; add one, or change the type")
    quantile = _bound(point, "quantile")
    return point._replace(labels={**point.labels, "quantile": repr(quantile).removesuffix(".0")})


def _untyped(family: Family, points: Sequence[Point], help_text: str) -> list[ParsedMetric]:
    """The samples of a family as untyped metrics, one per sample name."""
    by_name: dict[str, list[Point]] = {}
    for point in points:
        by_name.setdefault(point.name, []).append(point)
    return [_plain(name, "untyped", help_text, "", some) for name, some in by_name.items()]


def _bound(point: Point, label: str) -> float:
    written = point.labels[label]
    value = to_number(written)
    if value is None or math.isnan(value) or value == -math.inf:
        raise BadText(point.line, f"the label {label} of {point.name} is {shown(written)}; give a number")
    return value


# ---- histograms ----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Counted:
    """One series of a histogram or summary: its points for each bucket, by bound, the count and the sum."""

    line: int
    labels: dict[str, str]
    buckets: dict[float, Point] = field(default_factory=dict)
    count: Point | None = None
    sum: Point | None = None


def _histogram(family: Family, help_text: str) -> list[ParsedMetric]:
    series = _by_series(family)
    counts = [_count(family.name, one) for one in series]
    bounds = tuple(sorted({bound for one in series for bound in one.buckets if bound != math.inf}))
    line, labels = family.points[0].line, tuple(series[0].labels)
    metric = _metric(line, family.name, "histogram", help_text, family.unit[:MAX_NAME], labels, bounds)
    samples = []
    for one, (count, total) in zip(series, counts, strict=True):
        found = [one.buckets[bound].value if bound in one.buckets else None for bound in bounds]
        samples.append(
            _checked(metric, Sample(family.name, None, one.labels, counted=(*found, count, total)), one.line)
        )
    return [ParsedMetric(metric, tuple(samples), line)]


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
        raise BadText(point.line, f"the histogram {name} has a sample without _bucket, _sum or _count; add the ending")
    if what == "_bucket":
        if "le" not in point.labels:
            raise BadText(point.line, f"{point.name} has no label le; add it with the upper bound")
        one.buckets[_bound(point, "le")] = point
    elif "le" in point.labels:
        raise _Unfit(point.line, f"{point.name} has the label le, which is for buckets; remove it")
    elif what == "_count":
        one.count = point
    else:
        one.sum = point
    if what != "_sum" and not point.value >= 0:
        raise BadText(point.line, f"{point.name} is {point.value:g}; give a count, 0 or more")


def _count(name: str, one: _Counted) -> tuple[float, float]:
    """(count, sum) of a series. Raises BadText if they are missing, counts fall from bucket to bucket, or the last is
    not the total."""
    least = 0.0
    for _, point in sorted(one.buckets.items(), key=lambda item: item[0]):
        if point.value < least:
            raise BadText(point.line, f"{point.name} falls from {least:g} to {point.value:g}; buckets are cumulative")
        least = point.value
    count = one.count
    total = one.buckets.get(math.inf) or count
    if one.sum is None or total is None:
        raise _Unfit(one.line, f"the histogram {name} lacks {name}_sum, or {name}_count and the bucket +Inf")
    if count is not None and (count.value != total.value or count.value < least):
        raise BadText(count.line, f"{count.name} is {count.value:g}, but its buckets count {least:g}; they must agree")
    return total.value, one.sum.value
