"""The tick loop: appends one frame of one source to its ring every interval.

A tick collects with a timeout, stages the samples, stages the collector's own metrics and appends one frame. If the
source fails, its samples are absent and ``collector_up`` is 0; the loop continues.
"""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import dataclass, field

from collector import metrics
from collector.frame.collector import MetricCollector
from collector.loop.disk_copies import Snapshots
from collector.loop.schedule import Clock, Schedule
from collector.loop.selfmetrics import SelfMetrics
from collector.loop.source_thread import SourceResult, SourceThread
from collector.loop.stop import Stop
from collector.source import MetricSource
from shm.errors import RingError
from shm.ring.layout import FLAG_CLOCK_STEP, FLAG_TICK
from shm.safe_repr import said

log = logging.getLogger(__name__)

# Times of the first frames after the start: early, so that pages are soon complete. A source may set more of them,
# ``first_ticks_seconds``, if what it reads is starting too, or if it needs a first reading to compare with.
FIRST_TICKS_SECONDS = (0.2,)
_CLOSE_SECONDS = 2.0
_MAX_LOGGED = 1000  # characters of errors in a log line


@dataclass(slots=True)
class Worker:
    """Collects ``source`` into ``collector``'s ring until ``stop``."""

    source: MetricSource
    collector: MetricCollector
    interval_seconds: float
    timeout_seconds: float
    wall: Clock = time.time_ns
    monotonic: Clock = time.monotonic_ns
    stop: Stop = field(default_factory=Stop)
    snapshots: Snapshots | None = None
    _own: SelfMetrics = field(init=False)
    _schedule: Schedule = field(init=False)
    _thread: SourceThread = field(init=False)
    _open_error: str = field(init=False, default="")
    _last_state: tuple[bool, bool] | None = field(init=False, default=None)  # up, with errors; at the previous tick

    def __post_init__(self) -> None:
        self.collector.register(*self.source.metrics)
        self._own = SelfMetrics(self.collector, self.source.name, self.snapshots)
        self._schedule = Schedule(self.source.name, round(self.interval_seconds * 1e9), self.wall, self.monotonic)
        self._thread = SourceThread(self.source)

    def run(self) -> None:
        """Tick until ``stop``, then release the ring to the next writer. Raises RingLost."""
        first_ns = [self.monotonic() + round(seconds * 1e9) for seconds in self._first_ticks_seconds()]
        deadline_ns = self._schedule.first(first_ns.pop(0))
        if self.snapshots is not None:
            self.snapshots.start()
        try:
            self._open_source()
            while not self.stop.sleep_until(deadline_ns):
                ticked_ns = self._tick()
                while first_ns and first_ns[0] <= ticked_ns:
                    first_ns.pop(0)
                if first_ns:
                    deadline_ns = self._schedule.first(first_ns.pop(0))
                    continue
                deadline_ns, missed = self._schedule.next(ticked_ns)
                if missed:
                    self._own.count(metrics.TICKS_MISSED, missed)
                    log.warning("ticks missed", extra={"source": self.source.name, "ticks": missed})
        finally:
            self._close_source()
            if self.snapshots is not None:
                with contextlib.suppress(RingError):  # the loop is ending by an exception then
                    self.collector.keep_alive()
                self.snapshots.finish(self.collector.writer)
            self.collector.close()
            self.stop.close()

    def _first_ticks_seconds(self) -> list[float]:
        """Seconds after the start, rising: at least one, none later than an interval."""
        wanted = sorted(getattr(self.source, "first_ticks_seconds", FIRST_TICKS_SECONDS))
        return [one for one in wanted if one <= self.interval_seconds] or [self.interval_seconds]

    def _open_source(self) -> None:
        try:
            self._thread.open(self.timeout_seconds)
        except Exception as error:  # noqa: BLE001 - a source that can't be opened is down; its collector continues
            self._open_error = said(error)

    def _close_source(self) -> None:
        try:
            self._thread.close(_CLOSE_SECONDS)
        except Exception as error:  # noqa: BLE001 - the process ends anyway; the frame is written
            log.debug("source not closed", extra={"source": self.source.name, "error": str(error)})

    def _tick(self) -> int:
        """Collect and append one frame; the monotonic time at which the collection began."""
        timestamp_ns, monotonic_ns = self.wall(), self.monotonic()
        flags = FLAG_TICK
        if self._schedule.clock_stepped(timestamp_ns, monotonic_ns):
            flags |= FLAG_CLOCK_STEP
            self._own.count(metrics.CLOCK_STEPS)
            log.warning("wall clock was set", extra={"source": self.source.name})
        self.collector.keep_alive()
        if not self._thread.opened:
            self._open_source()
        if self._thread.opened:
            [result] = self.collector.collect_from_sources([self._thread], self.timeout_seconds, self.stop.asked)
        else:
            seconds = (self.monotonic() - monotonic_ns) / 1e9
            result = SourceResult(self.source, errors=[self._open_error], up=False, seconds=seconds)
        self._own.count(metrics.ERRORS, len(result.errors))
        self._own.record(result.up, result.seconds, timestamp_ns)
        sequence = self.collector.commit(timestamp_ns, monotonic_ns, flags)
        fields = {"source": self.source.name, "error": "; ".join(result.errors)[:_MAX_LOGGED]}
        numbers = {"sequence": sequence, "up": int(result.up), "seconds": result.seconds, "errors": len(result.errors)}
        log.debug("collected", extra={**fields, **numbers})
        self._log_change(result, fields)
        return monotonic_ns

    def _log_change(self, result: SourceResult, fields: dict[str, str]) -> None:
        """Log each change of the source's state once."""
        state = result.up, bool(result.errors)
        if state == self._last_state:
            return
        first, self._last_state = self._last_state is None, state
        if not result.up:
            log.warning("source down", extra=fields)
        elif result.errors:
            log.warning("source failing in part", extra=fields)
        else:
            log.info("source up" if first else "source recovered", extra={"source": self.source.name})
