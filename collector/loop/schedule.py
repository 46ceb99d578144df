"""Tick deadlines on a grid of the wall clock, given as times of the monotonic clock.

The grid is ``k × interval + phase``; the phase is a stable hash of the source's name. So the collectors of one host
don't wake together, and two hosts sample the same source at the same instant. Each deadline is computed anew from both
clocks: a step of the wall clock moves the grid, but doubles, bunches or delays no tick.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from xxhash import xxh3_64_intdigest

# If the wall clock moved against the monotonic one by more than this between two ticks, it was set. NTP slews by less
# than 500 ppm, 8 ms in 15 s.
CLOCK_STEP_NS: Final = 500_000_000

Clock = Callable[[], int]


class Schedule:
    """Deadlines of one source. ``interval_ns`` > 0; ``wall`` and ``monotonic`` return nanoseconds."""

    def __init__(
        self, source: str, interval_ns: int, wall: Clock = time.time_ns, monotonic: Clock = time.monotonic_ns
    ) -> None:
        self.interval_ns = interval_ns
        self.phase_ns = xxh3_64_intdigest(source.encode()) % interval_ns
        self._wall = wall
        self._monotonic = monotonic
        self._last_ns: int | None = None
        self._offset_ns: int | None = None

    def first(self, deadline_ns: int) -> int:
        """Note ``deadline_ns`` of one of the first ticks, which are off the grid, and return it."""
        self._last_ns = deadline_ns
        return deadline_ns

    def next(self, ticked_ns: int = 0) -> tuple[int, int]:
        """(next deadline on the monotonic clock, ticks missed before it). Call it after each tick.

        ``ticked_ns``: monotonic time of that tick; later than its deadline if the process was stopped.
        """
        now_ns = self._monotonic()
        to_grid = self.interval_ns - (self._wall() - self.phase_ns) % self.interval_ns
        deadline_ns = now_ns + to_grid
        missed = 0
        if self._last_ns is not None:
            # The next grid point may be too close: the tick woke a little early, the wall clock was set, or the tick
            # was late. Skip a point that is less than half an interval after the last tick.
            if deadline_ns - max(self._last_ns, ticked_ns) < self.interval_ns // 2:
                deadline_ns += self.interval_ns
            missed = max((deadline_ns - self._last_ns + self.interval_ns // 2) // self.interval_ns - 1, 0)
        self._last_ns = deadline_ns
        return deadline_ns, missed

    def clock_stepped(self, wall_ns: int, monotonic_ns: int) -> bool:
        """True if the wall clock was set since the last call. Both readings are of the same moment."""
        offset_ns = wall_ns - monotonic_ns
        stepped = self._offset_ns is not None and abs(offset_ns - self._offset_ns) > CLOCK_STEP_NS
        self._offset_ns = offset_ns
        return stepped
