"""The deployment source: asks its providers, merges what they know, leaves out what none knows.

Providers are asked by a CallPool (collector/loop/timeouts.py), so that several slow ones are waited for at the same
time: each has the time of a request, and all together that of the slowest. A call that has not returned within
``timeout_seconds``, as when the kernel hangs or the processor is busy, is abandoned, and that provider is asked again
once the call has returned: one thread for each at most.

Their order is that of [source.deployment] providers, whoever answers first. Two that know the same deployment_id speak
of the same deployment: of each of its values, the first provider's that knows it is taken. To join a process group of
supervisord with a backend of HAProxy, give both one name. A provider that fails costs only what it alone knows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from collector.loop.timeouts import MOMENT_SECONDS, CallPool
from collector.metrics import DEPLOYMENT
from collector.settings import CollectorTables, cut_timeout
from collector.source import Collection, MetricSource, Sample
from collector.sources.deployment.prometheus_mapping import PrometheusOptions, mappings, table_of
from collector.sources.deployment.provider import Deployment, DeploymentProvider
from fogmetrics.settings.reader import key
from shm.errors import ConfigurationError, MetricError
from shm.metric import DEFAULT_BUCKETS_MS, Metric
from shm.safe_repr import said

# Share of the collection's timeout for all answers together. It is larger than a request's (collector.settings), so
# that an answer that came late is still read.
_ANSWERS_SHARE = 0.9
# Of the time for all answers, how much later the last provider may begin than the first: well below what is left of it
# behind the time of a request, so that the last one, too, has its own error when it is late.
_BEGINNING_SHARE = 0.02

# The provider that each address is of.
_ADDRESSES: Mapping[str, str] = {
    "supervisord_url": "supervisord",
    "haproxy_url": "haproxy",
    "control_plane_url": "control_plane",
    "docker_url": "docker",
    "prometheus": "prometheus",
}

_PROVIDERS_KEY = "[source.deployment] providers"


@dataclass(frozen=True)
class DeploymentOptions:
    """[source.deployment]"""

    providers: tuple[str, ...] = key(
        ("supervisord",),
        "Who is asked, first come first believed: supervisord, haproxy, control_plane, docker, prometheus.",
    )
    supervisord_url: str = key("", "supervisord's unix:///path or http://host:port; empty: the one that runs us.")
    haproxy_url: str = key("", "HAProxy's stats socket, unix:///run/haproxy/admin.sock, or http://host:port/stats;csv.")
    haproxy_exclude: tuple[str, ...] = key((), "Globs of HAProxy backends that are no deployments.")
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
    prometheus: Mapping[str, PrometheusOptions] = key({}, "Pages for Prometheus, a table each.")
    request_timeout_seconds: float = key(3.0, "Time that one provider may take to answer.", low=0.01, high=60)
    max_reply_bytes: int = key(4_194_304, "Longest answer that is read from a provider.", low=1_024, high=1_073_741_824)
    buckets: tuple[float, ...] = key(
        DEFAULT_BUCKETS_MS, "Upper bounds of deployment_latency's histogram, in milliseconds, rising."
    )
    old_spellings: tuple[str, ...] = ()

    @classmethod
    def modernized(cls, table: Mapping[str, Any]) -> tuple[Mapping[str, Any], tuple[str, ...]]:
        """The table in the present spelling, and a sentence for each key in an old one."""
        if not isinstance(table.get("prometheus", []), list) or not table.keys() & {
            "prometheus",
            "prometheus_mappings",
        }:
            return table, ()
        from collector.sources.deployment.prometheus_strings import modernized

        return modernized(table)


def _supervisord(options: DeploymentOptions) -> Sequence[DeploymentProvider]:
    from collector.sources.deployment.supervisord import SupervisordProvider

    return [SupervisordProvider(options.supervisord_url, options.request_timeout_seconds, options.max_reply_bytes)]


def _haproxy(options: DeploymentOptions) -> Sequence[DeploymentProvider]:
    from collector.sources.deployment.haproxy import HaproxyProvider

    if not options.haproxy_url:
        raise _nobody_to_ask(
            "haproxy", "haproxy_url", '"unix:///run/haproxy/admin.sock" or "http://host:port/stats;csv"'
        )
    return [
        HaproxyProvider(
            options.haproxy_url, options.request_timeout_seconds, options.max_reply_bytes, options.haproxy_exclude
        )
    ]


def _control_plane(options: DeploymentOptions) -> Sequence[DeploymentProvider]:
    from collector.sources.deployment.control_plane import ControlPlaneProvider

    if not options.control_plane_url:
        raise _nobody_to_ask("control_plane", "control_plane_url", '"http://host:port"')
    return [
        ControlPlaneProvider(
            options.control_plane_url,
            options.control_plane_token_file,
            options.request_timeout_seconds,
            options.max_reply_bytes,
        )
    ]


def _docker(options: DeploymentOptions) -> Sequence[DeploymentProvider]:
    from collector.sources.deployment.docker import DockerProvider

    return [
        DockerProvider(
            options.docker_url, options.docker_label, options.request_timeout_seconds, options.max_reply_bytes
        )
    ]


def _prometheus(options: DeploymentOptions) -> Sequence[DeploymentProvider]:
    from collector.sources.deployment.prometheus import PrometheusProvider

    if not options.prometheus:
        raise ConfigurationError(
            f"{_PROVIDERS_KEY} lists prometheus, but there is no page for it; add a table such as "
            f'{table_of("traefik")} with url = "http://localhost:8080/metrics", or take prometheus out'
        )
    return [
        PrometheusProvider(
            options.prometheus[name].url,
            mapping,
            options.request_timeout_seconds,
            options.max_reply_bytes,
            key=f"{table_of(name)} url",
        )
        for name, mapping in mappings(options.prometheus).items()
    ]


def _nobody_to_ask(provider: str, key: str, example: str) -> ConfigurationError:
    return ConfigurationError(
        f"{_PROVIDERS_KEY} lists {provider}, but {key} is empty; set it to {example}, or take {provider} out"
    )


# Every provider there is, by the name that the configuration lists; of Prometheus' pages each is one. Each loads
# what it needs itself: HAProxy's socket needs no HTTP.
PROVIDERS: Mapping[str, Callable[[DeploymentOptions], Sequence[DeploymentProvider]]] = {
    "supervisord": _supervisord,
    "haproxy": _haproxy,
    "control_plane": _control_plane,
    "docker": _docker,
    "prometheus": _prometheus,
}


class DeploymentMetricSource(MetricSource):
    """Asks ``providers``; None: those that the options list. Raises ConfigurationError.

    ``timeout_seconds``: all that asking them may take, what is made of their answers included.
    """

    name = "deployment"
    # supervisord calls a program RUNNING after its startsecs, 1, in rounds of a second; and a rate takes two readings.
    first_ticks_seconds = (0.2, 1.2, 2.2)

    def __init__(
        self,
        options: DeploymentOptions | None = None,
        providers: Sequence[DeploymentProvider] | None = None,
        timeout_seconds: float = 10.0,
    ) -> None:
        self.options = options or DeploymentOptions()
        self.metrics = _metrics(self.options.buckets)
        self._providers = build_providers(self.options) if providers is None else list(providers)
        self._timeout_seconds = timeout_seconds
        moment = min(MOMENT_SECONDS, _BEGINNING_SHARE * timeout_seconds / max(len(self._providers), 1))
        self._calls: CallPool[list[Deployment] | str] = CallPool("provider", moment)

    @classmethod
    def from_config(
        cls, options: DeploymentOptions, config: CollectorTables, timeout_seconds: float
    ) -> DeploymentMetricSource:
        cut = cut_timeout(options, "request_timeout_seconds", timeout_seconds)
        return cls(cut, timeout_seconds=_ANSWERS_SHARE * timeout_seconds)

    @property
    def notes(self) -> list[str]:
        """The keys in an old spelling, and the addresses that are configured, though their providers are not."""
        default = DeploymentOptions()
        return [
            *self.options.old_spellings,
            *(
                f"[source.deployment] {key} is set, but providers does not list {provider}, so it is not asked; add "
                "it, or take the key out"
                for key, provider in _ADDRESSES.items()
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
        """What each provider answered, or what went wrong with it, in their order; Hung where it has not returned."""
        if len(self._providers) == 1:  # as most are: it needs no thread beside the one that is here
            return [_answer(self._providers[0])]
        count = len(self._providers)
        jobs = {
            f"{number} of {count}{f' at {one.where}' if hasattr(one, 'where') else ''}": partial(_answer, one)
            for number, one in enumerate(self._providers, 1)
        }
        return list(self._calls.call(jobs, self._timeout_seconds).values())


def _answer(provider: DeploymentProvider) -> list[Deployment] | str:
    """What it answers, or what is wrong. An error itself would keep the reply, which its traceback's frames hold."""
    try:
        return provider.deployments()
    except Exception as error:  # noqa: BLE001 - whatever it does, the source says it
        return said(error)


def build_providers(options: DeploymentOptions) -> list[DeploymentProvider]:
    """Those of each name that the options list, in its order. Raises ConfigurationError."""
    known = ", ".join(PROVIDERS)
    if not options.providers:
        raise ConfigurationError(f"{_PROVIDERS_KEY} is empty; give at least one of {known}")
    for name in options.providers:
        if name not in PROVIDERS:
            raise ConfigurationError(f"{_PROVIDERS_KEY} has {name!r}, which is no provider; the providers are {known}")
    return [one for name in dict.fromkeys(options.providers) for one in PROVIDERS[name](options)]


def merge(answers: Iterable[Iterable[Deployment]]) -> list[Deployment]:
    """One Deployment for each deployment_id: of each value, the first that is known. Pure."""
    merged: dict[str, Deployment] = {}
    for answer in answers:
        for new in answer:
            old = merged.get(new.deployment_id)
            merged[new.deployment_id] = (
                new
                if old is None
                else Deployment(
                    new.deployment_id,
                    replicas=_first(old.replicas, new.replicas),
                    request_rate=_first(old.request_rate, new.request_rate),
                    error_rate=_first(old.error_rate, new.error_rate),
                    latency_ms=_first(old.latency_ms, new.latency_ms),
                    keeps_latency=old.keeps_latency or new.keeps_latency,
                    latencies=old.latencies if old.latency_ms is not None else new.latencies,
                )
            )
    return list(merged.values())


def _first(one: float | None, other: float | None) -> float | None:
    return other if one is None else one  # not "or": 0 is known


def _samples(deployment: Deployment) -> Iterator[Sample]:
    labels = {"deployment_id": deployment.deployment_id}
    for metric, value in (
        ("deployment_replica_count", deployment.replicas),
        ("deployment_request_rate", deployment.request_rate),
        ("deployment_error_rate", deployment.error_rate),
    ):
        if value is not None:
            yield Sample(metric, value, labels)
    if deployment.latency_ms is not None or deployment.keeps_latency:
        # Where there are buckets the mean is no sample: percentiles of it would be none of requests, and the buckets'
        # increases tell more.
        value = deployment.latency_ms if deployment.latencies is None else None
        yield Sample("deployment_latency", value, labels, observations=deployment.latencies)


def _metrics(buckets: tuple[float, ...]) -> tuple[Metric, ...]:
    """The source's metrics, the histogram with ``buckets``. Raises ConfigurationError."""
    try:
        return tuple(
            dataclasses.replace(one, buckets=buckets) if one.type == "histogram" else one for one in DEPLOYMENT
        )
    except MetricError as error:
        raise ConfigurationError(f"[source.deployment] buckets can't be used: {error}") from None
