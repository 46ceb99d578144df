"""What a source is: the one interface between the tick loop and everything that can be read.

A source is anything with a ``name``, the ``metrics`` it offers, and ``collect()``, plain or ``async``:

    class QueueSource(MetricSource):
        name = "queue"
        metrics = (Metric("queue_depth", "gauge", "Jobs waiting, in jobs.", unit="jobs"),)

        def collect(self) -> list[Sample]:
            return [Sample("queue_depth", len(os.listdir("/var/spool/jobs")))]

Absence is not failure: what a source can't know it leaves out (never 0). To report that all of it failed,
raise; to report that a part failed, return a Collection with ``errors``. A source that is configured away has an
attribute ``off`` that says how: its collector then ends at once, with success. An attribute ``notes`` lists settings of
the source that have no effect, for ``python -m fogmetrics.cli.check``; each begins with the table: "[source.NAME] …".
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from collector.frame.histogram import Observations
from shm.metric import NO_LABELS, Metric


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of one series.

    ``value`` None is for histograms alone: the series exists, but nothing was observed in this interval; its
    cumulative buckets stay visible. ``timestamp`` is in Unix seconds; None is the tick's own time.
    ``observations``, for histograms too: what goes into the buckets, many values of which only buckets are known;
    ``value``, their mean for instance, is then the raw sample alone. ``counted``, with ``value`` None, is of a
    histogram that somebody else counted: the cumulative count of each of the metric's buckets (None: that series has no
    such bucket), the count of all, and the sum. A summary's is its count and its sum.
    """

    metric: str
    value: float | None
    labels: Mapping[str, str] = field(default_factory=lambda: NO_LABELS)
    timestamp: float | None = None
    observations: Observations | None = None
    counted: Sequence[float | None] | None = None


@dataclass(frozen=True, slots=True)
class Collection:
    """What one collection gave: its samples, and a sentence for each part that failed.

    ``up`` is what ``collector_up`` says: False when nothing of the source's own could be read. ``metrics`` are those
    that come and go, beside the source's own ``metrics``: of this collection's samples, each as it is from now on.
    """

    samples: Sequence[Sample] = ()
    errors: Sequence[str] = ()
    up: bool = True
    metrics: Sequence[Metric] = ()


CollectResult = Iterable[Sample] | Collection


@runtime_checkable
class MetricSource(Protocol):
    """Subclass it (the methods with a body are then inherited) or just have the same shape.

    ``open`` runs once before the first tick, in the thread that will collect: take baselines and open
    connections there. ``close`` runs once at the end. ``collect`` runs every interval, never twice at a time,
    under the collector's timeout: past it the frame is written without these samples, and what comes late is
    dropped.
    """

    name: str
    metrics: Sequence[Metric]

    def open(self) -> Awaitable[None] | None:
        return None

    def collect(self) -> CollectResult | Awaitable[CollectResult]: ...

    def close(self) -> Awaitable[None] | None:
        return None
