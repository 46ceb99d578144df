"""The keys of [source.betanet]. Apart from the source, so that checking them does not import httpx."""

from __future__ import annotations

from dataclasses import dataclass

from collector.settings import check_own_buckets
from fogmetrics.durations import Seconds
from fogmetrics.settings.reader import key
from shm.metric import DEFAULT_BUCKETS_MS


@dataclass(frozen=True, slots=True)
class BetanetOptions:
    """[source.betanet]"""

    url: str = key("http://localhost:9000", "Where Betanet's HTTP service is, without /api/v1.")
    request_timeout_seconds: Seconds = key(
        5.0, "Time that one endpoint may take for its whole answer.", low=0.01, high=60
    )
    max_reply_bytes: int = key(
        1_048_576, "Longest answer that is read from an endpoint.", low=1_024, high=1_073_741_824
    )
    failures_to_open: int = key(
        5, "Collections in a row without any answer that open the circuit breaker.", low=1, high=1_000_000
    )
    open_seconds: Seconds = key(
        30.0, "Time that the circuit breaker stays open before Betanet is tried again.", low=0, high=86_400
    )
    buckets: tuple[float, ...] = key(
        DEFAULT_BUCKETS_MS, "Upper bounds of betanet_latency's histogram, in milliseconds, rising."
    )

    def __post_init__(self) -> None:
        check_own_buckets("betanet_latency", self.buckets, "source.betanet")
