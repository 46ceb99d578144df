"""/metrics: the latest sample of each series of each fresh ring.

Samples of counters, histograms and summaries have the time of their frame (``timestamps``). Without it, a server that
scrapes at another interval than the source's sees a counter stand still or make two steps at once, and computes rates
between zero and twice the right one. Gauges have none: a server marks a series without timestamps stale as soon as it
is gone, one with timestamps only if its configuration asks for that (track_timestamps_staleness).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from types import MappingProxyType
from typing import Final, get_args

import numpy as np
from numpy.typing import NDArray

from exporter.applications import Application, Shown, shown_series
from exporter.exposition.conflicts import Family, Gathered, Levels, Placed, gather
from exporter.exposition.names import Escaping, with_escaped
from exporter.exposition.node_groups import is_chosen
from exporter.exposition.template import TEXT_ONLY, UNGUARDED, FamilyLines, Line, Lines
from exporter.http.negotiation import Format
from exporter.http.parameters import MetricsQuery
from exporter.rings import Ring
from exporter.window import coverage
from shm.metric import MetricType
from shm.ring.frame import absent, all_absent

# By [exporter] timestamps, or the parameter of that name.
TIMED_TYPES: Final[Mapping[str, Set[str]]] = {
    "counters": {"counter", "histogram", "summary"},
    "all": set(get_args(MetricType)),
    "none": set(),
}

# The level of a sample that is current.
CURRENT: Final = 2


class MetricsPage:
    """The layout of the page for one query and one set of catalogs; when a catalog grows, make a new one."""

    def __init__(
        self,
        rings: Sequence[Shown],
        query: MetricsQuery,
        levels: Sequence[Levels] | None = None,
        holders: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """``levels``, ``holders``: see :func:`.gather`."""
        self.gathered: Gathered = gather(
            [(ring.source, shown_series(ring)) for ring in rings],
            lambda source, series: is_chosen(source, series, query),
            coverage.NAMES,
            levels,
            holders,
        )
        timed = TIMED_TYPES[query.timestamps]
        self._widths = [ring.width for ring in rings]
        starts = offsets(self._widths)
        self._lines = Lines(
            FamilyLines(
                family.metric.family,
                family.metric.type,
                family.metric.help,
                family.metric.unit,
                [
                    Line(name.removeprefix(family.metric.family), labels, at, guard, family.metric.type in timed)
                    for placed in family.placed
                    for name, labels, at, guard in samples(placed, starts[placed.ring])
                    if _named(name, family, query)
                ],
            )
            for family in self.gathered.families
        )
        self.memory_bytes = self._lines.memory_bytes

    def render(
        self,
        rings: Sequence[Shown],
        stale: Sequence[bool],
        form: Format,
        escaping: Escaping = Escaping.UNDERSCORES,
    ) -> list[bytes]:
        """The text, in parts. ``rings``: those of the constructor, in its order; series of stale ones are left out."""
        values, times_ms = fresh_values(rings, self._widths, stale), sample_times_ms(rings, self._widths)
        return self._lines.parts(values, form, times_ms, escaping)


def offsets(widths: Sequence[int]) -> list[int]:
    """The index of each ring's first column in the vector of :func:`fresh_values`."""
    return [0, *np.cumsum(widths, dtype=int).tolist()]


def fresh_values(rings: Sequence[Shown], widths: Sequence[int], stale: Sequence[bool]) -> NDArray[np.float64]:
    """The latest values of all rings, concatenated; absent if a ring is stale or its width has changed."""
    rows = [
        all_absent(width) if is_stale or len(ring.latest) != width else ring.latest
        for ring, width, is_stale in zip(rings, widths, stale, strict=True)
    ]
    return np.concatenate([all_absent(0), *rows])


def sample_times_ms(rings: Sequence[Shown], widths: Sequence[int]) -> NDArray[np.int64]:
    """The times of those values in Unix milliseconds; 0 for live values, which come from no ring."""
    rows = [
        ring.times_ms if isinstance(ring, Ring) and len(ring.times_ms) == width else np.zeros(width, dtype=np.int64)
        for ring, width in zip(rings, widths, strict=True)
    ]
    return np.concatenate([np.zeros(0, dtype=np.int64), *rows])


def present_levels(rings: Sequence[Shown], stale: Sequence[bool]) -> list[NDArray[np.int8]]:
    """Levels for :func:`.gather`: CURRENT where a ring has a sample and is not stale, 1 in an application without
    processes, whose counts stay on the page but hide nothing that is counted now.
    """
    return [
        np.zeros(ring.width, dtype=np.int8)
        if is_stale
        else np.where(absent(ring.latest), 0, 1 if _ended(ring) else CURRENT).astype(np.int8)
        for ring, is_stale in zip(rings, stale, strict=True)
    ]


def _ended(ring: Shown) -> bool:
    return isinstance(ring, Application) and not ring.reader.processes


def samples(placed: Placed, offset: int) -> Iterator[tuple[str, list[tuple[str, str]], int, int]]:
    """(sample name, labels, index of the value, guard) of each sample of a series, in exposition order."""
    series = placed.series
    metric = series.metric
    pairs = list(series.labels.items())
    for name, bound, column in series.samples():
        guard = offset + column
        if metric.type not in ("counter", "histogram", "summary"):
            guard = UNGUARDED
        elif metric.type == "histogram" and not bound:
            # If samples may be below 0, the sum is not a counter, and OpenMetrics allows neither sum nor count.
            guard = TEXT_ONLY if metric.buckets[0] < 0 else offset + series.end - 1
        yield name, [*pairs, ("le", bound)] if bound else pairs, offset + column, guard


def _named(sample: str, family: Family, query: MetricsQuery) -> bool:
    """True if ``name[]`` is the metric's name, or the name of this sample, or is not given."""
    return not query.names or not with_escaped((sample, family.metric.name, family.metric.family)).isdisjoint(
        query.names
    )
