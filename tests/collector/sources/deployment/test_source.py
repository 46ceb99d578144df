"""The source merges what its providers know, and one that fails costs only itself."""

from __future__ import annotations

import dataclasses
from dataclasses import fields
from pathlib import Path

import pytest

from collector.metrics import DEPLOYMENT
from collector.source import Collection, MetricSource, Sample
from collector.sources.deployment import DeploymentMetricSource, DeploymentOptions
from collector.sources.deployment.provider import Deployment, ProviderError
from collector.sources.deployment.source import PROVIDERS, merge
from shm.config import read_table
from shm.errors import ConfigurationError
from tests.collector.sources.deployment import hostile


class Fake:
    def __init__(self, name: str, *answer: Deployment | Exception) -> None:
        self.name = name
        self.answer = answer

    def deployments(self) -> list[Deployment]:
        for one in self.answer:
            if isinstance(one, Exception):
                raise one
        return [one for one in self.answer if isinstance(one, Deployment)]


def collect(*providers: Fake) -> Collection:
    return DeploymentMetricSource(providers=providers).collect()


def test_every_known_value_becomes_a_sample_labelled_with_its_deployment() -> None:
    web = {"deployment_id": "web"}
    assert collect(Fake("a", Deployment("web", 2.0, 10.5, 0.0, 12.0, keeps_latency=True))).samples == [
        Sample("deployment_replica_count", 2.0, web),
        Sample("deployment_request_rate", 10.5, web),
        Sample("deployment_error_rate", 0.0, web),
        Sample("deployment_latency", 12.0, web),
    ]


def test_what_no_provider_knows_has_no_sample() -> None:
    assert collect(Fake("a", Deployment("web"))).samples == []
    assert collect(Fake("a", Deployment("web", replicas=0.0))).samples == [
        Sample("deployment_replica_count", 0.0, {"deployment_id": "web"})
    ]


def test_latency_that_is_measured_but_was_not_observed_keeps_its_series() -> None:
    assert collect(Fake("a", Deployment("web", keeps_latency=True))).samples == [
        Sample("deployment_latency", None, {"deployment_id": "web"})
    ]


def test_of_each_value_the_first_provider_that_knows_it_is_taken() -> None:
    one, two = Deployment("web", 1.0, 2.0, 3.0, 4.0), Deployment("web", 5.0, 6.0, 7.0, 8.0)
    assert merge([[one], [two]]) == [one]
    assert merge([[two], [one]]) == [two]
    first = [Deployment("web", replicas=0.0), Deployment("job", replicas=1.0)]
    second = [
        Deployment("web", replicas=5.0, request_rate=7.0, error_rate=0.0, latency_ms=9.0, keeps_latency=True),
        Deployment("edge", replicas=3.0),
    ]
    assert merge([first, second]) == [
        Deployment("web", replicas=0.0, request_rate=7.0, error_rate=0.0, latency_ms=9.0, keeps_latency=True),
        Deployment("job", replicas=1.0),
        Deployment("edge", replicas=3.0),
    ]


@pytest.mark.parametrize(
    ("error", "said"),
    [(ProviderError("no HAProxy at x"), "b: no HAProxy at x"), (RuntimeError("a bug"), "b: RuntimeError: a bug")],
)
def test_a_provider_that_fails_costs_only_itself(error: Exception, said: str) -> None:
    fails, works = Fake("b", error), Fake("a", Deployment("web", 1.0))
    for providers in (fails, works), (works, fails):
        assert collect(*providers) == Collection(
            [Sample("deployment_replica_count", 1.0, {"deployment_id": "web"})], [said], up=True
        )


def test_the_source_is_down_only_when_no_provider_answered() -> None:
    failed = collect(Fake("a", ProviderError("x")), Fake("b", ProviderError("y")))
    assert failed == Collection([], ["a: x", "b: y"], up=False)
    assert collect(Fake("a", ProviderError("x")), Fake("b")).up  # it answered: there are none


def test_the_source_offers_the_four_metrics_with_the_buckets_of_its_options() -> None:
    assert DeploymentMetricSource().metrics == DEPLOYMENT
    assert isinstance(DeploymentMetricSource(), MetricSource)
    metrics = DeploymentMetricSource(DeploymentOptions(buckets=(10.0, 20.0))).metrics
    assert [one.name for one in metrics] == [one.name for one in DEPLOYMENT]
    assert [one.buckets for one in metrics] == [(), (), (), (10.0, 20.0)]


def test_the_options_reach_their_provider(tmp_path: Path) -> None:
    page = b"# pxname,svname,act\nweb,BACKEND,2\nstats,BACKEND,0\nold-web,BACKEND,1\n\n"
    with hostile.server(tmp_path / "s.sock", hostile.says(page)) as url:
        options = DeploymentOptions(providers=("haproxy",), haproxy_url=url, haproxy_exclude=("stats", "old-*"))
        assert DeploymentMetricSource(options).collect().samples == [
            Sample("deployment_replica_count", 2.0, {"deployment_id": "web"})
        ]
        small = DeploymentMetricSource(dataclasses.replace(options, max_reply_bytes=20)).collect()
        assert "longer than 20 bytes" in small.errors[0]
    with hostile.server(tmp_path / "t.sock", hostile.silent) as url:
        for options in (
            DeploymentOptions(supervisord_url=url, request_timeout_seconds=0.1),
            DeploymentOptions(("haproxy",), haproxy_url=url, request_timeout_seconds=0.1),
        ):
            assert "within 0.1 s" in DeploymentMetricSource(options).collect().errors[0]


def test_every_provider_can_be_chosen_by_its_name() -> None:
    options = DeploymentOptions(providers=tuple(PROVIDERS), haproxy_url="unix:///run/none.sock")
    assert len(DeploymentMetricSource(options).collect().errors) == len(PROVIDERS) == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            DeploymentOptions(providers=("docker",)),
            ["[source.deployment] providers", "'docker'", "supervisord, haproxy"],
        ),
        (DeploymentOptions(providers=()), ["[source.deployment] providers", "empty", "supervisord, haproxy"]),
        (
            DeploymentOptions(providers=("haproxy",)),
            ["[source.deployment] providers", "haproxy_url is empty", "unix:///run/haproxy/admin.sock"],
        ),
        (
            DeploymentOptions(providers=("haproxy",), haproxy_url="/run/haproxy/admin.sock"),
            ["[source.deployment] haproxy_url", "'/run/haproxy/admin.sock'", "unix:///"],
        ),
        (DeploymentOptions(supervisord_url="https://host"), ["[source.deployment] supervisord_url", "'https://host'"]),
        (DeploymentOptions(supervisord_url="http://u:secret@host:x"), ["[source.deployment] supervisord_url", "port"]),
        (DeploymentOptions(buckets=(5.0, 1.0)), ["[source.deployment] buckets", "rise"]),
    ],
)
def test_a_wrong_configuration_is_refused_with_key_value_and_remedy(
    options: DeploymentOptions, words: list[str]
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        DeploymentMetricSource(options)
    assert [word for word in words if word not in str(caught.value)] == []
    assert "secret" not in str(caught.value)


def test_the_options_are_a_table_of_the_configuration_and_each_key_is_documented() -> None:
    table = {
        "providers": ["haproxy"],
        "haproxy_url": "http://h/;csv",
        "request_timeout_seconds": 1,
        "buckets": [1, 2.5],
    }
    assert read_table(DeploymentOptions, table, "[source.deployment]") == DeploymentOptions(
        providers=("haproxy",), haproxy_url="http://h/;csv", request_timeout_seconds=1.0, buckets=(1.0, 2.5)
    )
    assert [one.name for one in fields(DeploymentOptions) if not one.metadata["doc"].endswith(".")] == []
    with pytest.raises(ConfigurationError, match="request_timeout_seconds"):
        read_table(DeploymentOptions, {"request_timeout_seconds": 0}, "[source.deployment]")
