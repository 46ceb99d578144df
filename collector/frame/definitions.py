"""Definitions: the metrics that a collector declares, and how they enter the catalog of its ring."""

from __future__ import annotations

import logging

from collector.frame.rules import Rules
from shm.errors import MetricError, NoSpace
from shm.metric import Metric, Series
from shm.ring.writer import RingWriter

log = logging.getLogger(__name__)


class Definitions:
    """The declared metrics, by name in ``metrics``, with the buckets that ``rules`` configure.

    ``waiting``: names of metrics whose definition in the ring is another one, as after an upgrade, while there is no
    room to rebuild the ring. Their samples don't match its columns and can't be appended until there is.

    Configured buckets don't apply to a histogram counted by another program, and only its first sample shows which
    kind it is. So a histogram with configured buckets enters the ring with its first sample.
    """

    def __init__(self, ring: str, rules: Rules) -> None:
        self.metrics: dict[str, Metric] = {}
        self.waiting: frozenset[str] = frozenset()
        self._ring = ring
        self._rules = rules
        self._declared: dict[str, Metric] = {}  # as declared, of metrics whose buckets the rules change
        self._undecided: set[str] = set()  # of those, the ones without a sample so far
        self._counted: set[str] = set()  # by another program
        self._warned: set[str] = set()
        self._new = False

    def declare(self, metric: Metric) -> None:
        """Declare a metric. Raises MetricError for a second definition of its name, or an invalid rule for it."""
        if self.metrics.get(metric.name) == metric:
            return  # may be called at each tick
        if flaw := self._rules.flaw(metric):
            raise MetricError(flaw)
        configured = self._configured(metric)
        known = self.metrics.setdefault(metric.name, configured)
        self._new = True
        if known != configured:
            raise MetricError(
                f"metric {metric.name!r} is registered as {known}, and can't also be {metric}; rename one"
            )

    def redeclare(self, metric: Metric) -> bool:
        """Declare or replace a metric; True if the name is new or the columns differ.

        A change of help or unit alone is ignored until the next start: it is not worth rebuilding the ring. Raises
        MetricError for the name of one of the daemon's own metrics.
        """
        known = self.metrics.get(metric.name)
        if known is not None and known.own:
            raise MetricError(f"metric {metric.name!r} is the daemon's own; rename the other")
        if flaw := self._rules.flaw(metric):
            self._warn(metric.name, flaw)
        before = self._declared.get(metric.name, known)
        if known is not None and before is not None and before.shape == metric.shape:
            return False
        self._declared.pop(metric.name, None)
        self.metrics[metric.name] = self._configured(metric)
        self._new = True
        return True

    def _configured(self, metric: Metric) -> Metric:
        configured = metric if metric.name in self._counted else self._rules.configured(metric)
        if configured != metric and metric.name not in self._declared:
            self._declared[metric.name] = metric
            self._undecided.add(metric.name)
        return configured

    def note_observed(self, name: str) -> None:
        """Note that a histogram is observed here: the configured buckets apply."""
        if name in self._undecided:
            self._undecided.remove(name)
            self._new = True

    def note_counted(self, name: str) -> None:
        """Note that a histogram is counted by another program: it keeps the declared buckets."""
        declared = self._declared.pop(name, None)
        if declared is not None:
            self._counted.add(name)
            self._undecided.discard(name)
            self.metrics[name] = declared
            self._new = True
            self._warn(name, f"histogram {name!r} is counted by another program, whose buckets are kept")

    def _warn(self, name: str, error: str) -> None:
        if name not in self._warned:
            self._warned.add(name)
            log.warning("buckets not applied", extra={"ring": self._ring, "metric": name, "error": error})

    def enter(self, writer: RingWriter) -> bool:
        """Add the declared metrics to the catalog, also those without samples, so that readers know them.

        False if there was nothing to add. Never raises NoSpace: metrics without room are logged once, and changed
        definitions are tried again by the next call.
        """
        if not self._new:
            return False
        lost = self._redefine(writer)
        if lost:
            log.warning("metrics begin anew", extra={
                "ring": self._ring, "metrics": ",".join(lost), "error": "their type, labels or buckets changed",
            })  # fmt: skip
        for metric in self._ready(writer):
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
        """Rebuild the ring for changed definitions; the names of the metrics that lost their history."""
        try:
            lost = writer.redefine(self._ready(writer))
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

    def _ready(self, writer: RingWriter) -> list[Metric]:
        """Metrics that may enter the catalog now. A histogram in the ring with other buckets is no longer undecided."""
        known = writer.metrics
        for name in [name for name in self._undecided if name in known]:
            if known[name].shape != self._declared[name].shape:
                self._undecided.remove(name)
        return [metric for name, metric in self.metrics.items() if name not in self._undecided]

    def fits(self, series: Series) -> bool:
        """Whether the series in the ring has the columns of its metric as declared here."""
        declared = self.metrics.get(series.metric.name)
        return declared is None or declared.shape == series.metric.shape
