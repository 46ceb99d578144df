"""The deployment source: asks its providers, merges what they know, leaves out what none knows.

Providers are asked in the order of [source.deployment] providers. Two that know the same deployment_id speak of
the same deployment: of each of its values, the first provider's that knows it is taken. To join a process group of
supervisord with a backend of HAProxy, give both one name. A provider that fails costs only what it alone knows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from collector.metrics import DEPLOYMENT
from collector.source import Collection, MetricSource, Sample
from collector.sources.deployment.haproxy import HaproxyProvider
from collector.sources.deployment.provider import Deployment, DeploymentProvider, ProviderError
from collector.sources.deployment.supervisord import SupervisordProvider
from shm.catalog import DEFAULT_BUCKETS_MS, Metric
from shm.errors import ConfigurationError, MetricError

_PROVIDERS_KEY = "[source.deployment] providers"


@dataclass(frozen=True)
class DeploymentOptions:
    """[source.deployment]"""

    providers: tuple[str, ...] = field(
        default=("supervisord",),
        metadata={"doc": "Who is asked, first come first believed: supervisord, haproxy."},
    )
    supervisord_url: str = field(
        default="",
        metadata={"doc": "supervisord's unix:///path or http://host:port; empty: the one that runs us."},
    )
    haproxy_url: str = field(
        default="",
        metadata={"doc": "HAProxy's stats socket, unix:///run/haproxy/admin.sock, or http://host:port/stats;csv."},
    )
    haproxy_exclude: tuple[str, ...] = field(
        default=(), metadata={"doc": "Globs of HAProxy backends that are no deployments."}
    )
    request_timeout_seconds: float = field(
        default=3.0, metadata={"doc": "Time that one provider may take to answer.", "low": 0.01, "high": 60}
    )
    max_reply_bytes: int = field(
        default=4_194_304,
        metadata={"doc": "Longest answer that is read from a provider.", "low": 1_024, "high": 1_073_741_824},
    )
    buckets: tuple[float, ...] = field(
        default=DEFAULT_BUCKETS_MS,
        metadata={"doc": "Upper bounds of deployment_latency's histogram, in milliseconds, rising."},
    )

    @property
    def requests_in_turn(self) -> int:
        """How many requests a collection makes one after the other."""
        return max(len(set(self.providers)), 1)


def _supervisord(options: DeploymentOptions) -> DeploymentProvider:
    return SupervisordProvider(options.supervisord_url, options.request_timeout_seconds, options.max_reply_bytes)


def _haproxy(options: DeploymentOptions) -> DeploymentProvider:
    if not options.haproxy_url:
        raise ConfigurationError(
            f'{_PROVIDERS_KEY} lists haproxy, but haproxy_url is empty; set it to "unix:///run/haproxy/admin.sock" '
            'or "http://host:port/stats;csv", or take haproxy out'
        )
    return HaproxyProvider(
        options.haproxy_url, options.request_timeout_seconds, options.max_reply_bytes, options.haproxy_exclude
    )


# Every provider there is, by the name that the configuration lists.
PROVIDERS: Mapping[str, Callable[[DeploymentOptions], DeploymentProvider]] = {
    SupervisordProvider.name: _supervisord,
    HaproxyProvider.name: _haproxy,
}


class DeploymentMetricSource(MetricSource):
    """Asks ``providers``; None: those that the options list. Raises ConfigurationError."""

    name = "deployment"
    first_tick_seconds = 2.0  # supervisord calls a program RUNNING after its startsecs, 1, in rounds of a second

    def __init__(
        self, options: DeploymentOptions | None = None, providers: Sequence[DeploymentProvider] | None = None
    ) -> None:
        self.options = options or DeploymentOptions()
        self.metrics = _metrics(self.options.buckets)
        self._providers = build_providers(self.options) if providers is None else list(providers)

    def collect(self) -> Collection:
        answers: list[list[Deployment]] = []
        errors: list[str] = []
        for provider in self._providers:
            try:
                answers.append(provider.deployments())
            except ProviderError as error:
                errors.append(f"{provider.name}: {error}")
            except Exception as error:  # noqa: BLE001 - whatever one provider does, the others are asked
                errors.append(f"{provider.name}: {type(error).__name__}: {error}")
        samples = [sample for one in merge(answers) for sample in _samples(one)]
        return Collection(samples, errors, up=bool(answers))


def build_providers(options: DeploymentOptions) -> list[DeploymentProvider]:
    """One for each name that the options list. Raises ConfigurationError."""
    known = ", ".join(PROVIDERS)
    if not options.providers:
        raise ConfigurationError(f"{_PROVIDERS_KEY} is empty; give at least one of {known}")
    for name in options.providers:
        if name not in PROVIDERS:
            raise ConfigurationError(f"{_PROVIDERS_KEY} has {name!r}, which is no provider; the providers are {known}")
    return [PROVIDERS[name](options) for name in dict.fromkeys(options.providers)]


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
        yield Sample("deployment_latency", deployment.latency_ms, labels)


def _metrics(buckets: tuple[float, ...]) -> tuple[Metric, ...]:
    """The source's metrics, the histogram with ``buckets``. Raises ConfigurationError."""
    try:
        return tuple(
            dataclasses.replace(one, buckets=buckets) if one.type == "histogram" else one for one in DEPLOYMENT
        )
    except MetricError as error:
        raise ConfigurationError(f"[source.deployment] buckets can't be used: {error}") from None
