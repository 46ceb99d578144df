"""CircuitBreaker: stops requests to a target that is down, and tries one request after a while.

    state       when
    closed      fewer than failures_to_open failures in a row: requests are made
    open        as many or more, the last one less than open_seconds ago: no requests
    half-open   the same, longer ago: the next request is the trial. It closes the breaker, or opens it again

Make one request at a time, none while the breaker is open, and report each outcome.

Pure: no threads, timers or logs; it reads the given clock when it is called. Not thread-safe.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import IntEnum


class CircuitState(IntEnum):
    """States, with their values in the metric collector_circuit_state."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class CircuitBreaker:
    """Opens after ``failures_to_open`` failures in a row, tries again ``open_seconds`` later.

    ``clock`` is monotonic, in seconds. ``failures_in_a_row``: attempts that failed since the last one that succeeded,
    trials included.
    """

    def __init__(
        self, failures_to_open: int = 5, open_seconds: float = 30.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.failures_to_open = failures_to_open
        self.open_seconds = open_seconds
        self._clock = clock
        self.failures_in_a_row = 0
        self._failed_at = 0.0

    @property
    def state(self) -> CircuitState:
        if self.failures_in_a_row < self.failures_to_open:
            return CircuitState.CLOSED
        return CircuitState.OPEN if self.seconds_until_trial > 0.0 else CircuitState.HALF_OPEN

    @property
    def seconds_until_trial(self) -> float:
        """Seconds until an open breaker is half-open."""
        return max(self._failed_at + self.open_seconds - self._clock(), 0.0)

    def succeeded(self) -> None:
        """Report that the request succeeded."""
        self.failures_in_a_row = 0

    def failed(self) -> None:
        """Report that the request failed."""
        self.failures_in_a_row += 1
        self._failed_at = self._clock()
