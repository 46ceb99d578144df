"""Families: which series of which rings a page has, each once, no metric with two types.

Two rings may claim the same series, or one name for two types. The first ring by name has it; what the others claim
is dropped, counted and named, so that the exposition is valid whatever the rings hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from shm.catalog import Metric, Series


@dataclass(frozen=True, slots=True)
class Placed:
    """A series and which ring (by its place in the list) holds it."""

    ring: int
    series: Series


@dataclass(slots=True)
class Family:
    """All series of one metric name, over all rings."""

    metric: Metric
    placed: list[Placed] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Conflict:
    """Something a ring claimed that another had already. ``series``: how many were dropped for it."""

    source: str
    metric: str
    reason: str
    series: int


def sample_names(metric: Metric) -> tuple[str, ...]:
    """Every name under which samples of the metric, or the metric itself, appear on a page."""
    name = metric.family
    if metric.type == "counter":
        return (name, f"{name}_total")
    if metric.type == "histogram":
        return (name, f"{name}_bucket", f"{name}_sum", f"{name}_count")
    return (name,)


def gather(
    rings: Sequence[tuple[str, Sequence[Series]]], chosen: Callable[[str, Series], bool] = lambda source, series: True
) -> tuple[list[Family], list[Conflict]]:
    """(families sorted by name, conflicts) of the rings, given as (source, series) in the order of precedence."""
    owners: dict[str, Metric] = {}
    families: dict[str, Family] = {}
    seen: set[tuple[str, tuple[tuple[str, str], ...]]] = set()
    dropped: dict[tuple[str, str, str], int] = {}
    for place, (source, all_series) in enumerate(rings):
        for series in all_series:
            metric = series.metric
            reason = _claim(owners, metric)
            if not reason:
                identity = metric.family, tuple(sorted(series.labels.items()))
                reason = "the same series is in another ring" if identity in seen else ""
                seen.add(identity)
            if reason:
                key = source, metric.name, reason
                dropped[key] = dropped.get(key, 0) + 1
            elif chosen(source, series):
                families.setdefault(metric.family, Family(owners[metric.family])).placed.append(Placed(place, series))
    conflicts = [Conflict(*key, count) for key, count in dropped.items()]
    return [families[name] for name in sorted(families)], conflicts


def _claim(owners: dict[str, Metric], metric: Metric) -> str:
    """Take the metric's names, or the reason why it can't have them."""
    for name in sample_names(metric):
        owner = owners.get(name)
        if owner is None:
            continue
        if owner.family != metric.family:
            return f"its name {name} belongs to the {owner.type} {owner.name}"
        if owner.type != metric.type:
            return f"it is a {metric.type} here and a {owner.type} in another ring"
        if owner.buckets != metric.buckets:
            return "its buckets differ from those in another ring"
    for name in sample_names(metric):
        owners.setdefault(name, metric)
    return ""


def metrics_of(families: Iterable[Family]) -> list[Metric]:
    return [family.metric for family in families]
