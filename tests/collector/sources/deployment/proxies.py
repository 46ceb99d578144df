"""Real proxies before real servers: what is asked of them, what their page says, and what a provider makes of it.

The page is read by prometheus_client's parser as well, so that what our own reads is compared with another's reading.
"""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Self

import pytest
from prometheus_client.parser import text_string_to_metric_families

from collector.frame.histogram import Observations
from collector.sources.deployment.prometheus import PrometheusProvider
from collector.sources.deployment.prometheus_mapping import PageMapping
from collector.sources.deployment.provider import Deployment
from tests.collector.sources.deployment.test_providers import LIMITS
from tests.programs import free_port, listens, running
from tests.stand_ins.web import WebServer

_START_SECONDS = 30.0


class Backends:
    """The servers behind a proxy, while the block runs: what each answers is its name. Nobody listens at ``gone``."""

    def __init__(self) -> None:
        self._servers = ExitStack()

    def __enter__(self) -> Self:
        def port(**answer: Any) -> int:
            return self._servers.enter_context(WebServer(**answer)).port

        self.good, self.bad, self.missing = port(), port(status=500), port(status=404)
        self.late = port(delay_ms=350)
        self.silent = port(delay_ms=5000)  # longer than a proxy waits
        self.gone = free_port()
        return self

    def __exit__(self, *_: object) -> None:
        self._servers.close()


@dataclass
class Page:
    """A page's samples, by another's parser: the name of a counter has ``_total`` at its end, also where the page has
    it without.
    """

    samples: dict[tuple[str, frozenset[tuple[str, str]]], float]

    def total(self, name: str, **labels: str) -> float:
        """Of all series of this name with these labels."""
        return sum(self.each(name, **labels))

    def each(self, name: str, **labels: str) -> list[float]:
        return [
            value
            for (series, has), value in self.samples.items()
            if series == name and labels.items() <= dict(has).items()
        ]

    def buckets(self, name: str, **labels: str) -> dict[float, float]:
        """Cumulative, by upper bound as written, summed over the series with these labels."""
        found: dict[float, float] = {}
        for (series, has), value in self.samples.items():
            one = dict(has)
            if series == f"{name}_bucket" and labels.items() <= one.items():
                upper = float(one["le"])
                found[upper] = found.get(upper, 0.0) + value
        return found


@dataclass
class Site:
    """A proxy that runs: what it serves at ``front``, and its page at ``url``."""

    front: int
    url: str

    def get(self, path: str, count: int, status: int) -> None:
        for _ in range(count):
            connection = http.client.HTTPConnection("127.0.0.1", self.front, timeout=30)
            connection.request("GET", path)
            with connection.getresponse() as response:
                response.read()
                assert response.status == status
            connection.close()

    def page(self) -> Page:
        """Without samples while the proxy has no page there yet."""
        try:
            with urllib.request.urlopen(self.url, timeout=30) as response:
                text = response.read().decode()
        except urllib.error.HTTPError as error:
            error.close()
            return Page({})
        return Page(
            {
                (one.name, frozenset(one.labels.items())): one.value
                for family in text_string_to_metric_families(text)
                for one in family.samples
            }
        )


@dataclass
class Proxy:
    """A proxy that ``command`` starts in ``folder``; ``ready``: whether it has checked the health of its servers."""

    command: list[str]
    folder: Path
    site: Site
    ready: Callable[[Site], bool] = lambda _: True

    @contextmanager
    def running(self) -> Iterator[Site]:
        """While the block runs. Started again, it has the same ports, and begins anew."""
        admin = int(self.site.url.split(":")[2].partition("/")[0])
        home = dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"), str(self.folder))
        with running(self.command, self.folder / "log", env=home, cwd=self.folder) as program:
            program.wait_until(lambda: listens(self.site.front) and listens(admin), _START_SECONDS, "its ports")
            program.wait_until(lambda: self.ready(self.site), _START_SECONDS, "its checks of health")
            yield self.site


def written(path: Path, configuration: object) -> str:
    """``path``, which has the configuration as JSON: it is YAML, too."""
    path.write_text(json.dumps(configuration))
    return str(path)


class Asked:
    """A provider with a clock that stands still but for ``after``."""

    def __init__(self, url: str, mapping: PageMapping) -> None:
        self.now = 0.0
        self._provider = PrometheusProvider(url, mapping, LIMITS, "KEY", lambda: self.now)

    def after(self, seconds: float) -> dict[str, Deployment]:
        self.now += seconds
        return {one.deployment_id: one for one in self._provider.deployments()}


def rates(found: dict[str, Deployment]) -> dict[str, tuple[float | None, float | None]]:
    return {name: (one.request_rate, one.error_rate) for name, one in found.items()}


def check_latencies(found: Deployment, before: Page, now: Page, name: str, milliseconds: float, **labels: str) -> None:
    """That the latencies of ``found`` are what came to the histogram ``name`` between two pages: each bucket, count
    and sum. A unit of the histogram is so many ``milliseconds``.
    """
    latencies = found.latency_ms
    assert isinstance(latencies, Observations)
    had = before.buckets(name, **labels)
    rises = {upper * milliseconds: value - had.get(upper, 0.0) for upper, value in now.buckets(name, **labels).items()}
    risen = dict(
        zip(sorted(rises), accumulate(dict(latencies.counts).get(one, 0.0) for one in sorted(rises)), strict=True)
    )
    assert risen == rises
    observed = sum(count for _, count in latencies.counts)
    assert observed == now.total(f"{name}_count", **labels) - before.total(f"{name}_count", **labels)
    total = now.total(f"{name}_sum", **labels) - before.total(f"{name}_sum", **labels)
    assert latencies.total == pytest.approx(total * milliseconds)
