"""Families: which series of which rings a page has, each once, no metric with two types.

Two rings may claim the same series, or one name for two types. The exporter's own series come first, then the rings by
name; what later ones claim is dropped, counted and named, so that the exposition is valid whatever the rings hold.
Series of one family with different labels are no conflict: a ring may add to a family of the exporter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from shm.metric import Metric, Series

# The source of the exporter's own series, which come from no ring.
EXPORTER: Final = ""


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


class _Owner(NamedTuple):
    metric: Metric
    source: str


def gather(
    rings: Sequence[tuple[str, Sequence[Series]]],
    chosen: Callable[[str, Series], bool] = lambda source, series: True,
    reserved: Set[str] = frozenset(),
) -> tuple[list[Family], list[Conflict]]:
    """(families sorted by name, conflicts) of the rings, given as (source, series) in the order of precedence.

    What is not ``chosen`` has its names and conflicts all the same: a filter must not change who owns a series.
    """
    owners: dict[str, _Owner] = {}
    families: dict[str, Family] = {}
    seen: dict[tuple[str, tuple[tuple[str, str], ...]], str] = {}
    dropped: dict[tuple[str, str, str], int] = {}
    for place, (source, all_series) in enumerate(rings):
        # The claim is the same for all series of a metric; but a forged catalog may define one name twice.
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
                owner = owners[metric.family].metric
                families.setdefault(metric.family, Family(owner)).placed.append(Placed(place, series))
    conflicts = [Conflict(*key, count) for key, count in dropped.items()]
    return [families[name] for name in sorted(families)], conflicts


def _claim(owners: dict[str, _Owner], source: str, metric: Metric, reserved: Set[str]) -> str:
    """Take the metric's names, or the reason why it can't have them."""
    names = metric.sample_names
    for name in names:
        if name in reserved:
            return f"the name {name} is the exporter's own"
        if name not in owners:
            continue
        owner, holder = owners[name].metric, _named(owners[name].source)
        if owner.family != metric.family:
            return f"its name {name} belongs to the {owner.type} {owner.name} of {holder}"
        if owner.type != metric.type:
            return f"it is of type {metric.type} here and {owner.type} in {holder}"
        if owner.buckets != metric.buckets:
            return f"its buckets differ from those in {holder}"
    for name in names:
        owners.setdefault(name, _Owner(metric, source))
    return ""


def _named(source: str) -> str:
    return "the exporter" if source == EXPORTER else f"ring {source!r}"
