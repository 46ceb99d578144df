"""/metrics/aggregated: statistics of each series over a rolling window, as gauges with the label ``stat``.

The lines are made once for a set of catalogs and a query; a request reads the windows and computes one vector
(compute). After the statistics come the gauges of what the windows cover (coverage).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from exporter.exposition.conflicts import Levels, gather
from exporter.exposition.names import Escaping, with_escaped
from exporter.exposition.node_groups import HOST, is_chosen
from exporter.exposition.template import FamilyLines, Line, Lines
from exporter.http.negotiation import Format
from exporter.http.parameters import AggregatedQuery
from exporter.rings import Ring
from exporter.window import coverage
from exporter.window.compute import Keep, compute, lay_out
from exporter.window.ring_window import Windows
from shm.metric import Series
from shm.ring.series import names_of


class AggregatedPage:
    """The page for one query with any window, and one set of catalogs.

    ``indexes``: of the rings whose series are on the page.
    """

    def __init__(
        self,
        rings: Sequence[Ring],
        query: AggregatedQuery,
        levels: Sequence[Levels] | None = None,
        holders: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """``levels``, ``holders``: see :func:`.gather`."""

        # The daemon's own metrics and the host are on the page only if the request chooses series. Alerts and
        # dashboards select both without the label ``stat``. Here each would have seven series more, and an alert would
        # fire as long as the minimum of the window is old.
        def chosen(source: str, series: Series) -> bool:
            labels = series.labels
            return (
                is_chosen(source, series, query)
                and (query.asks or not (series.metric.own or source == HOST))
                and query.selects(with_escaped(names_of(series.metric)), labels)
                and (query.by is None or query.by in labels)
            )

        self.gathered = gather([(ring.source, ring.series) for ring in rings], chosen, coverage.NAMES, levels, holders)
        families = self.gathered.families
        self._parts, rows = lay_out(families, query.stats, query.by)
        self._lines = Lines(
            FamilyLines(
                metric.family,
                "gauge",
                f"Over a window: {metric.help}",
                metric.unit,
                [
                    Line("", [*labels.items(), ("stat", stat)], at)
                    for labels, places in rows[metric.family]
                    for stat, at in places.items()
                ],
            )
            for metric in (family.metric for family in families)
        )
        self.memory_bytes = self._lines.memory_bytes
        self.indexes = {ring for part in self._parts for ring in part.rings}
        self._coverage = coverage.Coverage(rings, self.indexes)

    def render(
        self,
        windows: Windows,
        form: Format,
        keep: Keep | None = None,
        escaping: Escaping = Escaping.UNDERSCORES,
    ) -> list[bytes]:
        """The text, in parts. ``windows``: of the rings that ``indexes`` select; those that can't be read are left out.

        ``keep``: see :func:`.compute`.
        """
        vector = compute(self._parts, windows, keep)
        return [*self._lines.parts(vector, form, escaping=escaping), *self._coverage.render(windows, form)]
