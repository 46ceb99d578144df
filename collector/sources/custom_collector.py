"""CustomCollectorSource: a custom collector of prometheus_client as a source.

https://prometheus.github.io/client_python/collector/custom/. Its families become metrics and samples by the rules of
text files (:mod:`collector.sources.textfile.translation`), and by these:

    counter                          counter NAME_total
    info, stateset                   gauge NAME_info, gauge NAME
    unknown, gaugehistogram          their samples as untyped metrics
    a timestamp of a single value    the sample's own time
    exemplars, ``_created``          omitted

A series that no ring can hold is omitted, with an error that names its family, and the others are kept. A family that
can't be held at all, such as one with a reserved label, is omitted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final, Protocol

from prometheus_client import Metric as Family
from prometheus_client.core import Sample

from collector.metrics import OPTIONAL, OWN
from collector.source import Collection, MetricSource
from collector.sources import prometheus_text
from collector.sources.prometheus_text import OPENMETRICS_KINDS, BadText, Point
from collector.sources.textfile.merge import Merged
from collector.sources.textfile.translation import ParsedMetric, translate
from shm.metric import Metric
from shm.safe_repr import said, shown

# The largest [collector] max_series. It bounds the memory that a generator without an end can take.
_MOST_SAMPLES: Final = 100_000
_MOST_FAMILIES: Final = 10_000

# Endings of the samples that form one metric; in other types each sample name is a metric.
_PARTS: Final = {"histogram": ("_bucket", "_count", "_sum"), "summary": ("", "_count", "_sum")}
_WITH_CREATED: Final = ("counter", "histogram", "summary")


class Collector(Protocol):
    def collect(self) -> Iterable[object]: ...


class CustomCollectorSource(MetricSource):
    """Collects ``collector``. Each collection declares its metrics."""

    metrics: Sequence[Metric] = ()

    def __init__(self, name: str, collector: Collector) -> None:
        self.name = name
        self._collector = collector

    def collect(self) -> Collection:
        merged = Merged((*OWN, *OPTIONAL), _MOST_SAMPLES)
        errors: list[str] = []
        families = list(islice(self._collector.collect(), _MOST_FAMILIES + 1))
        if len(families) > _MOST_FAMILIES:
            errors.append(f"collect() of source {self.name!r} returned over {_MOST_FAMILIES} families; return fewer")
        for family in families[:_MOST_FAMILIES]:
            if not isinstance(family, Family):
                errors.append(
                    f"collect() of source {self.name!r} returned {shown(family)}; return prometheus_client's metrics"
                )
                continue
            for name, kind, samples in _metrics(family):
                parsed, wrong = _translated(family, name, kind, samples)
                try:
                    merged.take("another family", parsed)
                except BadText as error:
                    wrong.append(error)
                errors += [f"metric family {family.name!r}: {_reason(error)}" for error in wrong]
        errors = list(dict.fromkeys(errors))  # a mistake of a family is found in each of its series
        return Collection(merged.samples, errors, bool(merged.samples or not errors), tuple(merged.metrics.values()))


def _metrics(family: Family) -> list[tuple[str, str, list[Sample]]]:
    """(name, type as in a text file, samples) of each metric of the family."""
    whole = {family.name + ending for ending in _PARTS.get(family.type, ())}
    created = f"{family.name}_created" if family.type in _WITH_CREATED else None
    found: dict[str, list[Sample]] = {}
    for sample in family.samples:
        if sample.name != created:
            found.setdefault(family.name if sample.name in whole else sample.name, []).append(sample)
    kind = OPENMETRICS_KINDS.get(family.type, family.type)
    return [(name, "untyped" if whole and name != family.name else kind, samples) for name, samples in found.items()]


def _translated(
    family: Family, name: str, kind: str, samples: Sequence[Sample]
) -> tuple[Sequence[ParsedMetric], list[Exception]]:
    """(metrics and samples that a ring can hold, errors of the others). Never raises."""
    series: dict[object, list[Sample]] = {}
    for sample in samples:
        labels = [item for item in sample.labels.items() if item[1] != "" and item[0] not in ("le", "quantile")]
        series.setdefault(str(sorted(map(str, labels))), []).append(sample)
    points: list[Point] = []
    errors: list[Exception] = []
    for some in series.values():
        try:
            points += [_point(sample, number, kind) for number, sample in enumerate(some, 1)]
        except Exception as error:  # noqa: BLE001 - a user's sample may make Python raise anything
            errors.append(error)
    if not points:
        return (), errors
    try:
        found, wrong = translate([prometheus_text.Family(name, kind, family.documentation, family.unit, points)], "")
    except Exception as error:  # noqa: BLE001 - as above
        return (), [*errors, error]
    return [one for metrics in found for one in metrics], [*wrong, *errors]


def _point(sample: Sample, number: int, kind: str) -> Point:
    """Raises BadText for a sample that no ring can hold, and any exception for a value that is not a number."""
    if getattr(sample, "native_histogram", None) is not None:
        raise BadText(number, f"{sample.name} is a native histogram; give it classic buckets")
    if sample.timestamp is not None and kind in _PARTS:
        raise BadText(number, f"{sample.name} has a timestamp, which only a single value may have; remove it")
    stamp = None if sample.timestamp is None else float(sample.timestamp)
    labels = {label: value for label, value in sample.labels.items() if value != ""}  # for Prometheus the same as none
    return Point(sample.name, labels, float(sample.value), number, stamp)


def _reason(error: Exception) -> str:
    return error.reason if isinstance(error, BadText) else said(error)
