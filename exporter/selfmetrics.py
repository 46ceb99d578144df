"""The exporter's own metrics: process_* and exporter_*, by prometheus-client, at the end of /metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from importlib import metadata
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

from exporter import coverage
from exporter.families import Conflict
from exporter.negotiation import Format
from exporter.snapshot import Counts, RingSet

# Reading /proc and rendering takes 0.4 ms, ten times what a page of rings takes; nobody scrapes faster than this.
REFRESH_NS = 1_000_000_000
_EOF = b"# EOF\n"


# What a family of each type may put after its name; no ring may have these names.
_SUFFIXES: Final[dict[str, tuple[str, ...]]] = {
    "counter": ("", "_total", "_created"),
    "summary": ("", "_count", "_sum", "_created"),
    "info": ("", "_info"),
}


class _Chosen(Collector):
    """A registry's families with samples; with ``names``, only those families and samples.

    CollectorRegistry.restricted_registry knows the names of what describes itself, which ours does not.
    """

    def __init__(self, registry: CollectorRegistry, names: frozenset[str]) -> None:
        self._registry = registry
        self._names = names

    def collect(self) -> Iterable[Metric]:
        for metric in self._registry.collect():
            if self._names and metric.name not in self._names:
                metric.samples = [sample for sample in metric.samples if sample.name in self._names]
            if metric.samples:
                yield metric


class SelfMetrics(Collector):
    """Counts requests, and tells at each scrape how the rings are. Not for two threads at once.

    ``names``: every name that its samples or families may have.
    """

    def __init__(self, rings: RingSet, elsewhere: Callable[[], Counts]) -> None:
        """``elsewhere``: what another thread's set of the same rings counted, as a copy that nobody changes."""
        self.conflicts: list[Conflict] = []
        self._version = metadata.version("fogmetrics")  # read from disk, in a millisecond
        self._rings = rings
        self._elsewhere = elsewhere
        self._requests: Counter[tuple[str, str]] = Counter()
        self._seconds: Counter[str] = Counter()
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        self._rendered: dict[Format, tuple[int, bytes]] = {}
        self.names = (
            frozenset(
                f"{metric.name}{suffix}"
                for metric in self._registry.collect()
                for suffix in _SUFFIXES.get(metric.type, ("",))
            )
            | coverage.NAMES
        )  # on /metrics/aggregated, but a name means one thing on both pages

    def observe(self, page: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        self._requests[page, str(status)] += 1
        self._seconds[page] += seconds  # type: ignore[assignment]  # Counter counts floats as well

    def render(self, form: Format, names: Iterable[str] = ()) -> bytes:
        """The own metrics as text, without OpenMetrics' EOF; at most a second old. ``names``: only these samples."""
        chosen = tuple(names)
        if chosen:
            return self._generate(form, chosen)
        now_ns = self._rings.monotonic()
        kept = self._rendered.get(form)
        if kept is None or now_ns - kept[0] >= REFRESH_NS:
            self._rendered[form] = kept = now_ns, self._generate(form, ())
        return kept[1]

    def _generate(self, form: Format, names: tuple[str, ...]) -> bytes:
        chosen = _Chosen(self._registry, frozenset(names))
        text: bytes = (generate_openmetrics if form is Format.OPENMETRICS else generate_latest)(chosen)
        return text.removesuffix(_EOF)

    def describe(self) -> Iterable[Metric]:
        """Nothing is asked at registration: prometheus-client would collect once to learn the names."""
        return []

    def collect(self) -> Iterable[Metric]:
        yield from self._of_rings()
        yield from self._of_requests()
        build = InfoMetricFamily("exporter_build", "The release that runs.")
        build.add_metric([], {"version": self._version})
        yield build

    def _of_rings(self) -> Iterable[Metric]:
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
        counts = here.skipped_frames + elsewhere.skipped_frames
        for source, ring in rings.rings.items():
            if ring.sequence:
                age.add_metric([source], ring.age_seconds(rings.monotonic(), rings.wall()))
            fresh.add_metric([source], float(not rings.is_stale(ring)))
            alive.add_metric([source], float(ring.writer_alive()))
            skipped.add_metric([source], counts[source])
        for source in rings.errors:
            if source not in rings.rings:  # unreadable as a whole
                fresh.add_metric([source], 0.0)
        for source, count in (here.errors + elsewhere.errors).items():
            errors.add_metric([source], count)
        dropped = GaugeMetricFamily(
            "exporter_series_in_conflict",
            "Series left out because another ring has the series or the name.",
            labels=["source", "metric", "reason"],
        )
        for conflict in self.conflicts:
            dropped.add_metric([conflict.source, conflict.metric, conflict.reason], conflict.series)
        return age, fresh, alive, skipped, errors, dropped

    def _of_requests(self) -> Iterable[Metric]:
        requests = CounterMetricFamily("exporter_requests", "Requests answered.", labels=["page", "status"])
        for (page, status), count in self._requests.items():
            requests.add_metric([page, status], count)
        seconds = SummaryMetricFamily(
            "exporter_request_duration_seconds", "Time to make a page, in seconds.", labels=["page"]
        )
        for page, total in self._seconds.items():
            count = sum(n for (name, _), n in self._requests.items() if name == page)
            seconds.add_metric([page], count_value=count, sum_value=total)
        return requests, seconds
