"""DeploymentMetricSource: reads its providers and merges their values by deployment.

Providers are called by a CallPool (collector/loop/timeouts.py), so slow ones are waited for at the same time: each has
the timeout of a request, and all together take no longer than the slowest. A call that exceeds ``timeout_seconds``, as
when the kernel hangs or the processor is busy, is abandoned, and its provider is called again after the call has
returned: at most one thread per provider.

Values of the same deployment_id are merged: each value is taken from the first provider that knows it, in the order of
[source.deployment] providers. To join a process group of supervisord with a backend of HAProxy, give both one name. If
a provider fails, only the values that no other provider knows are absent.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from collector.frame.histogram import Observations
from collector.loop.timeouts import MOMENT_SECONDS, CallPool
from collector.metrics import DEPLOYMENT
from collector.settings import CollectorTables, check_own_buckets, with_buckets
from collector.source import Collection, MetricSource, Sample
from collector.sources.deployment.prometheus_mapping import PrometheusOptions, mappings, table_of
from collector.sources.deployment.provider import Deployment, DeploymentProvider
from collector.sources.target import Limits
from fogmetrics.durations import Seconds
from fogmetrics.settings.reader import Glob, key
from shm.errors import ConfigurationError
from shm.metric import DEFAULT_BUCKETS_MS
from shm.safe_repr import said

# Share of the collection's timeout for all replies together. It is larger than that of a request (collector.registry),
# so that a reply just before the request's timeout is still parsed.
_ANSWERS_SHARE = 0.9
# Share of that time by which the last call may start after the first: well below the time that remains after a
# request's timeout, so that the last provider, too, can report its own timeout.
_BEGINNING_SHARE = 0.01

# The provider that reads a key.
_READ_BY: Mapping[str, str] = {
    "supervisord_url": "supervisord",
    "haproxy_url": "haproxy",
    "control_plane_url": "control_plane",
    "docker_url": "docker",
    "prometheus": "prometheus",
    "haproxy_exclude": "haproxy",
    "control_plane_token_file": "control_plane",
    "docker_label": "docker",
}

_VALUES = ("replicas", "request_rate", "error_rate", "latency_ms")
_PROVIDERS_KEY = "[source.deployment] providers"


@dataclass(frozen=True)
class DeploymentOptions:
    """[source.deployment]"""

    providers: tuple[str, ...] = key(
        ("supervisord",),
        "Where deployments are read, in order of precedence: supervisord, haproxy, control_plane, docker, prometheus.",
    )
    supervisord_url: str = key("", "supervisord's unix:///path or http://host:port; empty: the one that runs us.")
    haproxy_url: str = key("", "HAProxy's stats socket, unix:///run/haproxy/admin.sock, or http://host:port/stats;csv.")
    haproxy_exclude: tuple[Glob, ...] = key((), "Globs of HAProxy backends that are not deployments.")
    control_plane_url: str = key(
        "", "fog-compute's control plane, http://host:port, https or unix, without /api/deployment/list."
    )
    control_plane_token_file: str = key(
        "", "File that holds the bearer token for the control plane; empty: none is sent."
    )
    docker_url: str = key(
        "unix:///var/run/docker.sock", "The engine's socket; Podman's is unix:///run/podman/podman.sock."
    )
    docker_label: str = key("com.docker.compose.service", "Label of containers whose value is the deployment_id.")
    prometheus: Mapping[str, PrometheusOptions] = key({}, "Pages for Prometheus, one table each.")
    request_timeout_seconds: Seconds = key(3.0, "Time that one provider may take to answer.", low=0.01, high=60)
    max_reply_bytes: int = key(4_194_304, "Longest answer that is read from a provider.", low=1_024, high=1_073_741_824)
    buckets: tuple[float, ...] = key(
        DEFAULT_BUCKETS_MS, "Upper bounds of deployment_latency's histogram, in milliseconds, rising."
    )
    old_spellings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_own_buckets("deployment_latency", self.buckets, "source.deployment")

    @classmethod
    def modernized(cls, table: Mapping[str, Any]) -> tuple[Mapping[str, Any], tuple[str, ...]]:
        """Convert old keys: (the table with present keys, a note for each old one)."""
        if not isinstance(table.get("prometheus", []), list) or not table.keys() & {
            "prometheus",
            "prometheus_mappings",
        }:
            return table, ()
        from collector.sources.deployment.prometheus_strings import modernized

        return modernized(table)


def _supervisord(options: DeploymentOptions, limits: Limits) -> Sequence[DeploymentProvider]:
    from collector.sources.deployment.supervisord import SupervisordProvider

    return [SupervisordProvider(options.supervisord_url, limits)]


def _haproxy(options: DeploymentOptions, limits: Limits) -> Sequence[DeploymentProvider]:
    from collector.sources.deployment.haproxy import HaproxyProvider

    if not options.haproxy_url:
        raise _no_address("haproxy", "haproxy_url", '"unix:///run/haproxy/admin.sock" or "http://host:port/stats;csv"')
    return [HaproxyProvider(options.haproxy_url, limits, options.haproxy_exclude)]


def _control_plane(options: DeploymentOptions, limits: Limits) -> Sequence[DeploymentProvider]:
    from collector.sources.deployment.control_plane import ControlPlaneProvider

    if not options.control_plane_url:
        raise _no_address("control_plane", "control_plane_url", '"http://host:port"')
    return [ControlPlaneProvider(options.control_plane_url, options.control_plane_token_file, limits)]


def _docker(options: DeploymentOptions, limits: Limits) -> Sequence[DeploymentProvider]:
    from collector.sources.deployment.docker import DockerProvider

    return [DockerProvider(options.docker_url, options.docker_label, limits)]


def _prometheus(options: DeploymentOptions, limits: Limits) -> Sequence[DeploymentProvider]:
    from collector.sources.deployment.prometheus import PrometheusProvider

    if not options.prometheus:
        raise ConfigurationError(
            f"{_PROVIDERS_KEY} lists prometheus, but there is no page for it; add a table such as "
            f'{table_of("traefik")} with url = "http://localhost:8080/metrics", or take prometheus out'
        )
    return [
        PrometheusProvider(options.prometheus[name].url, mapping, limits, f"{table_of(name)} url")
        for name, mapping in mappings(options.prometheus).items()
    ]


def _no_address(provider: str, key: str, example: str) -> ConfigurationError:
    return ConfigurationError(
        f"{_PROVIDERS_KEY} lists {provider}, but {key} is empty; set it to {example}, or take {provider} out"
    )


# All providers by their names in the configuration; each page for Prometheus is one. Each function imports only what
# its provider needs: HAProxy's socket needs no HTTP.
PROVIDERS: Mapping[str, Callable[[DeploymentOptions, Limits], Sequence[DeploymentProvider]]] = {
    "supervisord": _supervisord,
    "haproxy": _haproxy,
    "control_plane": _control_plane,
    "docker": _docker,
    "prometheus": _prometheus,
}


class DeploymentMetricSource(MetricSource):
    """Reads ``providers``; None: those that the options list. Raises ConfigurationError.

    ``timeout_seconds``: time for all providers together, parsing included.
    """

    name = "deployment"
    # supervisord reports a program as RUNNING after its startsecs, 1, in steps of a second; a rate needs two readings.
    first_ticks_seconds = (0.2, 1.2, 2.2)

    def __init__(
        self,
        options: DeploymentOptions | None = None,
        providers: Sequence[DeploymentProvider] | None = None,
        timeout_seconds: float = 10.0,
    ) -> None:
        self.options = options or DeploymentOptions()
        self.metrics = with_buckets(DEPLOYMENT, self.options.buckets)
        self._providers = build_providers(self.options) if providers is None else list(providers)
        self._timeout_seconds = timeout_seconds
        moment = min(MOMENT_SECONDS, _BEGINNING_SHARE * timeout_seconds / max(len(self._providers), 1))
        self._calls: CallPool[list[Deployment] | str] = CallPool("provider", moment)

    @classmethod
    def from_config(
        cls, options: DeploymentOptions, config: CollectorTables, timeout_seconds: float
    ) -> DeploymentMetricSource:
        return cls(options, timeout_seconds=_ANSWERS_SHARE * timeout_seconds)

    @property
    def notes(self) -> list[str]:
        """Notes about old keys, and about configured addresses whose providers are not listed."""
        default = DeploymentOptions()
        return [
            *self.options.old_spellings,
            *(
                f"[source.deployment] {key} is set, but providers does not list {provider}, so it is not read; add "
                "it, or remove the key"
                for key, provider in _READ_BY.items()
                if getattr(self.options, key) != getattr(default, key) and provider not in self.options.providers
            ),
        ]

    def collect(self) -> Collection:
        answers: list[list[Deployment]] = []
        errors: list[str] = []
        for provider, answer in zip(self._providers, self._ask(), strict=True):
            if isinstance(answer, list):
                answers.append(answer)
            else:
                errors.append(f"{provider.name}: {answer if isinstance(answer, str) else said(answer)}")
        samples = [sample for one in merge(answers) for sample in _samples(one)]
        return Collection(samples, errors, up=bool(answers))

    def close(self) -> None:
        self._calls.close()
        for provider in self._providers:
            provider.close()

    def _ask(self) -> list[list[Deployment] | str | Exception]:
        """The result of each provider in order: its deployments, its error, or Hung if it has not returned."""
        if len(self._providers) == 1:  # the usual case, which needs no second thread
            return [_answer(self._providers[0])]
        count = len(self._providers)
        jobs = {
            f"{number} of {count}{f' at {one.where}' if hasattr(one, 'where') else ''}": partial(_answer, one)
            for number, one in enumerate(self._providers, 1)
        }
        return list(self._calls.call(jobs, self._timeout_seconds).values())


def _answer(provider: DeploymentProvider) -> list[Deployment] | str:
    """Its deployments, or its error as text: an exception would keep the reply alive through its traceback."""
    try:
        return provider.deployments()
    except Exception as error:  # noqa: BLE001 - any failure becomes an error of the collection
        return said(error)


def build_providers(options: DeploymentOptions) -> list[DeploymentProvider]:
    """Build the providers that the options list, in order. Raises ConfigurationError."""
    known = ", ".join(PROVIDERS)
    if not options.providers:
        raise ConfigurationError(f"{_PROVIDERS_KEY} is empty; give at least one of {known}")
    limits = Limits(options.request_timeout_seconds, options.max_reply_bytes, "[source.deployment]")
    found, mistakes = list[DeploymentProvider](), list[str]()
    for name in dict.fromkeys(options.providers):
        if name not in PROVIDERS:
            mistakes.append(f"{_PROVIDERS_KEY} has {name!r}, which is no provider; the providers are {known}")
            continue
        try:
            found += PROVIDERS[name](options, limits)
        except ConfigurationError as error:
            mistakes += error.args
    if mistakes:
        raise ConfigurationError(*mistakes)
    return found


def merge(answers: Iterable[Iterable[Deployment]]) -> list[Deployment]:
    """One Deployment for each deployment_id, with the first known value of each field. Pure."""
    merged: dict[str, Deployment] = {}
    for answer in answers:
        for new in answer:
            old = merged.setdefault(new.deployment_id, new)
            added = {name: getattr(new, name) for name in _VALUES if getattr(old, name) is None}
            keeps_latency = old.keeps_latency or new.keeps_latency
            merged[new.deployment_id] = dataclasses.replace(old, keeps_latency=keeps_latency, **added)
    return list(merged.values())


def _samples(deployment: Deployment) -> Iterator[Sample]:
    labels = {"deployment_id": deployment.deployment_id}
    for metric, value in (
        ("deployment_replica_count", deployment.replicas),
        ("deployment_request_rate", deployment.request_rate),
        ("deployment_error_rate", deployment.error_rate),
    ):
        if value is not None:
            yield Sample(metric, value, labels)
    latency = deployment.latency_ms
    if isinstance(latency, Observations):
        # Without their mean as a value: its percentiles are not those of requests, and buckets are more exact.
        yield Sample("deployment_latency", None, labels, observations=latency)
    elif latency is not None or deployment.keeps_latency:
        yield Sample("deployment_latency", latency, labels)
