"""The source merges what its providers know, and one that fails costs only itself."""

from __future__ import annotations

import dataclasses
import gc
import threading
from pathlib import Path

import pytest

from collector.frame.histogram import Observations
from collector.metrics import DEPLOYMENT
from collector.source import Collection, MetricSource, Sample
from collector.sources.deployment import DeploymentMetricSource, DeploymentOptions
from collector.sources.deployment.prometheus_mapping import PrometheusOptions
from collector.sources.deployment.provider import Deployment, ProviderError
from collector.sources.deployment.source import PROVIDERS, merge
from fogmetrics.settings.reader import Where, keys_of, read_table
from shm.errors import ConfigurationError
from tests.collector import hostile
from tests.programs import wait_until


class Fake:
    def __init__(self, name: str, *answer: Deployment | Exception) -> None:
        self.name = name
        self.answer = answer

    def deployments(self) -> list[Deployment]:
        for one in self.answer:
            if isinstance(one, Exception):
                raise one
        return [one for one in self.answer if isinstance(one, Deployment)]

    def close(self) -> None:
        return None


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


def test_latencies_in_buckets_are_told_as_these_and_not_by_their_mean() -> None:
    counted = Observations(((10.0, 2), (50.0, 1)), 60.0)
    one, two = Deployment("web", latency_ms=counted), Deployment("web", latency_ms=7.0)
    assert merge([[one], [two]]) == [one]
    assert merge([[two], [one]]) == [two]
    assert merge([[Deployment("web", replicas=1.0, keeps_latency=True)], [one]]) == [
        Deployment("web", replicas=1.0, latency_ms=counted, keeps_latency=True)
    ]
    assert collect(Fake("a", one)).samples == [
        Sample("deployment_latency", None, {"deployment_id": "web"}, observations=counted)
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


class Meets(Fake):
    """Answers once all of them are asked; ``after`` holds its answer back longer than the others'."""

    def __init__(self, barrier: threading.Barrier, after: threading.Event, answer: Deployment) -> None:
        super().__init__("meets", answer)
        self._barrier, self._after = barrier, after

    def deployments(self) -> list[Deployment]:
        self._barrier.wait(30)
        self._after.wait(30)
        return super().deployments()


def test_providers_are_asked_at_the_same_time_and_the_first_is_believed_whoever_answers_first() -> None:
    barrier, at_once, last = threading.Barrier(3, timeout=30), threading.Event(), threading.Event()
    at_once.set()
    first = Meets(barrier, last, Deployment("web", replicas=1.0))
    second = Meets(barrier, at_once, Deployment("web", replicas=2.0, request_rate=7.0))
    third = Fake("third", Deployment("web", replicas=3.0))

    def opens() -> list[Deployment]:
        barrier.wait(30)
        last.set()
        return [Deployment("web", replicas=3.0)]

    third.deployments = opens  # type: ignore[method-assign]
    web = {"deployment_id": "web"}
    assert DeploymentMetricSource(providers=(first, second, third), timeout_seconds=60).collect().samples == [
        Sample("deployment_replica_count", 1.0, web),
        Sample("deployment_request_rate", 7.0, web),
    ]


def test_a_provider_that_hangs_costs_one_thread_until_it_comes_back_and_the_others_nothing() -> None:
    go_on = threading.Event()
    hangs, works = Fake("hangs", Deployment("web", 5.0)), Fake("works", Deployment("web", 1.0))

    def hanging() -> list[Deployment]:
        go_on.wait(60)
        return [Deployment("web", 5.0)]

    hangs.deployments = hanging  # type: ignore[method-assign]
    hangs.where = "http://127.0.0.1:8080/metrics"  # type: ignore[attr-defined]  # as a page for Prometheus has
    source = DeploymentMetricSource(providers=(hangs, works), timeout_seconds=0.1)
    named = "hangs: provider 1 of 2 at http://127.0.0.1:8080/metrics"
    sample = Sample("deployment_replica_count", 1.0, {"deployment_id": "web"})
    first = source.collect()
    assert first == Collection([sample], [f"{named} did not answer within 0.1 s"])
    threads = threading.active_count()
    for _ in range(5):
        assert source.collect() == Collection([sample], [f"{named} still hangs in an earlier collection"])
    assert threading.active_count() == threads
    go_on.set()

    def back() -> bool:
        return [one.value for one in source.collect().samples] == [5.0]

    wait_until(back, 30, "the answer of the provider that came back")
    source.close()
    assert threading.active_count() < threads


def test_one_provider_is_asked_in_the_thread_of_its_source() -> None:
    asked_in = []
    alone = Fake("alone")

    def deployments() -> list[Deployment]:
        asked_in.append(threading.current_thread())
        return []

    alone.deployments = deployments  # type: ignore[method-assign]
    assert collect(alone).up
    assert asked_in == [threading.current_thread()]


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
    nobody = "unix:///run/none.sock"
    options = DeploymentOptions(
        providers=tuple(PROVIDERS), haproxy_url=nobody, control_plane_url=nobody, docker_url=nobody,
        prometheus={"traefik": PrometheusOptions(url=nobody), "envoy": PrometheusOptions(url=nobody)},
    )  # fmt: skip
    errors = DeploymentMetricSource(options).collect().errors
    assert [error.partition(":")[0] for error in errors] == [*PROVIDERS, "prometheus"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            DeploymentOptions(providers=("nomad",)),
            ["[source.deployment] providers", "'nomad'", "supervisord, haproxy, control_plane, docker, prometheus"],
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
        (
            DeploymentOptions(providers=("control_plane",)),
            ["[source.deployment] providers", "control_plane_url is empty", "http://host:port"],
        ),
        (
            DeploymentOptions(providers=("control_plane",), control_plane_url="ftp://u:secret@host"),
            ["[source.deployment] control_plane_url", "'ftp://host'", "https://host"],
        ),
        (
            DeploymentOptions(providers=("docker",), docker_url="/var/run/docker.sock"),
            ["[source.deployment] docker_url", "'/var/run/docker.sock'", "unix:///"],
        ),
        (
            DeploymentOptions(providers=("docker",), docker_label=""),
            ["[source.deployment] docker_label", "''", "com.docker.compose.service"],
        ),
        (DeploymentOptions(supervisord_url="https://host"), ["[source.deployment] supervisord_url", "'https://host'"]),
        (DeploymentOptions(supervisord_url="http://u:secret@host:x"), ["[source.deployment] supervisord_url", "port"]),
    ],
)
def test_a_wrong_configuration_is_refused_with_key_value_and_remedy(
    options: DeploymentOptions, words: list[str]
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        DeploymentMetricSource(options)
    assert [word for word in words if word not in str(caught.value)] == []
    assert "secret" not in str(caught.value)


def test_buckets_that_do_not_rise_are_refused_with_key_value_and_remedy() -> None:
    with pytest.raises(ConfigurationError, match=r"^\[source.deployment\] buckets can't be used: .* do not rise"):
        DeploymentOptions(buckets=(5.0, 1.0))


def test_the_options_are_a_table_of_the_configuration_and_each_key_is_documented() -> None:
    table = {
        "providers": ["haproxy"],
        "haproxy_url": "http://h/;csv",
        "request_timeout_seconds": 1,
        "buckets": [1, 2.5],
    }
    assert read_table(DeploymentOptions, table, Where("x", "source.deployment")) == DeploymentOptions(
        providers=("haproxy",), haproxy_url="http://h/;csv", request_timeout_seconds=1.0, buckets=(1.0, 2.5)
    )
    assert [name for name, one in keys_of(DeploymentOptions).items() if not one.metadata["doc"].endswith(".")] == []
    with pytest.raises(ConfigurationError, match="request_timeout_seconds"):
        read_table(DeploymentOptions, {"request_timeout_seconds": 0}, Where("x", "source.deployment"))


def test_a_reply_that_is_refused_waits_for_no_garbage_collector(tmp_path: Path) -> None:
    """It may be 4 MiB, and an idle process collects garbage once in many collections."""
    reply = hostile.http(b'[{"State": 1, "Labels": {}, "x": "' + b"x" * 100_000 + b'"}]')
    with hostile.server(tmp_path / "s.sock", hostile.says(reply)) as url:
        source = DeploymentMetricSource(DeploymentOptions(("docker",), docker_url=url))
        assert "lacks State" in source.collect().errors[0]
        gc.collect()
        gc.disable()
        try:
            source.collect()
            assert gc.collect() == 0
        finally:
            gc.enable()
