"""Group the series of all rings into families, each series once, and report conflicts.

Two rings may have the same series, or metrics of one name with different types. The exporter's own series have
precedence, then the rings by name; conflicting series of later rings are dropped, counted and reported, so that the
exposition is always valid. Rings may add series with other labels to a family, also to one of the exporter's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from shm.metric import Metric, Series

# The source of the exporter's own series, which come from no ring.
EXPORTER: Final = ""


class Placed(NamedTuple):
    """A series, and the index of its ring in the list."""

    ring: int
    series: Series


@dataclass(slots=True)
class Family:
    """All series of one metric name, ring by ring."""

    metric: Metric
    placed: list[Placed] = field(default_factory=list)


class Conflict(NamedTuple):
    """A claim of a ring to a name or series that another ring has. ``series``: how many series were dropped for it."""

    source: str
    metric: str
    reason: str
    series: int


def gather(
    rings: Sequence[tuple[str, Sequence[Series]]],
    chosen: Callable[[str, Series], bool] = lambda source, series: True,
    reserved: Set[str] = frozenset(),
) -> tuple[list[Family], list[Conflict]]:
    """(families sorted by name, conflicts) of the rings, given as (source, series) in the order of precedence.

    Series that are not ``chosen`` still own names and cause conflicts: a filter must not change the owner of a series.
    """
    owners: dict[str, tuple[Metric, str]] = {}  # metric and source that own a name
    families: dict[str, Family] = {}
    seen: dict[tuple[str, tuple[tuple[str, str], ...]], str] = {}
    dropped: dict[tuple[str, str, str], int] = {}
    for place, (source, all_series) in enumerate(rings):
        # All series of a metric share one claim. By metric, not by name: a forged catalog may define a name twice.
        reasons: dict[Metric, str] = {}
        for series in all_series:
            metric = series.metric
            reason = reasons.get(metric)
            if reason is None:
                reason = reasons[metric] = _claim(owners, source, metric, reserved)
            if not reason:
                identity = metric.family, tuple(sorted(pair for pair in series.labels.items() if pair[1]))
                if identity in seen:
                    reason = f"{_named(seen[identity])} has the same series"
                seen.setdefault(identity, source)
            if reason:
                key = source, metric.name, reason
                dropped[key] = dropped.get(key, 0) + 1
            elif chosen(source, series):
                owner, _ = owners[metric.family]
                families.setdefault(metric.family, Family(owner)).placed.append(Placed(place, series))
    conflicts = [Conflict(*key, count) for key, count in dropped.items()]
    return [families[name] for name in sorted(families)], conflicts


def _claim(owners: dict[str, tuple[Metric, str]], source: str, metric: Metric, reserved: Set[str]) -> str:
    """Register the metric's names to it; return why that is impossible, or ""."""
    names = metric.sample_names
    for name in names:
        if name in reserved:
            return f"the name {name} is the exporter's own"
        if name not in owners:
            continue
        owner, holder = owners[name]
        if owner.family != metric.family:
            return f"its name {name} belongs to the {owner.type} {owner.name} of {_named(holder)}"
        if owner.type != metric.type:
            return f"it is of type {metric.type} here and {owner.type} in {_named(holder)}"
        if owner.buckets != metric.buckets:
            return f"its buckets differ from those in {_named(holder)}"
    for name in names:
        owners.setdefault(name, (metric, source))
    return ""


def _named(source: str) -> str:
    return "the exporter" if source == EXPORTER else f"ring {source!r}"
