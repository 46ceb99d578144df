"""/metrics: the latest sample of each series of each fresh ring, without timestamps.

A Prometheus server writes no staleness markers for samples with timestamps of their own, so the age of each ring is a
metric of the exporter instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from exporter.applications import Shown, shown_series
from exporter.exposition.conflicts import Conflict, Family, Placed, gather
from exporter.exposition.format import label_set
from exporter.exposition.template import TEXT_ONLY, UNGUARDED, FamilyLines, Line, Lines
from exporter.http.negotiation import Format
from exporter.http.parameters import MetricsQuery
from exporter.window import coverage
from shm.ring.frame import all_absent


class MetricsPage:
    """The layout of the page for one query and one set of catalogs; when a catalog grows, make a new one."""

    def __init__(self, rings: Sequence[Shown], query: MetricsQuery) -> None:
        """``rings``: in the order of precedence."""
        self.conflicts: list[Conflict]
        families, self.conflicts = gather(
            [(ring.source, shown_series(ring)) for ring in rings],
            lambda source, series: not query.sources or source in query.sources,
            coverage.NAMES,
        )
        self._widths = [ring.width for ring in rings]
        starts = offsets(self._widths)
        self._lines = Lines(
            FamilyLines(
                family.metric.family,
                family.metric.type,
                family.metric.help,
                family.metric.unit,
                [
                    Line(f"{name}{label_set(labels)}", at, guard)
                    for placed in family.placed
                    for name, labels, at, guard in samples(placed, starts[placed.ring])
                    if _named(name, family, query)
                ],
            )
            for family in families
        )
        self.memory_bytes = self._lines.memory_bytes

    def render(self, rings: Sequence[Shown], stale: Sequence[bool], form: Format) -> list[bytes]:
        """The text, in parts. ``rings``: those of the constructor, in its order; series of stale ones are left out."""
        return self._lines.parts(fresh_values(rings, self._widths, stale), form)


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
    names = query.names
    return not names or sample in names or family.metric.name in names or family.metric.family in names
