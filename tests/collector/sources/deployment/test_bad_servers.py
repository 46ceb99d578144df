"""All that a server of HTTP may do wrong, to each provider that asks one: an error that says what it was."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest

from collector.sources.deployment.control_plane import ControlPlaneProvider
from collector.sources.deployment.docker import DockerProvider
from collector.sources.deployment.prometheus import PrometheusProvider
from collector.sources.deployment.prometheus_mapping import READY
from collector.sources.deployment.provider import DeploymentProvider, ProviderError
from tests.programs import wait_until
from tests.siege.hostile import HostileServer, http, says
from tests.siege.targets_behaviour import Words, http_behaviours

_SECONDS, _BYTES = 0.5, 4 * 2**20

_WORDS = Words(
    late=("no whole answer within",),
    long=(f"longer than {_BYTES} bytes",),
    broken=("its answer broke off",),
    redirect=("HTTP 30",),
    body=("not JSON", "not a list", "no samples", "line 1: ", "breaks off in mid-line"),
    encoding=("it was asked for identity",),
)

PROVIDERS: dict[str, tuple[str, bytes, Callable[[str], DeploymentProvider]]] = {
    "control_plane": (
        "/api/deployment/list?limit=100&offset=0&sort_by=created_at&sort_order=asc",
        b'[{"id": "1", "name": "web", "running_replicas": 2}]',
        lambda url: ControlPlaneProvider(url, "", _SECONDS, _BYTES),
    ),
    "docker": (
        "/containers/json?all=true&filters=%7B%22label%22%3A%5B%22service%22%5D%7D",
        b'[{"State": "running", "Labels": {"service": "web"}}]',
        lambda url: DockerProvider(url, "service", _SECONDS, _BYTES),
    ),
    "prometheus": (
        "/metrics",
        b'traefik_service_requests_total{service="web@file"} 1\ntraefik_service_server_up{service="web@file"} 2\n',
        lambda url: PrometheusProvider(f"{url}/metrics", READY["traefik"], _SECONDS, _BYTES),
    ),
}


def _answers(provider: DeploymentProvider) -> bool:
    with contextlib.suppress(ProviderError):
        provider.deployments()
        return True
    return False


@pytest.mark.parametrize("name", list(PROVIDERS))
def test_whatever_a_server_does_wrong_is_an_error_that_says_what_it_was(name: str) -> None:
    target, good, make = PROVIDERS[name]
    with HostileServer({}) as elsewhere, HostileServer({}) as server:
        provider = make(server.url)
        for behaviour in http_behaviours(good, elsewhere.url, _WORDS):
            server.scripts[target] = says(http(good))
            wait_until(lambda: _answers(provider), 10, "the end of the request before")
            server.scripts[target] = behaviour.script
            with pytest.raises(ProviderError) as caught:
                provider.deployments()
            assert any(word in str(caught.value) for word in behaviour.says), f"{behaviour.name}: {caught.value}"
        assert not elsewhere.connections
