"""The exporter's own metrics: requests, state of the rings and applications, and its process.

They are prometheus_client metrics in a registry of the exporter. ``refresh`` collects the registry into series and
values, so that pages treat the exporter like a ring: one family may have series of both.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, Summary
from prometheus_client import Metric as ClientMetric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from exporter.applications import ApplicationSet
from exporter.exposition.conflicts import EXPORTER, Conflict
from exporter.rings import Counts, RingSet
from shm import VERSION
from shm.metric import Metric, Series
from shm.ring.discovery import foreign_files
from shm.ring.frame import all_absent

log = logging.getLogger(__name__)

# Collecting takes 0.3 ms, longer than rendering a page of small rings; scrapes are rarely more frequent than this.
REFRESH_NS = 1_000_000_000


class SelfMetrics:
    """Counts requests, and exposes the state of rings, applications and process as series. Not thread-safe.

    ``latest``: float64, shape (width,), the values of ``series``. ``generation`` changes whenever series are added or
    removed. ``conflicts``: series that a page dropped, shown by the next page.
    """

    source: Final = EXPORTER

    def __init__(
        self, rings: RingSet, elsewhere: Callable[[], Counts], applications: ApplicationSet | None = None
    ) -> None:
        """``elsewhere``: returns an immutable copy of what another thread's set of the same rings counted."""
        self.conflicts: list[Conflict] = []
        self.series: list[Series] = []
        self.latest = all_absent(0)
        self.generation = 0
        self._rings = rings
        self._applications = applications
        self._elsewhere = elsewhere
        self._collected_ns: int | None = None
        self._foreign = False
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self._requests = Counter("exporter_requests", "Requests answered.", ("page", "status"), registry=self._registry)
        self._seconds = Summary(
            "exporter_request_duration_seconds", "Time to make a page, in seconds.", ("page",), registry=self._registry
        )
        build = Gauge("exporter_build_info", "The release that runs.", ("version",), registry=self._registry)
        build.labels(VERSION).set(1)
        ProcessCollector(registry=self._registry)

    @property
    def width(self) -> int:
        return len(self.latest)

    def observe(self, page: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        self._requests.labels(page, str(status)).inc()
        self._seconds.labels(page).observe(seconds)

    def refresh(self) -> SelfMetrics:
        """Collect ``series`` and ``latest`` again, at most once a second; returns self."""
        now_ns = self._rings.monotonic()
        if self._collected_ns is not None and now_ns - self._collected_ns < REFRESH_NS:
            return self
        self._collected_ns = now_ns
        series: list[Series] = []
        values: list[float] = []
        for family in self._registry.collect():
            samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            if not samples:
                continue
            labels = tuple(samples[0].labels)
            metric = Metric(family.name, family.type, family.documentation, label_names=labels)  # type: ignore[arg-type]  # a gauge, counter or summary
            for at in range(0, len(samples), metric.columns):  # of a summary: the count, then the sum
                series.append(Series(metric, tuple(samples[at].labels.values()), len(values) + at))
            values += [sample.value for sample in samples]
        self.latest = np.array(values, dtype=np.float64)
        if series != self.series:
            self.series = series
            self.generation += 1
        return self

    def collect(self) -> Iterator[ClientMetric]:
        """Yield the families of rings and applications; makes this a custom collector of prometheus_client."""
        yield from self._of_rings()
        yield from self._of_applications()
        yield self._of_foreign_files()

    def _of_rings(self) -> Iterator[ClientMetric]:
        age = GaugeMetricFamily("exporter_ring_age_seconds", "Age of the newest frame.", labels=["source"])
        fresh = GaugeMetricFamily("exporter_ring_fresh", "1 while the source is not stale, else 0.", labels=["source"])
        alive = GaugeMetricFamily("exporter_ring_writer_alive", "1 while the ring has a writer.", labels=["source"])
        skipped = CounterMetricFamily(
            "exporter_ring_skipped_frames", "Slots that were torn or lapped when they were read.", labels=["source"]
        )
        errors = CounterMetricFamily(
            "exporter_ring_errors", "Times that a ring, or a part of it, could not be read.", labels=["source"]
        )
        rings = self._rings
        here, elsewhere = rings.counts(), self._elsewhere()
        present = {*rings.rings, *rings.errors, *here.errors}  # of a ring that is gone nothing is kept
        counts = here.skipped_frames + elsewhere.skipped_frames
        for source, ring in rings.rings.items():
            if ring.sequence:
                age.add_metric([source], ring.age_seconds(rings.monotonic(), rings.wall()))
            fresh.add_metric([source], not rings.is_stale(ring))
            alive.add_metric([source], ring.writer_alive())
            skipped.add_metric([source], counts[source])
        for source in rings.errors:
            if source not in rings.rings:  # unreadable as a whole
                fresh.add_metric([source], 0)
        for source, count in (here.errors + elsewhere.errors).items():
            if source in present:
                errors.add_metric([source], count)
        dropped = GaugeMetricFamily(
            "exporter_series_in_conflict",
            "Series left out because another ring has the series or the name.",
            labels=["source", "metric", "reason"],
        )
        for conflict in self.conflicts:
            dropped.add_metric(conflict[:3], conflict.series)
        yield from (age, fresh, alive, skipped, errors, dropped)

    def _of_applications(self) -> Iterator[ClientMetric]:
        processes = GaugeMetricFamily("exporter_application_processes", "Processes that live.", labels=["application"])
        size = GaugeMetricFamily(
            "exporter_application_bytes", "Shared memory that the tables take, in bytes.", labels=["application"]
        )
        errors = CounterMetricFamily(
            "exporter_application_errors",
            "Times that a table, or a part of it, could not be read.",
            labels=["application"],
        )
        for name, one in self._applications.applications.items() if self._applications else ():
            processes.add_metric([name], one.reader.processes)
            size.add_metric([name], one.reader.bytes)
            errors.add_metric([name], one.errors)
        yield from (processes, size, errors)

    def _of_foreign_files(self) -> ClientMetric:
        kinds = [self._rings.files, *([self._applications.files] if self._applications else [])]
        left_out = foreign_files(*kinds)
        if left_out and not self._foreign:
            log.warning("foreign files", extra={"error": left_out})
        self._foreign = bool(left_out)
        return GaugeMetricFamily(
            "exporter_foreign_files",
            "Files named like rings or tables of this namespace that are left out: their users are not trusted.",
            sum(len(kind.foreign) for kind in kinds),
        )
