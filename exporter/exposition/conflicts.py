"""Group the series of all rings into families, each series once, and report conflicts.

Two rings may have the same series, or metrics of one name with different types; one ring may, too, after its source
changed a metric. So that the exposition is always valid, a name belongs to one metric:

    the exporter's own                 always first
    a metric with samples              before one without; a stale ring has none. Those of an application without
                                       processes come after those of living ones
    of these: the one that had it      before others, so that names don't move while both have samples
    of these: the first ring by name

Names that are equal only with escapes (names.py) are in conflict, too, since some client gets them so: which series a
page has does not depend on the client. A conflict is reported if it hides samples. Rings may add series with other
labels to a family, also to one of the exporter's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from exporter.exposition.names import label_spellings, spellings
from shm.metric import Metric, Series

# The source of the exporter's own series, which come from no ring.
EXPORTER: Final = ""

# For each column of a ring: 0 if it has no samples; of two columns with samples, the greater number has precedence.
Levels = Sequence[int] | NDArray[np.int8]


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


class _Claim(NamedTuple):
    """A metric of one ring, with its series. Claims are served in the order of ``rank``."""

    rank: tuple[bool, int, bool, int]
    ring: int
    source: str
    metric: Metric
    series: list[Series]

    def placed(self) -> list[Placed]:
        return [Placed(self.ring, one) for one in self.series]


@dataclass(slots=True)
class Gathered:
    """``families`` by name, and the ``conflicts`` that hide samples.

    ``contested``: the series of metrics that claim each other's names or series. Gather again when their levels change
    (:class:`Precedence`). ``holders``: the source of each name.
    """

    families: list[Family]
    conflicts: list[Conflict]
    contested: list[Placed]
    holders: dict[str, str]


class Precedence:
    """The part of :func:`gather`'s results that later pages depend on. ``holders``: the source of each name.

    ``contested``: the series of metrics that claim each other's names or series, of the rings named by :meth:`begin`.
    """

    def __init__(self) -> None:
        self.contested: list[Placed] = []
        self.holders: dict[str, str] = {}
        self._rings: object = None

    def begin(self, rings: object) -> None:
        """``rings``: a key of the rings and their series."""
        if rings != self._rings:
            self._rings, self.contested = rings, []

    def state(self, levels: Sequence[Levels]) -> tuple[int, ...]:
        """What decides the contested series: their levels. When it changes, gather again."""
        return tuple(_level(levels, placed) for placed in self.contested)

    def note(self, gathered: Gathered) -> bool:
        """Keep a result; True if it has contested series that were not known."""
        new = [placed for placed in gathered.contested if placed not in self.contested]
        self.contested += new
        self.holders = gathered.holders
        return bool(new)


def _level(levels: Sequence[Levels], placed: Placed) -> int:
    """The level of a series: the highest of its columns."""
    series = placed.series
    return int(max(levels[placed.ring][series.column : series.end], default=0))


def gather(
    rings: Sequence[tuple[str, Sequence[Series]]],
    chosen: Callable[[str, Series], bool] = lambda source, series: True,
    reserved: Set[str] = frozenset(),
    levels: Sequence[Levels] | None = None,
    holders: Mapping[str, str] = MappingProxyType({}),
) -> Gathered:
    """Gather the series of ``rings``, given as (source, series), sorted by source.

    Series that are not ``chosen`` still own names and cause conflicts: a filter must not change the owner of a series.
    ``levels``: by ring, None if all columns have samples. ``holders``: of the gathering before.
    """
    # A slice of a list is faster than one of an array.
    lists = None if levels is None else [list(map(int, one)) for one in levels]

    def level(placed: Placed) -> int:
        return 1 if lists is None else _level(lists, placed)

    owners: dict[str, _Claim] = {}  # of names
    label_names: dict[tuple[str, str], str] = {}  # by family and spelling
    seen: dict[tuple[str, tuple[tuple[str, str], ...]], tuple[Placed, _Claim]] = {}
    dropped: Counter[tuple[str, str, str]] = Counter()
    contested: dict[Placed, None] = {}

    def drop(placed: Placed, claim: _Claim, reason: str) -> None:
        if level(placed):
            dropped[claim.source, claim.metric.name, reason] += 1

    for claim in sorted(_claims(rings, level, holders), key=lambda one: one.rank):
        reason, rival = _take_names(owners, label_names, claim, reserved)
        if reason:
            contested |= dict.fromkeys([*claim.placed(), *(rival.placed() if rival else ())])
            for placed in claim.placed():
                drop(placed, claim, reason)
            continue
        for placed in claim.placed():
            labels = sorted(pair for pair in placed.series.labels.items() if pair[1])
            identity = claim.metric.family, tuple(labels)
            if identity not in seen:
                seen[identity] = placed, claim
                continue
            before, holder = seen[identity]
            contested |= {before: None, placed: None}
            if level(placed) > level(before):  # a metric may have samples of other series
                seen[identity] = placed, claim
                drop(before, holder, f"{_named(claim.source)} has the same series")
            else:
                drop(placed, claim, f"{_named(holder.source)} has the same series")
    families: dict[str, Family] = {}
    for (name, _), (placed, claim) in seen.items():
        if chosen(claim.source, placed.series):
            families.setdefault(name, Family(owners[name].metric)).placed.append(placed)
    for family in families.values():
        family.placed.sort(key=lambda one: (one.ring, one.series.column))
    conflicts = [Conflict(*key, count) for key, count in dropped.items()]
    sources = {name: claim.source for name, claim in owners.items()}
    return Gathered([families[name] for name in sorted(families)], conflicts, list(contested), sources)


def _claims(
    rings: Sequence[tuple[str, Sequence[Series]]], level: Callable[[Placed], int], holders: Mapping[str, str]
) -> Iterator[_Claim]:
    for ring, (source, all_series) in enumerate(rings):
        # By metric, not by name: a forged catalog may define a name twice.
        by_metric: dict[Metric, list[Series]] = {}
        for series in all_series:
            by_metric.setdefault(series.metric, []).append(series)
        for metric, some in by_metric.items():
            highest = max(level(Placed(ring, one)) for one in some)
            moved = not any(holders.get(name) == source for name in metric.sample_names)
            yield _Claim((source != EXPORTER, -highest, moved, ring), ring, source, metric, some)


def _take_names(
    owners: dict[str, _Claim], label_names: dict[tuple[str, str], str], claim: _Claim, reserved: Set[str]
) -> tuple[str, _Claim | None]:
    """Register the metric's names to it; else why that is impossible, and the claim that has one of them.

    ``label_names``: those of each family, by the family's name and each spelling of the label's.
    """
    metric, names = claim.metric, spellings(claim.metric)
    for name in names:
        if name in reserved:
            return f"the name {name} is the exporter's own", None
        if name not in owners:
            continue
        holder = owners[name]
        owner, where = holder.metric, _named(holder.source)
        if owner.family != metric.family:
            escaped = "" if name in owner.sample_names and name in metric.sample_names else ", with escapes,"
            return f"its name {name} belongs{escaped} to the {owner.type} {owner.name} of {where}", holder
        if owner.type != metric.type:
            return f"it is of type {metric.type} here and {owner.type} in {where}", holder
        if owner.buckets != metric.buckets:
            return f"its buckets differ from those in {where}", holder
    own = {(metric.family, spelling): label for label in metric.label_names for spelling in label_spellings(label)}
    for label in metric.label_names:
        for spelling in label_spellings(label):
            other = label_names.get((metric.family, spelling)) or own[metric.family, spelling]
            if other != label:
                return f"its label {label} is {spelling} with escapes, as {other} is", owners.get(metric.family)
    label_names |= own
    for name in names:
        owners.setdefault(name, claim)
    return "", None


def _named(source: str) -> str:
    return "the exporter" if source == EXPORTER else f"ring {source!r}"
