"""The source *betanet*: packets, connections and latency over HTTP. client.py sends requests, reply.py parses replies.

There are three endpoints. If one fails, only its own samples are absent. If all three fail in 5 collections in a row,
the circuit breaker stops requests for 30 seconds (breaker.py); the next collection is the trial. An endpoint that
answers a JSON object has not failed, even if no field in it is valid.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from collector.metrics import BETANET, CIRCUIT_STATE
from collector.settings import with_buckets
from collector.source import Collection, MetricSource, Sample
from collector.sources.betanet.breaker import CircuitBreaker, CircuitState
from collector.sources.betanet.client import BetanetClient
from collector.sources.betanet.options import BetanetOptions

__all__ = ["BetanetClient", "BetanetOptions", "BetanetSource"]


class BetanetSource(MetricSource):
    """Reads one Betanet. ``clock`` is monotonic, in seconds. Raises ConfigurationError for invalid options."""

    name = "betanet"

    def __init__(self, options: BetanetOptions | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.options = options or BetanetOptions()
        self.metrics = with_buckets((*BETANET, CIRCUIT_STATE), self.options.buckets)
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
