"""DeploymentProvider: the interface of programs that know deployments, and what they return."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from collector.frame.histogram import Observations
from collector.sources.target import NoReply
from shm.errors import FogmetricsError

T = TypeVar("T")

# Most deployments of one reply; one with more is refused as a whole. With four series each, these are far beyond the
# default limit of a source; each takes some 1 KiB on its way into the ring.
MAX_DEPLOYMENTS = 10_000


class ProviderError(FogmetricsError):
    """A provider could not be read, or its reply is invalid. The message names its url and a remedy."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """The values of one deployment from one provider. None: unknown, or not yet known; never used for 0.

    ``replicas``: running ones; ``request_rate`` and ``error_rate`` per second, ``latency_ms`` in milliseconds, all
    three since the previous reading of the provider. ``latency_ms`` is an average, or all latencies of that time, if
    the provider counts them in buckets. ``keeps_latency`` without ``latency_ms``: the provider measures latency, but
    nothing was observed in that time.
    """

    deployment_id: str
    replicas: float | None = None
    request_rate: float | None = None
    error_rate: float | None = None
    latency_ms: float | Observations | None = None
    keeps_latency: bool = False


class DeploymentProvider(Protocol):
    """A provider of deployments. ``deployments`` is called once an interval and keeps its limits of time and size.

    It raises ProviderError on failure; an empty list is a valid result. An instance may keep the previous reading for
    rates, so only one caller may use it.
    """

    name: str

    def deployments(self) -> list[Deployment]: ...

    def close(self) -> None:
        """Close the connection, if one is kept."""
        ...


def sum_of(values: Iterable[float | None]) -> float | None:
    """The sum; None without values, or if one is unknown, since a sum without it would be too low."""
    known = list(values)
    return sum(one for one in known if one is not None) if known and None not in known else None


def explained(read: Callable[[], T], where: str, what: str, if_none: str, kind: str, if_other: str) -> T:
    """``read()``, which reads the address ``where``. Raises ProviderError, with a remedy, instead of its errors.

    NoReply: no ``what`` is there; ``if_none``. ValueError: the reply is not from ``kind``; ``if_other``.
    """
    try:
        return read()
    except NoReply as error:
        raise ProviderError(f"no {what} at {where}: {error}; {if_none}") from error
    except ValueError as error:
        raise ProviderError(f"what answers at {where} is not {kind}: {error}; {if_other}") from error
