"""A collector as its ring and its log show it: one tick after the other, each held to what must be true of any."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from collector.metrics import OPTIONAL, OWN
from shm.metric import SeriesKey
from shm.ring.reader import RingReader
from tests.programs import Program
from tests.siege.harness import Violation, require

# A reply of the largest size that is read, 4 MiB, is held twice for a moment, and decoded once. What the collector has
# beside is measured when it idles, and taken off.
MEMORY_MIB: Final = 32
# No promise, only what tells a hang from a machine that has other work.
_HANG_SECONDS: Final = 10.0

_OWN: Final = frozenset(metric.name for metric in (*OWN, *OPTIONAL))


class Stopped(Exception):
    """Another part of the check has seen a promise broken already."""


@dataclass(frozen=True)
class Tick:
    """One collection: its frame in the ring (``values`` has the samples that are present), its line in the log."""

    sequence: int
    timestamp_ns: int
    monotonic_ns: int
    up: bool
    error: str
    values: dict[SeriesKey, float]

    @property
    def samples(self) -> dict[SeriesKey, float]:
        """Without what the collector says of itself."""
        return {key: value for key, value in self.values.items() if key[0] not in _OWN}

    def own(self, name: str) -> float:
        [value] = [value for (metric, _), value in self.values.items() if metric == name]
        return value


class Watched:
    """The collector of ``source`` that runs as ``program``; ``at_once``: how many answers it may have to bear at once.

    Betanet's are read one after the other, each within the bound of one.
    """

    def __init__(self, namespace: str, source: str, program: Program, stop: threading.Event, at_once: int = 1) -> None:
        self.source = source
        self.ticks = 0
        self.grown_bytes = 0
        self._namespace = namespace
        self._program = program
        self._stop = stop
        self._log = program.log_path.open("rb")
        self._part = b""
        self._before: Tick | None = None
        self._idle_bytes = 0
        self._most_mib = MEMORY_MIB * (at_once if source == "deployment" else 1)

    def close(self) -> None:
        self._log.close()

    def new(self) -> list[Tick]:
        """The ticks since it was called before, at least one. Raises Violation when none comes or one breaks a rule."""
        deadline = time.monotonic() + _HANG_SECONDS
        while not (ticks := list(self._read())):
            if self._stop.is_set():
                raise Stopped
            log = self._program.log()
            require(self._program.process.poll() is None, f"collector {self.source} ended: {log[-2000:]}")
            require(time.monotonic() < deadline, f"{self.source}: no tick within {_HANG_SECONDS:g} s: {log[-500:]}")
            time.sleep(0.005)
        for tick in ticks:
            self._check(tick)
        return ticks

    def _read(self) -> Iterator[Tick]:
        *lines, self._part = (self._part + self._log.read()).split(b"\n")
        said = [one for one in map(_line, lines) if one.get("event") == "collected"]
        if not said:
            return
        with RingReader(self._namespace, self.source) as ring:
            for line in said:
                frame = ring.frame(line["sequence"])
                if frame is None:
                    raise Violation(f"{self.source}: frame {line['sequence']} is in the log and not in the ring")
                values = {
                    (one.metric.name, one.label_values): value
                    for one in ring.series
                    if (value := frame.value(one.column)) is not None
                }
                yield Tick(
                    frame.sequence, frame.timestamp_ns, frame.monotonic_ns, bool(line["up"]), line["error"], values
                )

    def _check(self, tick: Tick) -> None:
        """What is true of every tick, whatever the target does."""
        where = f"{self.source}, frame {tick.sequence} ({tick.error!r})"
        for key, value in tick.values.items():
            require(math.isfinite(value) and value >= 0, f"{where}: {key} is {value}, not a number from 0 up")
        require(tick.own("collector_up") == tick.up, f"{where}: collector_up is not what the log says")
        if not tick.up:
            require(not tick.samples, f"{where}: collector_up is 0, and yet it has samples of {sorted(tick.samples)}")
        before, self._before = self._before, tick
        if before is not None:
            rose = tick.own("collector_errors_total") - before.own("collector_errors_total")
            require((rose > 0) == bool(tick.error), f"{where}: collector_errors_total rose by {rose}")
            gap = (tick.monotonic_ns - before.monotonic_ns) / 1e9
            require(gap < _HANG_SECONDS, f"{where}: the frame came {gap:.1f} s after the one before")
        require(tick.own("collector_duration_seconds") < _HANG_SECONDS, f"{where}: the collection hung")
        self.ticks += 1
        if self._idle_bytes:
            self.grown_bytes = max(self.grown_bytes, self._memory("VmHWM") - self._idle_bytes)
            require(
                self.grown_bytes < self._most_mib << 20,
                f"{where}: the collector's memory grew by {self.grown_bytes / 2**20:.0f} MiB, of {self._most_mib} at "
                "most",
            )

    def idles(self) -> None:
        """Take what it holds now as its own: what it takes beyond is its target's doing."""
        self._idle_bytes = self._memory("VmRSS")

    def _memory(self, field: str) -> int:
        """VmRSS, or VmHWM, its peak since the process started: no spike between two looks is missed."""
        for line in Path(f"/proc/{self._program.pid}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) << 10
        raise AssertionError(field)


def _line(text: bytes) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(text)
    except ValueError:  # not of the log: an interpreter that says why it dies, for instance
        return {}
    return found
