"""Prometheus pages as providers: endpoints in the configuration, rates between two calls, histograms into the ring."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from collector.frame.collector import MetricCollector
from collector.sources.deployment import DeploymentMetricSource, DeploymentOptions
from collector.sources.deployment.prometheus import PrometheusProvider
from collector.sources.deployment.prometheus_mapping import READY, PrometheusOptions, Series
from collector.sources.deployment.provider import Deployment
from shm.errors import ConfigurationError
from shm.ring.reader import RingReader
from tests.collector import hostile
from tests.collector.served import served
from tests.collector.sources.deployment.test_providers import LIMITS

TRAEFIK = READY["traefik"]


def requests(count: int, service: str = "web@docker") -> str:
    return f'traefik_service_requests_total{{code="200",service="{service}"}} {count}\n'


def test_rates_are_over_the_time_between_two_calls(tmp_path: Path) -> None:
    now, count = 100.0, 50
    with served(lambda _: hostile.http(requests(count).encode()), tmp_path / "s.sock") as server:
        provider = PrometheusProvider(server.url, TRAEFIK, LIMITS, "KEY", lambda: now)
        assert provider.deployments() == [Deployment("web")]
        now, count = 104.0, 60
        assert provider.deployments() == [Deployment("web", None, 2.5, 0.0)]
        assert provider.deployments() == [Deployment("web")]  # no time has passed
        assert server.targets == ["/metrics"] * 3
        assert server.requests[0].headers["Accept"] == "text/plain;version=0.0.4"


# ---- the configuration -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ({}, ["lists prometheus, but there is no page", '[source.deployment.prometheus.traefik] with url = "http']),
        (
            {"edge": PrometheusOptions(url="ftp://u:s3cret@a/", mapping="traefik")},
            ["[source.deployment.prometheus.edge] url is 'ftp://a/'", "give http://host:port/metrics"],
        ),
        ({"shop": PrometheusOptions(url="http://a/")}, ["[source.deployment.prometheus.shop] maps nothing"]),
    ],
)
def test_a_wrong_configuration_is_refused_with_key_and_remedy(
    tables: dict[str, PrometheusOptions], words: list[str]
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        DeploymentMetricSource(DeploymentOptions(providers=("prometheus",), prometheus=tables))
    assert [word for word in words if word not in str(caught.value)] == []
    assert "s3cret" not in str(caught.value)


def test_each_endpoint_is_asked_and_one_that_fails_costs_only_itself(tmp_path: Path) -> None:
    with served(lambda _: hostile.http(b'up{job="a"} 1\n'), tmp_path / "s.sock") as server:
        options = DeploymentOptions(
            providers=("prometheus",),
            prometheus={
                "own": PrometheusOptions("job", replicas=(Series("up"),), url=f"unix://{tmp_path}/none"),
                "other": PrometheusOptions(url=server.url, mapping="own"),
            },
        )
        collection = DeploymentMetricSource(options).collect()
    assert [(one.metric, one.value) for one in collection.samples] == [("deployment_replica_count", 1.0)]
    [error] = collection.errors
    assert error.startswith(f"prometheus: no page for Prometheus at unix://{tmp_path}/none: ")


# ---- histograms --------------------------------------------------------------------------------------------


def test_a_histogram_of_a_page_is_the_same_histogram_in_the_ring(tmp_path: Path, namespace: str) -> None:
    """Three collections: a baseline, 39 latencies, none. Buckets that both have are equal, sum and count, too."""
    page = Path(__file__).with_name("traefik_recording.txt").read_text()
    began = "".join(line if line[0] == "#" else f"{line.rpartition(' ')[0]} 0\n" for line in page.splitlines(True))
    said = began
    with served(lambda _: hostile.http(said.encode()), tmp_path / "s.sock") as server:
        options = DeploymentOptions(
            providers=("prometheus",),
            prometheus={"traefik": PrometheusOptions(url=server.url)},
            buckets=(50.0, 100.0, 300.0, 2000.0, 5000.0),
        )
        source = DeploymentMetricSource(options)
        with MetricCollector("deployment", namespace=namespace, capacity=16) as collector:
            collector.register(*source.metrics)
            for text in (began, page, page):
                said = text
                [result] = collector.collect_from_sources([source], 10.0)
                assert not result.errors
                collector.commit()
            with RingReader(namespace, "deployment") as reader:
                [series] = [
                    one
                    for one in reader.catalog.series
                    if (one.metric.name, one.label_values) == ("deployment_latency", ("shop",))
                ]
                frames = reader.frames().values[:, series.column : series.end].tolist()
    # 1.2 s is no bound of ours: what is at most 1.2 s is counted from 2 s on.
    assert frames[1][1:] == [0, 29, 35, 38, 39, 39, pytest.approx(4669.794249)]
    assert [frames[0][1:], frames[2][1:]] == [[0] * 7, frames[1][1:]]
    assert all(math.isnan(frame[0]) for frame in frames)  # nobody knows a request's own
