"""What the tests of the exporter look at: rings with the three types of metrics, and both clocks."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

import httpx
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from collector.frame.collector import MetricCollector
from exporter.app import Exporter
from exporter.exposition.latest import MetricsPage
from exporter.http.negotiation import Format
from exporter.http.parameters import MetricsQuery
from exporter.rings import RingSet
from exporter.selfmetrics import SelfMetrics
from exporter.settings import ExporterConfig
from fogmetrics.config import Config
from fogmetrics.settings.tables import ShmConfig
from shm.files import ring_path
from shm.metric import Metric
from tests.exporter.wire import ask

SECOND = 1_000_000_000
NOW_NS = 1_700_000_000 * SECOND
INTERVAL = 15

TEMPERATURE = Metric("temperature", "gauge", 'Air, in °C: "dry"\nback\\slash.', "celsius", ("room",))
PACKETS = Metric("packets", "counter", "Packets seen.", "packets")
LATENCY = Metric(
    "latency", "histogram", "Response time, in milliseconds.", "milliseconds", ("path",), (1.0, 2.5, 1000.0)
)
METRICS = (TEMPERATURE, PACKETS, LATENCY)

Sample = tuple[str, float | None] | tuple[str, float | None, Mapping[str, str]]
Sampled = dict[tuple[str, tuple[tuple[str, str], ...]], float]


class Scene:
    """Rings of one namespace. Clocks stand still until ``advance``."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.wall_ns = NOW_NS
        self.monotonic_ns = 1000 * SECOND
        self.collectors: dict[str, MetricCollector] = {}
        self._stack = ExitStack()

    def close(self) -> None:
        self._stack.close()

    def advance(self, seconds: float) -> None:
        self.wall_ns += round(seconds * SECOND)
        self.monotonic_ns += round(seconds * SECOND)

    def collector(
        self, source: str, *metrics: Metric, interval_seconds: float = INTERVAL, capacity: int = 64
    ) -> MetricCollector:
        """The collector of that ring, which is created at the first call."""
        if source not in self.collectors:
            one = MetricCollector(
                source,
                namespace=self.namespace,
                interval_seconds=interval_seconds,
                capacity=capacity,
                max_series=10_000,
            )
            self.collectors[source] = one
            self._stack.callback(one.close)
        self.collectors[source].register(*metrics or METRICS)
        return self.collectors[source]

    def commit(self, source: str, *samples: Sample) -> int:
        """One frame at the present time; the ring and METRICS are made where the source has none."""
        one = self.collectors.get(source) or self.collector(source)
        for name, value, *labels in samples:
            one.record_metric(name, value, labels[0] if labels else {})
        return one.commit(self.wall_ns, self.monotonic_ns)

    def path(self, source: str) -> Path:
        return ring_path(self.namespace, source)

    def rings(self, *, owner: int | None = None, stale_intervals: float = 3.0) -> RingSet:
        one = RingSet(
            self.namespace,
            owner=owner,
            stale_intervals=stale_intervals,
            wall=lambda: self.wall_ns,
            monotonic=lambda: self.monotonic_ns,
        )
        self._stack.callback(one.close)
        return one

    def config(self, **keys: object) -> Config:
        return Config(shm=ShmConfig(namespace=self.namespace), exporter=ExporterConfig(**keys))  # type: ignore[arg-type]

    def exporter(self, **keys: object) -> Exporter:
        """An exporter of these rings and clocks, with those keys of [exporter]."""
        one = Exporter(self.config(**keys), wall=lambda: self.wall_ns, monotonic=lambda: self.monotonic_ns)
        self._stack.callback(one.close)
        return one


def rings_page(exporter: Exporter, form: Format = Format.TEXT, *names: str) -> str:
    """/metrics without the exporter's own metrics, and without OpenMetrics' end."""
    text = b"".join(exporter.metrics_parts(MetricsQuery(names), form)).decode()
    return re.sub(r"^((# \w+ )?(exporter|process)_.*|# EOF)\n", "", text, flags=re.MULTILINE)


def page_of(namespace: str, form: Format = Format.TEXT) -> str:
    """The same of an exporter of that namespace."""
    with contextlib.closing(Exporter(Config(shm=ShmConfig(namespace=namespace)))) as exporter:
        return rings_page(exporter, form)


def own_page(own: SelfMetrics, form: Format = Format.TEXT, *names: str) -> str:
    """The exporter's own metrics as /metrics has them where there are no rings, without OpenMetrics' end."""
    shown = [own.refresh()]
    return b"".join(MetricsPage(shown, MetricsQuery(names)).render(shown, [False], form)).decode()


def get(exporter: Exporter, path: str, method: str = "GET", **headers: str) -> httpx.Response:
    """One request, without a socket. Nothing is compressed unless it is asked for."""

    return asyncio.run(ask(exporter.app, method, quote(path, "/?&=[]%"), headers.items()))


def samples_of(page: str, form: Format = Format.TEXT) -> Sampled:
    """Every sample of a page, by name and labels, as prometheus-client reads it; fails where one comes twice."""
    parse: Callable[[str], object] = parse_text if form is Format.TEXT else parse_openmetrics
    found: Sampled = {}
    for family in parse(page):  # type: ignore[attr-defined]
        for sample in family.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            assert key not in found, f"{key} comes twice"
            found[key] = float(sample.value)
    return found
