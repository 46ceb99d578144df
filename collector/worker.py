"""The tick loop: one source, one ring, one frame an interval, whatever happens to the source.

A tick: collect with a timeout, stage what came, stage the collector's own metrics, append one frame. A source that
fails leaves its samples absent and ``collector_up`` 0; the loop never ends because of it.
"""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import dataclass, field

from collector import metrics
from collector.collector import MetricCollector
from collector.schedule import Clock, Schedule
from collector.selfmetrics import SelfMetrics
from collector.snapshots import Snapshots
from collector.source import MetricSource
from collector.stop import Stop
from shm.errors import RingError
from shm.layout import FLAG_CLOCK_STEP, FLAG_TICK

log = logging.getLogger(__name__)

# A first frame soon after the start, so that a page is soon whole; a source may ask for another delay, to have
# something to compare with (rates) or to read (other rings).
FIRST_TICK_SECONDS = 0.5
_CLOSE_SECONDS = 2.0
_MOST_SAID = 1000  # characters of errors in a log line


@dataclass(slots=True)
class Worker:
    """Runs ``source`` into ``collector``'s ring until told to stop."""

    source: MetricSource
    collector: MetricCollector
    interval_seconds: float
    timeout_seconds: float
    wall: Clock = time.time_ns
    monotonic: Clock = time.monotonic_ns
    stop: Stop = field(default_factory=Stop)
    snapshots: Snapshots | None = None

    def run(self) -> None:
        """Tick until told to stop; then leave the ring to the next writer. Raises RingLost."""
        loop = _Loop(self)
        deadline_ns = loop.schedule.first(round(self._first_tick_seconds() * 1e9))
        if self.snapshots is not None:
            self.snapshots.start()
        try:
            loop.open_source()
            while not self.stop.sleep_until(deadline_ns):
                deadline_ns, missed = loop.schedule.next(loop.tick())
                if missed:
                    loop.own.count(metrics.TICKS_MISSED, missed)
                    log.warning("ticks missed", extra={"source": self.source.name, "ticks": missed})
        finally:
            loop.close_source()
            if self.snapshots is not None:
                with contextlib.suppress(RingError):  # the end has a reason of its own then
                    self.collector.writer.keep_published()
                self.snapshots.finish(self.collector.writer)
            self.collector.close()
            self.stop.close()

    def _first_tick_seconds(self) -> float:
        wanted: float = getattr(self.source, "first_tick_seconds", FIRST_TICK_SECONDS)
        return min(wanted, self.interval_seconds)


class _Loop:
    """The state of one run: what the source was like at the tick before."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._name = worker.source.name
        worker.collector.register(*worker.source.metrics)
        self.own = SelfMetrics(worker.collector, self._name, worker.snapshots)
        self.schedule = Schedule(self._name, round(worker.interval_seconds * 1e9), worker.wall, worker.monotonic)
        self._opened = False
        self._open_error = ""
        self._was: tuple[bool, bool] | None = None  # up, with errors

    def open_source(self) -> None:
        worker = self._worker
        try:
            worker.collector.threads.run(worker.source, worker.source.open, worker.timeout_seconds)
            self._opened = True
        except Exception as error:  # noqa: BLE001 - a source that can't open is down, not the end of its collector
            self._open_error = f"{type(error).__name__}: {error}"

    def close_source(self) -> None:
        worker = self._worker
        try:
            worker.collector.threads.run(worker.source, worker.source.close, _CLOSE_SECONDS)
        except Exception as error:  # noqa: BLE001 - the process ends anyway; the frame is written
            log.debug("source not closed", extra={"source": self._name, "error": str(error)})

    def tick(self) -> int:
        """One frame; when its collection began, by the monotonic clock."""
        worker = self._worker
        timestamp_ns, monotonic_ns = worker.wall(), worker.monotonic()
        flags = FLAG_TICK
        if self.schedule.clock_stepped(timestamp_ns, monotonic_ns):
            flags |= FLAG_CLOCK_STEP
            self.own.count(metrics.CLOCK_STEPS)
            log.warning("wall clock was set", extra={"source": self._name})
        worker.collector.writer.keep_published()
        worker.collector.writer.beat()  # alive, also while a collection takes its time
        if not self._opened:
            self.open_source()
        if self._opened:
            up, errors, seconds = self._collect()
        else:
            up, errors, seconds = False, [self._open_error], (worker.monotonic() - monotonic_ns) / 1e9
        self.own.count(metrics.ERRORS, len(errors))
        self.own.record(up, seconds, timestamp_ns)
        sequence = worker.collector.commit(timestamp_ns, monotonic_ns, flags)
        log.debug(
            "collected",
            extra={
                "source": self._name,
                "sequence": sequence,
                "up": int(up),
                "seconds": seconds,
                "errors": len(errors),
                "error": "; ".join(errors)[:_MOST_SAID],
            },
        )
        self._say(up, errors)
        return monotonic_ns

    def _collect(self) -> tuple[bool, list[str], float]:
        worker = self._worker
        [result] = worker.collector.collect_from_sources([worker.source], worker.timeout_seconds, worker.stop.asked)
        return result.collection.up, list(result.collection.errors), result.seconds

    def _say(self, up: bool, errors: list[str]) -> None:
        """One line at each change of state, none while it lasts."""
        state = up, bool(errors)
        if state == self._was:
            return
        first, self._was = self._was is None, state
        said = {"source": self._name, "error": "; ".join(errors)[:_MOST_SAID]}
        if not up:
            log.warning("source down", extra=said)
        elif errors:
            log.warning("source failing in part", extra=said)
        else:
            log.info("source up" if first else "source recovered", extra={"source": self._name})
