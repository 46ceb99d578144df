"""When to tick: on a grid of the wall clock, slept to on the monotonic one.

The grid is ``k × interval + phase``, with a phase that is a stable hash of the source: collectors of one host don't
wake together, and two hosts sample the same source at the same instant. Each deadline is computed afresh from both
clocks, so that a step of the wall clock moves the grid and nothing else: no tick is doubled, bunched or waited for.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from xxhash import xxh3_64_intdigest

# A wall clock that moved against the monotonic one by more than this between two ticks was set. Slewing by NTP is
# below 500 ppm, 8 ms in 15 s.
CLOCK_STEP_NS: Final = 500_000_000

Clock = Callable[[], int]


class Schedule:
    """Deadlines of one source. ``interval_ns`` > 0; ``wall`` and ``monotonic`` give nanoseconds."""

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
        """``deadline_ns``, which is that of one of the first ticks, off the grid."""
        self._last_ns = deadline_ns
        return deadline_ns

    def next(self, ticked_ns: int = 0) -> tuple[int, int]:
        """(deadline on the monotonic clock, ticks missed since the one before). Call it after each tick.

        ``ticked_ns``: when the tick was, by the monotonic clock; later than its deadline where the process was stopped.
        """
        now_ns = self._monotonic()
        to_grid = self.interval_ns - (self._wall() - self.phase_ns) % self.interval_ns
        deadline_ns = now_ns + to_grid
        missed = 0
        if self._last_ns is not None:
            # Woken a hair early, the same grid point would come again; after a step of the wall clock the grid
            # may lie anywhere; and a tick that came late may be close to the next grid point. Each way a frame closer
            # than half an interval to the last is one too many.
            if deadline_ns - max(self._last_ns, ticked_ns) < self.interval_ns // 2:
                deadline_ns += self.interval_ns
            missed = max((deadline_ns - self._last_ns + self.interval_ns // 2) // self.interval_ns - 1, 0)
        self._last_ns = deadline_ns
        return deadline_ns, missed

    def clock_stepped(self, wall_ns: int, monotonic_ns: int) -> bool:
        """True when the wall clock was set since the last call. Both readings are of the same moment."""
        offset_ns = wall_ns - monotonic_ns
        stepped = self._offset_ns is not None and abs(offset_ns - self._offset_ns) > CLOCK_STEP_NS
        self._offset_ns = offset_ns
        return stepped
