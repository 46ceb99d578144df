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

    def run(self) -> None:
        """Tick until ``stop``, then release the ring to the next writer. Raises RingLost."""
        loop = _Loop(self)
        first_ns = [self.monotonic() + round(seconds * 1e9) for seconds in self._first_ticks_seconds()]
        deadline_ns = loop.schedule.first(first_ns.pop(0))
        if self.snapshots is not None:
            self.snapshots.start()
        try:
            loop.open_source()
            while not self.stop.sleep_until(deadline_ns):
                ticked_ns = loop.tick()
                while first_ns and first_ns[0] <= ticked_ns:
                    first_ns.pop(0)
                if first_ns:
                    deadline_ns = loop.schedule.first(first_ns.pop(0))
                    continue
                deadline_ns, missed = loop.schedule.next(ticked_ns)
                if missed:
                    loop.own.count(metrics.TICKS_MISSED, missed)
                    log.warning("ticks missed", extra={"source": self.source.name, "ticks": missed})
        finally:
            loop.close_source()
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


class _Loop:
    """The state of one run, with the source's state at the previous tick."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._name = worker.source.name
        worker.collector.register(*worker.source.metrics)
        self.own = SelfMetrics(worker.collector, self._name, worker.snapshots)
        self.schedule = Schedule(self._name, round(worker.interval_seconds * 1e9), worker.wall, worker.monotonic)
        self._source = SourceThread(worker.source)
        self._open_error = ""
        self._last_state: tuple[bool, bool] | None = None  # up, with errors

    def open_source(self) -> None:
        try:
            self._source.open(self._worker.timeout_seconds)
        except Exception as error:  # noqa: BLE001 - a source that can't be opened is down; its collector continues
            self._open_error = f"{type(error).__name__}: {error}"

    def close_source(self) -> None:
        try:
            self._source.close(_CLOSE_SECONDS)
        except Exception as error:  # noqa: BLE001 - the process ends anyway; the frame is written
            log.debug("source not closed", extra={"source": self._name, "error": str(error)})

    def tick(self) -> int:
        """Collect and append one frame; the monotonic time at which the collection began."""
        worker = self._worker
        timestamp_ns, monotonic_ns = worker.wall(), worker.monotonic()
        flags = FLAG_TICK
        if self.schedule.clock_stepped(timestamp_ns, monotonic_ns):
            flags |= FLAG_CLOCK_STEP
            self.own.count(metrics.CLOCK_STEPS)
            log.warning("wall clock was set", extra={"source": self._name})
        worker.collector.keep_alive()
        if not self._source.opened:
            self.open_source()
        if self._source.opened:
            [result] = worker.collector.collect_from_sources([self._source], worker.timeout_seconds, worker.stop.asked)
        else:
            seconds = (worker.monotonic() - monotonic_ns) / 1e9
            result = SourceResult(worker.source, errors=[self._open_error], up=False, seconds=seconds)
        self.own.count(metrics.ERRORS, len(result.errors))
        self.own.record(result.up, result.seconds, timestamp_ns)
        sequence = worker.collector.commit(timestamp_ns, monotonic_ns, flags)
        log.debug(
            "collected",
            extra={
                "source": self._name,
                "sequence": sequence,
                "up": int(result.up),
                "seconds": result.seconds,
                "errors": len(result.errors),
                "error": "; ".join(result.errors)[:_MAX_LOGGED],
            },
        )
        self._log_change(result)
        return monotonic_ns

    def _log_change(self, result: SourceResult) -> None:
        """Log each change of the source's state once."""
        state = result.up, bool(result.errors)
        if state == self._last_state:
            return
        first, self._last_state = self._last_state is None, state
        fields = {"source": self._name, "error": "; ".join(result.errors)[:_MAX_LOGGED]}
        if not result.up:
            log.warning("source down", extra=fields)
        elif result.errors:
            log.warning("source failing in part", extra=fields)
        else:
            log.info("source up" if first else "source recovered", extra={"source": self._name})
