"""MetricSource: the interface of sources, which the tick loop collects.

A source has a ``name``, the ``metrics`` that it offers, and ``collect()``, plain or ``async``:

    class QueueSource(MetricSource):
        name = "queue"
        metrics = (Metric("queue_depth", "gauge", "Jobs waiting, in jobs.", unit="jobs"),)

        def collect(self) -> list[Sample]:
            return [Sample("queue_depth", len(os.listdir("/var/spool/jobs")))]

Absence is not failure: a source omits a sample that it can't know, and never gives 0 instead. To report that the whole
collection failed, raise; to report that a part failed, return a Collection with ``errors``. A source is off if its
table has ``enabled = false``, or if it has an attribute ``off`` with the reason: the daemon then has no program for it.
An attribute ``notes`` lists settings without effect, for ``fogmetrics check``; each begins with the table:
"[source.NAME] …".
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

    ``value`` None is only for histograms: nothing was observed in this interval, but the series exists and its
    cumulative buckets stay present. ``timestamp`` is in Unix seconds; None is the time of the tick. ``observations``,
    only for histograms: values known only as bucket counts, added to the buckets; ``value``, as their mean, is then
    only the raw sample. ``counted``, with ``value`` None: the state of a histogram kept by another program: the
    cumulative count of each of the metric's buckets (None: that series has no such bucket), the total count and the
    sum; of a summary, its count and sum.
    """

    metric: str
    value: float | None
    labels: Mapping[str, str] = field(default_factory=lambda: NO_LABELS)
    timestamp: float | None = None
    observations: Observations | None = None
    counted: Sequence[float | None] | None = None


@dataclass(frozen=True, slots=True)
class Collection:
    """The result of one collection: its samples, and a sentence for each part that failed.

    ``up`` is the value of ``collector_up``: False if nothing of the source could be read. ``metrics``: definitions of
    metrics in this collection that are not in the source's ``metrics``, and may differ from those before.
    """

    samples: Sequence[Sample] = ()
    errors: Sequence[str] = ()
    up: bool = True
    metrics: Sequence[Metric] = ()


CollectResult = Iterable[Sample] | Collection


@runtime_checkable
class MetricSource(Protocol):
    """A source. Subclass it, which inherits ``open`` and ``close``, or write a class of the same shape.

    ``open`` runs once before the first tick, on the thread that will collect: take baselines and open connections
    there. ``close`` runs once at the end. ``collect`` runs every interval, never twice at a time. If it exceeds the
    collector's timeout, the frame is written without its samples, and a late result is dropped.
    """

    name: str
    metrics: Sequence[Metric]

    def open(self) -> Awaitable[None] | None:
        return None

    def collect(self) -> CollectResult | Awaitable[CollectResult]: ...

    def close(self) -> Awaitable[None] | None:
        return None
