"""The source *betanet*: packets, connections and latency over HTTP. client.py sends requests, reply.py parses replies.

There are three endpoints. If one fails, only its own samples are absent. If all three fail in 5 collections in a row,
the circuit breaker stops requests for 30 seconds (breaker.py); the next collection is the trial. An endpoint that
answers a JSON object has not failed, even if no field in it is valid.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from collector.metrics import BETANET, CIRCUIT_STATE
from collector.settings import with_buckets
from collector.source import Collection, MetricSource, Sample
from collector.sources.betanet.breaker import CircuitBreaker, CircuitState
from collector.sources.betanet.client import BetanetClient
from fogmetrics.settings.reader import key
from shm.metric import DEFAULT_BUCKETS_MS

__all__ = ["BetanetClient", "BetanetOptions", "BetanetSource"]


@dataclass(frozen=True, slots=True)
class BetanetOptions:
    """[source.betanet]"""

    url: str = key("http://localhost:9000", "Where Betanet's HTTP service is, without /api/v1.")
    request_timeout_seconds: float = key(
        5.0, "Time that one endpoint may take for its whole answer.", low=0.01, high=60
    )
    max_reply_bytes: int = key(
        1_048_576, "Longest answer that is read from an endpoint.", low=1_024, high=1_073_741_824
    )
    failures_to_open: int = key(
        5, "Collections in a row without any answer after which Betanet is left alone.", low=1, high=1_000_000
    )
    open_seconds: float = key(
        30.0, "Time that Betanet is then left alone before it is tried again.", low=0, high=86_400
    )
    buckets: tuple[float, ...] = key(
        DEFAULT_BUCKETS_MS, "Upper bounds of betanet_latency's histogram, in milliseconds, rising."
    )


class BetanetSource(MetricSource):
    """Reads one Betanet. ``clock`` is monotonic, in seconds. Raises ConfigurationError for invalid options."""

    name = "betanet"

    def __init__(self, options: BetanetOptions | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.options = options or BetanetOptions()
        self.metrics = with_buckets((*BETANET, CIRCUIT_STATE), self.options.buckets, "source.betanet")
        self.client = BetanetClient(
            self.options.url, self.options.request_timeout_seconds, self.options.max_reply_bytes
        )
        self.breaker = CircuitBreaker(self.options.failures_to_open, self.options.open_seconds, clock)
        self._last_error = ""

    def collect(self) -> Collection:
        if self.breaker.state is CircuitState.OPEN:
            return Collection([self._circuit()], [self._open_circuit()], up=False)
        readings = self.client.read_all()
        errors = [error for reading in readings for error in reading.errors]
        if any(reading.answered for reading in readings):
            self.breaker.succeeded()
        else:
            self._last_error = errors[0]
            self.breaker.failed()
        samples = [Sample(metric, value) for reading in readings for metric, value in reading.values.items()]
        return Collection([*samples, self._circuit()], errors, up=bool(samples))

    def close(self) -> None:
        self.client.close()

    def _circuit(self) -> Sample:
        return Sample(CIRCUIT_STATE.name, float(self.breaker.state), {"source": self.name})

    def _open_circuit(self) -> str:
        return (
            f"circuit open after {self.breaker.failures_in_a_row} failures in a row, next try in "
            f"{math.ceil(self.breaker.seconds_until_trial)} s; last error: {self._last_error}"
        )
