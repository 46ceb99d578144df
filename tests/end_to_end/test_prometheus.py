"""A real Prometheus scrapes the daemon through two jobs, as docs/deployment.md sets them up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from shm.ring.reader import RingReader
from tests.daemon import Daemon
from tests.haproxy import HaproxyBefore
from tests.programs import ROOT, promtool_says, wait_until
from tests.prometheus import Prometheus, scraping
from tests.stand_ins.betanet import BetanetStandIn

pytestmark = pytest.mark.real


class Scraped(Prometheus):
    """A Prometheus and the daemon that it scrapes."""

    def __init__(self, url: str, log_path: Path, daemon: Daemon) -> None:
        super().__init__(url, log_path)
        self.daemon = daemon


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory, betanet: BetanetStandIn) -> Iterator[Scraped]:
    directory = tmp_path_factory.mktemp("prometheus")
    with HaproxyBefore(directory) as haproxy:
        toml = (
            f'[source.betanet]\nurl = "{betanet.url}"\n[source.deployment]\nproviders = ["supervisord", "haproxy"]\n'
            f'haproxy_url = "{haproxy.stats_url}"\n'
        )
        with Daemon(directory, toml=toml) as daemon:
            daemon.wait_until_collected()
            with scraping(directory, daemon.port) as prometheus:
                found = Scraped(prometheus.url, prometheus.log_path, daemon)

                def ready() -> bool:
                    haproxy.request(3)  # so that there is a latency in each interval
                    return bool(
                        found.query('deployment_latency{stat="p95"}')
                        and found.query("rate(betanet_packets_dropped_total[5m])")
                    )

                wait_until(ready, 60, "a latency and a rate in Prometheus")
                yield found


def test_prometheus_takes_every_sample_of_both_pages(prometheus: Scraped) -> None:
    for job, path in (("fogmetrics", "/metrics"), ("fogmetrics-aggregated", "/metrics/aggregated")):

        def matches(job: str = job, path: str = path) -> bool:
            lines = [line for line in prometheus.daemon.get(path).text.splitlines() if not line.startswith("#")]
            return prometheus.values("scrape_samples_scraped")[job] == len(lines) > 20

        # The number of series settles once each has been seen; until then a page may be one ahead of the scrape.
        wait_until(matches, 20, f"as many samples in Prometheus as on {path}")
        assert prometheus.values("scrape_samples_post_metric_relabeling")[job] > 20


@pytest.mark.parametrize(
    "query",
    [
        'avg(node_cpu_usage{stat="avg"})',
        'deployment_latency{stat="p95"}',
        'node_memory_usage{stat="max"}',
        "rate(betanet_packets_dropped_total[5m])",
    ],
)
def test_the_documented_dashboard_queries_return_data(prometheus: Scraped, query: str) -> None:
    found = prometheus.query(query)
    assert found
    assert all(np.isfinite(float(one["value"][1])) for one in found)


def test_what_prometheus_answers_is_what_the_ring_holds(prometheus: Scraped) -> None:
    [answer] = prometheus.query('node_memory_usage{job="fogmetrics"}')
    [counter] = prometheus.query('betanet_packets_processed_total{job="fogmetrics"}')
    for source, metric, value in (
        ("node", "node_memory_usage", answer),
        ("betanet", "betanet_packets_processed", counter),
    ):
        with RingReader(prometheus.daemon.namespace, source) as reader:
            [series] = [one for one in reader.catalog.series if one.metric.name == metric]
            held = reader.frames().values[:, series.column]
        # Bit for bit one of the ring's samples: the text carries the shortest number that reads back the same.
        assert float(value["value"][1]) in held.tolist()


def test_the_histogram_answers_histogram_quantile(prometheus: Scraped) -> None:
    found = prometheus.query('histogram_quantile(0.5, betanet_latency_bucket{job="fogmetrics"})')
    [exact] = prometheus.query('betanet_latency{stat="p50"}')
    [quantile] = found
    # 45 ms, the stand-in's latency, lies in the bucket from 25 to 50.
    assert 25 < float(quantile["value"][1]) <= 50
    assert float(exact["value"][1]) == 45.0


@pytest.mark.parametrize("path", ["/metrics", "/metrics/aggregated"])
def test_promtool_finds_nothing_to_say(prometheus: Scraped, path: str) -> None:
    page = prometheus.daemon.get(path).content
    assert page.count(b"\n") > 50
    assert promtool_says(page) == []


def alerts(prometheus: Prometheus) -> dict[str, int]:
    """The shipped alerts that have results now, and how many."""
    groups = yaml.safe_load((ROOT / "deploy" / "alerts.yml").read_text())["groups"]
    found = {rule["alert"]: len(prometheus.query(rule["expr"])) for group in groups for rule in group["rules"]}
    return {name: number for name, number in found.items() if number}


def test_no_shipped_alert_has_a_result_while_all_is_well(prometheus: Scraped) -> None:
    assert alerts(prometheus) == {}


def test_prometheus_marks_the_series_of_a_killed_source_stale(prometheus: Scraped) -> None:
    """Gauges have no timestamps: those of a source that is gone are gone at the next scrape, not five minutes later."""
    daemon = prometheus.daemon
    daemon.supervisor("stopProcess", "system")
    wait_until(lambda: not prometheus.query('system_uptime{job="fogmetrics"}'), 20, "system_uptime stale")
    wait_until(lambda: alerts(prometheus) == {"FogmetricsSourceStale": 1}, 20, "the alert of the stale source")
    assert prometheus.query('node_memory_usage{job="fogmetrics"}')
    daemon.supervisor("startProcess", "system")
    wait_until(lambda: bool(prometheus.query('system_uptime{job="fogmetrics"}')), 20, "system_uptime back")


def test_the_logs_of_the_scraped_exporter_are_quiet(prometheus: Scraped) -> None:
    log = Path(prometheus.daemon.directory / "run" / "log" / "exporter.log").read_text()
    assert "Traceback" not in log
    assert "level=error" not in log
