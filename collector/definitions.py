"""The metrics that a collector declares, and their way into the catalog of its ring."""

from __future__ import annotations

import logging

from shm.catalog import Metric, Series
from shm.errors import MetricError, NoSpace
from shm.writer import RingWriter

log = logging.getLogger(__name__)


class Definitions:
    """What was declared, by name in ``metrics``.

    ``waiting``: names of those that the ring knows by another definition, as after an upgrade, and has no room to be
    rebuilt for. Their samples would not fit its columns, and can't be appended until there is.
    """

    def __init__(self, ring: str) -> None:
        self.metrics: dict[str, Metric] = {}
        self.waiting: frozenset[str] = frozenset()
        self._ring = ring
        self._new = False

    def declare(self, metric: Metric) -> None:
        """The same one again is fine; another under its name is a MetricError."""
        known = self.metrics.setdefault(metric.name, metric)
        self._new = True
        if known != metric:
            raise MetricError(
                f"metric {metric.name!r} is registered as {known}, and can't also be {metric}; rename one"
            )

    def enter(self, writer: RingWriter) -> bool:
        """Put every one into the catalog, samples or none, so that readers know what could come.

        False where there was nothing to do. Never raises NoSpace: what found no room is said in the log once, and
        changed definitions are tried again the next time.
        """
        if not self._new:
            return False
        lost = self._redefine(writer)
        if lost:
            log.warning("metrics begin anew", extra={
                "ring": self._ring, "metrics": ",".join(lost), "error": "their type, labels or buckets changed",
            })  # fmt: skip
        for metric in self.metrics.values():
            if metric.name not in self.waiting:
                try:
                    writer.add_metric(metric)
                except NoSpace as error:
                    log.error(
                        "metric not entered", extra={"ring": self._ring, "metric": metric.name, "error": str(error)}
                    )
        self._new = bool(self.waiting)
        return True

    def _redefine(self, writer: RingWriter) -> list[str]:
        """Names of the metrics that begin anew."""
        try:
            lost = writer.redefine(self.metrics.values())
        except NoSpace as error:
            known = writer.metrics
            before = self.waiting
            self.waiting = frozenset(name for name, one in self.metrics.items() if known.get(name, one) != one)
            if self.waiting != before:
                log.error("metrics not redefined", extra={
                    "ring": self._ring, "metrics": ",".join(sorted(self.waiting)), "error": str(error),
                })  # fmt: skip
            return []
        self.waiting = frozenset()
        return lost

    def fits(self, series: Series) -> bool:
        """Whether the series in the ring has the columns that its metric, as declared here, would give it."""
        declared = self.metrics.get(series.metric.name)
        return declared is None or declared.shape == series.metric.shape
