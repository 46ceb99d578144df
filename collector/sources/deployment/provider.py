"""What a provider is: something on this host that knows deployments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from collector.frame.histogram import Observations
from shm.errors import FogmetricsError

# Deployments that one answer may have; one with more is refused as a whole. Four series each, so that even they are far
# beyond what a source may have by default; each is some 1 KiB on its way into the ring.
MAX_DEPLOYMENTS = 10_000


class ProviderError(FogmetricsError):
    """A provider could not be asked, or what it said makes no sense. The message names its url and a remedy."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """What one provider knows of one deployment. None: it can't know, or not yet; never a stand-in for 0.

    ``replicas`` that run; ``request_rate`` and ``error_rate`` per second, ``latency_ms`` in milliseconds, all
    three over the time since the provider was asked before. ``latencies``, where the provider counts them in buckets:
    all of that time, of which ``latency_ms`` then is the mean. ``keeps_latency`` without ``latency_ms``: the
    provider measures latency, but nothing was observed in that time.
    """

    deployment_id: str
    replicas: float | None = None
    request_rate: float | None = None
    error_rate: float | None = None
    latency_ms: float | None = None
    keeps_latency: bool = False
    latencies: Observations | None = None


class DeploymentProvider(Protocol):
    """``deployments`` is asked once an interval and answers within the time and size it was given.

    Raises ProviderError when it can't; no deployments at all is an answer. An instance keeps the reading before,
    where it needs one for rates: ask it from one place only.
    """

    name: str

    def deployments(self) -> list[Deployment]: ...

    def close(self) -> None:
        """Close the connection, if one is kept."""
        ...
