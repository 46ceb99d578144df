"""CircuitBreaker: stops requests to a target that is down, and tries one request after a while.

    state       what happens                                   next state
    closed      succeeded()                                    closed, the failures in a row forgotten
    closed      failed(), fewer than failures_to_open in a row  closed
    closed      failed(), the last of failures_to_open in a row open
    open        allow() before open_seconds have passed: False  open
    open        allow() after open_seconds: True, the trial     half-open
    half-open   allow(): False, there is exactly one trial      half-open
    half-open   succeeded()                                     closed
    half-open   failed()                                        open, for open_seconds from now

After allow() returned True, and only then, the caller reports the outcome, even of an interrupted request: a trial
without an outcome would leave the breaker half-open forever.

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
        self.state = CircuitState.CLOSED
        self.failures_in_a_row = 0
        self._opened_at = 0.0

    @property
    def seconds_until_trial(self) -> float:
        """Seconds until ``allow`` returns True again; 0.0 if the breaker is not open or the time has passed."""
        if self.state is not CircuitState.OPEN:
            return 0.0
        return max(self._opened_at + self.open_seconds - self._clock(), 0.0)

    def allow(self) -> bool:
        """Whether to make a request now. If True, call ``succeeded`` or ``failed`` after it."""
        if self.state is CircuitState.OPEN and self.seconds_until_trial == 0.0:
            self.state = CircuitState.HALF_OPEN
            return True
        return self.state is CircuitState.CLOSED

    def succeeded(self) -> None:
        """Report that the request succeeded."""
        self.state = CircuitState.CLOSED
        self.failures_in_a_row = 0

    def failed(self) -> None:
        """Report that the request failed or was interrupted."""
        self.failures_in_a_row += 1
        # A failed trial opens the breaker again, as the failures before it still count.
        if self.failures_in_a_row >= self.failures_to_open:
            self.state = CircuitState.OPEN
            self._opened_at = self._clock()
