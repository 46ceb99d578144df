"""Buckets of the configuration, as a real Prometheus makes quantiles of them: beside the exact ones, over a restart."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import http_client
from tests.daemon import ROOT
from tests.programs import Program, find_program, free_port, running, wait_until
from tests.prometheus import Prometheus, scraping
from tests.rings import namespace as namespace

pytestmark = pytest.mark.real

SOURCE = """
import json, pathlib, time
from collector.source import MetricSource, Sample
from shm.metric import Metric


class AppSource(MetricSource):
    name = "app"
    metrics = (
        Metric("app_latency", "histogram", "Response time, in milliseconds.", "milliseconds", ("path",), (1.0, 2.0)),
    )

    def __init__(self, directory):
        self.values = pathlib.Path(directory) / "values"

    def collect(self):
        '''What lies in the file, each sample kept raw in a frame of its own; else that nothing was observed.'''
        if not self.values.exists():
            return [Sample("app_latency", None, {"path": "/"})]
        values = json.loads(self.values.read_text())
        self.values.unlink()
        now = time.time()
        return [Sample("app_latency", value, {"path": "/"}, now - i / 1000) for i, value in enumerate(values)]
"""
BOUNDS = (10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0)
# So many that both ways to number quantiles, ours and histogram_quantile's, mean the same sample.
FIRST, SECOND = 101, 100
_BUCKET = 'app_latency_bucket{job="fogmetrics"}'


class App:
    """The collector of the source and the exporter, and what they print."""

    def __init__(self, directory: Path, namespace: str) -> None:
        self.directory = directory
        self.port = free_port()
        self.toml = directory / "fogmetrics.toml"
        (directory / "fog_app.py").write_text(SOURCE)
        self.toml.write_text(
            f'[shm]\nnamespace = "{namespace}"\n[exporter]\nport = {self.port}\n'
            f'[source.app]\nclass = "fog_app:AppSource"\ninterval_seconds = 0.3\ndirectory = "{directory}"\n'
            f"[metric.app_latency]\nbuckets = {json.dumps(BOUNDS)}\n"
        )
        self._numbers = itertools.count()

    def run(self, *module: str) -> contextlib.AbstractContextManager[Program]:
        log = self.directory / f"{module[0]}-{next(self._numbers)}.log"
        environ = {"PYTHONPATH": f"{ROOT}{os.pathsep}{self.directory}"}
        return running([sys.executable, "-m", *module, "--config", self.toml], log, env=environ, cwd=self.directory)

    def observe(self, values: list[float]) -> None:
        (self.directory / "new").write_text(json.dumps(values))
        (self.directory / "new").rename(self.directory / "values")

    def page(self, path: str) -> str:
        return http_client.get(f"http://127.0.0.1:{self.port}{path}").text

    def exact(self) -> float:
        """p95 of all raw samples."""
        page = self.page("/metrics/aggregated?window=1h&metric=app_latency&stat=p95")
        [line] = [line for line in page.splitlines() if line.startswith("app_latency{")]
        return float(line.split()[-1])


@pytest.fixture
def app(tmp_path: Path, namespace: str) -> Iterator[App]:
    made = App(tmp_path, namespace)
    with made.run("exporter") as exporter:
        exporter.wait_until(lambda: f":{made.port}" in exporter.log(), 20, "the exporter")
        yield made


def counted(prometheus: Prometheus) -> float:
    """The last count that Prometheus has; -1 for none."""
    found = prometheus.query('app_latency_count{job="fogmetrics"}')
    return float(found[0]["value"][1]) if found else -1.0


def number(prometheus: Prometheus, query: str) -> float:
    [one] = prometheus.query(query)
    return float(one["value"][1])


def bounds_around(value: float) -> tuple[float, float]:
    return next((low, high) for low, high in itertools.pairwise((0.0, *BOUNDS)) if low < value <= high)


def agree(app: App, prometheus: Prometheus, values: list[float]) -> None:
    """Our exact percentile is that of these values, and histogram_quantile lies in the bucket that holds it."""
    exact = app.exact()
    assert exact == sorted(values)[min(math.ceil(0.95 * (len(values) - 1)), len(values) - 1)]
    low, high = bounds_around(exact)
    for query in (_BUCKET, f"increase({_BUCKET}[5m])", f"rate({_BUCKET}[5m])"):
        assert low <= number(prometheus, f"histogram_quantile(0.95, {query})") <= high, query


def test_quantiles_of_configured_buckets_agree_with_the_exact_ones_also_over_a_restart(
    app: App, tmp_path: Path
) -> None:
    chance = random.Random(5)
    values = [chance.lognormvariate(4.0, 0.9) for _ in range(FIRST + SECOND)]
    with scraping(tmp_path, app.port) as prometheus:
        with app.run("collector", "app"):
            wait_until(lambda: counted(prometheus) == 0, 30, "a histogram in which nothing was counted")
            app.observe(values[:FIRST])
            wait_until(lambda: counted(prometheus) == FIRST, 30, "all that was observed first")
            agree(app, prometheus, values[:FIRST])
        with app.run("collector", "app"):
            app.observe(values[FIRST:])
            wait_until(lambda: counted(prometheus) == len(values), 30, "all that was observed after the restart")
            agree(app, prometheus, values)
            for found in prometheus.query(f"resets({_BUCKET}[5m])"):
                assert float(found["value"][1]) == 0, found
            # Prometheus extrapolates to the ends of the window, by half of a scrape's interval.
            rise = number(prometheus, 'increase(app_latency_count{job="fogmetrics"}[5m])')
            assert len(values) <= rise <= 1.3 * len(values)

            page = app.page("/metrics")
            for bound in BOUNDS:
                below = sum(value <= bound for value in values)
                assert f'app_latency_bucket{{path="/",le="{bound}"}} {float(below)}\n' in page
            assert 'le="1.0"' not in page
            done = subprocess.run(
                [find_program("promtool"), "check", "metrics"], input=page.encode(), capture_output=True, timeout=30
            )
            assert (done.returncode, done.stdout + done.stderr) == (0, b"")
