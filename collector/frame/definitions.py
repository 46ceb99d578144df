"""The metrics that a collector declares, and their way into the catalog of its ring."""

from __future__ import annotations

import logging

from collector.frame.rules import Rules
from shm.errors import MetricError, NoSpace
from shm.metric import Metric, Series
from shm.ring.writer import RingWriter

log = logging.getLogger(__name__)


class Definitions:
    """What was declared, by name in ``metrics``, with the buckets that ``rules`` gives.

    ``waiting``: names of those that the ring knows by another definition, as after an upgrade, and has no room to be
    rebuilt for. Their samples would not fit its columns, and can't be appended until there is.

    The buckets of a histogram that somebody else counted are what they are, and which those are shows in their samples.
    So one that the rules give others enters the ring with its first sample.
    """

    def __init__(self, ring: str, rules: Rules) -> None:
        self.metrics: dict[str, Metric] = {}
        self.waiting: frozenset[str] = frozenset()
        self._ring = ring
        self._rules = rules
        self._declared: dict[str, Metric] = {}  # without the rules' buckets, of those that have other ones by them
        self._undecided: set[str] = set()  # of those, the ones that no sample came of
        self._counted: set[str] = set()  # by somebody else
        self._said: set[str] = set()
        self._new = False

    def declare(self, metric: Metric) -> None:
        """The same one again is fine; another under its name is a MetricError, a rule that can't be meant one too."""
        if self.metrics.get(metric.name) == metric:
            return  # also at each tick: what keeps counters registers them when they begin to count
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
        """Take the place of what has that name, if the columns differ: True then, and for a new name.

        Another help or unit alone waits for the next start: it is not worth a rebuilt ring while somebody's file
        changes its words to and fro. Raises MetricError for the name of one of the daemon's own.
        """
        known = self.metrics.get(metric.name)
        if known is not None and known.own:
            raise MetricError(f"metric {metric.name!r} is the daemon's own; rename the other")
        if flaw := self._rules.flaw(metric):
            self._say(metric.name, flaw)
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

    def is_observed(self, name: str) -> None:
        """A histogram's own sample came: the configuration's buckets are for it."""
        if name in self._undecided:
            self._undecided.remove(name)
            self._new = True

    def is_counted(self, name: str) -> None:
        """A sample of a histogram came that somebody else counted: it has the buckets that it was declared with."""
        declared = self._declared.pop(name, None)
        if declared is not None:
            self._counted.add(name)
            self._undecided.discard(name)
            self.metrics[name] = declared
            self._new = True
            self._say(name, f"histogram {name!r} is counted by somebody else, in buckets of its own; those are kept")

    def _say(self, name: str, error: str) -> None:
        if name not in self._said:
            self._said.add(name)
            log.warning("buckets not applied", extra={"ring": self._ring, "metric": name, "error": error})

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
        for metric in self._decided(writer):
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
            lost = writer.redefine(self._decided(writer))
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

    def _decided(self, writer: RingWriter) -> list[Metric]:
        """Those that may be entered. With the rules' buckets, or others yet, in the ring it is decided as well."""
        known = writer.metrics
        for name in [name for name in self._undecided if name in known]:
            if known[name].shape != self._declared[name].shape:
                self._undecided.remove(name)
        return [metric for name, metric in self.metrics.items() if name not in self._undecided]

    def fits(self, series: Series) -> bool:
        """Whether the series in the ring has the columns that its metric, as declared here, would give it."""
        declared = self.metrics.get(series.metric.name)
        return declared is None or declared.shape == series.metric.shape
