"""Every provider: its errors name address and remedy, and keep the password; its limits are those of the options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from collector.sources.deployment.control_plane import ControlPlaneProvider
from collector.sources.deployment.docker import DockerProvider
from collector.sources.deployment.haproxy import HaproxyProvider
from collector.sources.deployment.prometheus import PrometheusProvider
from collector.sources.deployment.prometheus_mapping import READY
from collector.sources.deployment.provider import DeploymentProvider, ProviderError
from collector.sources.deployment.supervisord import SupervisordProvider
from collector.sources.target import Limits
from tests.collector import hostile
from tests.collector.served import served
from tests.programs import free_port

LIMITS = Limits(30.0, 4_194_304, "[source.deployment]")


@dataclass(frozen=True)
class Kind:
    """How to make a provider, and what its errors say: that nobody is there, that somebody else is, and the remedy."""

    make: Callable[[str, Limits], DeploymentProvider]
    none: str
    other: str
    remedy: str


KINDS = {
    "supervisord": Kind(
        lambda url, limits: SupervisordProvider(url, limits, environ={}),
        "no supervisord at",
        "is not supervisord: its answer is not a list of processes",
        "set [source.deployment] supervisord_url",
    ),
    "haproxy": Kind(
        HaproxyProvider,
        "no HAProxy at",
        "is not HAProxy statistics: its answer does not begin with HAProxy's CSV header",
        "set [source.deployment] haproxy_url",
    ),
    "control_plane": Kind(
        lambda url, limits: ControlPlaneProvider(url, "", limits),
        "no control plane at",
        "is not a control plane of fog-compute: its answer is not JSON",
        "set [source.deployment] control_plane_url",
    ),
    "docker": Kind(
        lambda url, limits: DockerProvider(url, "service", limits),
        "no Docker or Podman at",
        "is not Docker or Podman: its answer is not JSON",
        "set [source.deployment] docker_url",
    ),
    "prometheus": Kind(
        lambda url, limits: PrometheusProvider(url, READY["traefik"], limits, "[source.deployment.prometheus.x] url"),
        "no page for Prometheus at",
        "is not a valid page for Prometheus: line 1: it does not begin with a metric name: '<html>'",
        "set [source.deployment.prometheus.x] url",
    ),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


def error(kind: Kind, url: str, limits: Limits = LIMITS) -> str:
    with pytest.raises(ProviderError) as caught:
        kind.make(url, limits).deployments()
    assert kind.remedy in str(caught.value)
    assert "s3cret" not in str(caught.value)
    return str(caught.value)


def test_nobody_there_is_an_error_that_names_address_and_remedy(kind: Kind, tmp_path: Path) -> None:
    port = free_port()
    for url, shown, reason in (
        (f"http://joe:s3cret@127.0.0.1:{port}", f"http://127.0.0.1:{port}", "no connection: Connection refused"),
        (f"unix://{tmp_path}/none", f"unix://{tmp_path}/none", "no connection: No such file or directory"),
    ):
        assert f"{kind.none} {shown}: {reason}; " in error(kind, url)


def test_a_status_that_is_no_answer_and_another_program_are_errors(kind: Kind) -> None:
    answers = iter([hostile.http(b"", "500 Oops"), hostile.http(b"<html>\n")])
    with served(lambda _: next(answers)) as server:
        assert f"{kind.none} {server.url}: it answered HTTP 500 Oops; " in error(kind, server.url)
        assert f"what answers at {server.url} {kind.other}" in error(kind, server.url)


def test_time_and_size_are_those_of_the_options(kind: Kind, tmp_path: Path) -> None:
    with hostile.server(tmp_path / "q.sock", hostile.silent) as url:
        assert "no whole answer within 0.1 s ([source.deployment] request_timeout_seconds); " in error(
            kind, url, Limits(0.1, 1000, "[source.deployment]")
        )
    with served(lambda _: hostile.http(b" " * 1001)) as server:
        assert "its answer is longer than 1000 bytes ([source.deployment] max_reply_bytes); " in error(
            kind, server.url, Limits(30.0, 1000, "[source.deployment]")
        )
