"""The truth beside a daemon: every frame of every ring, as a RingReader has read it, and what a page may say of it.

Everything the exporter prints is computed here a second time, from those frames and in plain Python.
"""

from __future__ import annotations

import itertools
import math
import os
import time
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from shm.errors import RingMissing
from shm.metric import Series
from shm.ring.discovery import RingList
from shm.ring.layout import STALE_NAN_BITS
from shm.ring.reader import RingReader
from shm.ring.windows import GUARD_SLOTS
from tests.siege.harness import require

Labels = frozenset[tuple[str, str]]
Key = tuple[str, Labels]  # a sample's name and labels

SECOND_NS = 1_000_000_000
_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
STALE_INTERVALS = 3  # the exporter's default
_AGAIN = 4  # frames at the end that are read a second time: they must not change


@dataclass(frozen=True, slots=True)
class Column:
    """Where a frame has a sample of a page. ``rises``: no frame may have less than one before."""

    key: Key
    at: int
    rises: bool


@dataclass(frozen=True, slots=True)
class Layout:
    """What the columns of a frame are: the samples on /metrics, and each series' own column."""

    columns: tuple[Column, ...]
    series: dict[Key, Series]  # by the family's name and the labels


@dataclass(frozen=True, slots=True)
class Held:
    """A frame as it was read. ``seen_ns``: when, by CLOCK_MONOTONIC; it was appended before."""

    sequence: int
    timestamp_ns: int
    monotonic_ns: int
    values: array[float]
    layout: Layout
    seen_ns: int

    def value(self, series: Key) -> float | None:
        """The series' own sample: the value, or the raw observation of a histogram."""
        known = self.layout.series.get(series)
        return None if known is None or self._absent(known.column) else self.values[known.column]

    def samples(self) -> dict[Key, float]:
        """What /metrics says of this frame."""
        return {one.key: self.values[one.at] for one in self.layout.columns if not self._absent(one.at)}

    def _absent(self, column: int) -> bool:
        return memoryview(self.values).cast("B").cast("Q")[column] == STALE_NAN_BITS


@dataclass(slots=True)
class History:
    """One ring, followed. ``hint``: the head as announced; every frame up to ``last`` is in ``held``."""

    namespace: str
    source: str
    held: dict[int, Held] = field(default_factory=dict)
    hint: int = 0
    last: int = 0
    interval_ns: int = 0
    capacity: int = 0
    pid: int = 0
    pid_begun_ns: int = 0  # in kernel ticks
    _reader: RingReader | None = None
    _layout: Layout = field(default_factory=lambda: layout_of(()))

    def catch_up(self) -> None:
        """Read what is new. Raises Violation for a sequence that falls, a frame that changes, a value that falls."""
        if self._reader is not None and self._reader.replaced:
            self.close()
        if self._reader is None:
            self._layout = layout_of(())
            try:
                self._reader = RingReader(self.namespace, self.source)
            except RingMissing:  # between two rings: the next look finds it
                return
        reader = self._reader
        hint, writer = reader.head, reader.writer
        self.pid, self.pid_begun_ns = writer.pid, writer.start_ticks * SECOND_NS // _TICKS_A_SECOND
        require(hint >= self.hint, f"ring {self.source!r} went back from sequence {self.hint} to {hint}")
        self.interval_ns, self.capacity = reader.header.interval_ns, reader.header.capacity
        frames = reader.frames(after=max(self.last - _AGAIN, 0))
        seen_ns = time.monotonic_ns()
        # The catalog after the frames: it has every column that they know.
        if len(reader.series) != len(self._layout.series):
            self._layout = layout_of(reader.series)
        for i, sequence in enumerate(frames.sequence.tolist()):
            values = array("d", frames.values[i].tobytes())
            known = self.held.get(sequence)
            if known is None:
                self.held[sequence] = Held(
                    sequence, int(frames.timestamp_ns[i]), int(frames.monotonic_ns[i]), values, self._layout, seen_ns
                )
            else:
                require(
                    known.monotonic_ns == frames.monotonic_ns[i],
                    f"frame {sequence} of ring {self.source!r} was written twice: one of monotonic time "
                    f"{known.monotonic_ns}, now one of {frames.monotonic_ns[i]}",
                )
        while self.last + 1 in self.held:
            self.last += 1
            self._check_rise(self.last)
        self.hint = hint

    def _check_rise(self, sequence: int) -> None:
        before, now = self.held.get(sequence - 1), self.held[sequence]
        if before is None:
            return
        old, new = before.samples(), now.samples()
        for column in now.layout.columns:
            if column.rises and column.key in old and column.key in new:
                require(
                    new[column.key] >= old[column.key],
                    f"{named(column.key)} fell from {old[column.key]} in frame {sequence - 1} to {new[column.key]} in "
                    f"frame {sequence} of ring {self.source!r}",
                )

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    # ---- what may be said of it ------------------------------------------------------------------------------

    @property
    def limit_ns(self) -> int:
        """A frame older than this is stale."""
        return STALE_INTERVALS * self.interval_ns

    def newest(self, since: int) -> list[Held]:
        """Every frame that was the newest at some time since the head was ``since``."""
        return [self.held[s] for s in range(since, self.last + 1) if s in self.held]

    def window(self, newest: int) -> list[Held]:
        """What a reader may have of the ring while that frame is the newest: all but the guard's slots."""
        oldest = max(newest - self.capacity + 1 + GUARD_SLOTS, 1)
        return [self.held[s] for s in range(oldest, newest + 1) if s in self.held]


@dataclass(slots=True)
class Truth:
    """Every ring of a namespace, followed since ``catch_up`` first found it."""

    namespace: str
    rings: dict[str, History] = field(default_factory=dict)

    def catch_up(self) -> dict[str, int]:
        """The sequence of each ring's head, as announced before anything new was read."""
        for source in RingList(self.namespace).sources():
            if source not in self.rings:
                self.rings[source] = History(self.namespace, source)
        for ring in self.rings.values():
            ring.catch_up()
        return {source: ring.hint for source, ring in self.rings.items()}

    def owners(self) -> dict[Key, str]:
        """Which ring has each sample that /metrics may have."""
        return {
            column.key: source
            for source, ring in self.rings.items()
            if ring.last
            for column in ring.held[ring.last].layout.columns
        }

    def close(self) -> None:
        for ring in self.rings.values():
            ring.close()

    def __enter__(self) -> Truth:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def named(key: Key) -> str:
    labels = ",".join(f'{name}="{value}"' for name, value in sorted(key[1]))
    return f"{key[0]}{{{labels}}}" if labels else key[0]


def layout_of(series: Sequence[Series]) -> Layout:
    return Layout(
        tuple(column for one in series for column in _columns(one)),
        {(one.metric.family, frozenset(one.labels.items())): one for one in series},
    )


def _columns(series: Series) -> Iterator[Column]:
    metric, labels, at = series.metric, frozenset(series.labels.items()), series.column
    if metric.type == "counter":
        yield Column((f"{metric.family}_total", labels), at, rises=True)
    elif metric.type == "histogram":
        bounds = [*(str(bound) for bound in metric.buckets), "+Inf"]
        for i, bound in enumerate(bounds, at + 1):
            yield Column((f"{metric.name}_bucket", labels | {("le", bound)}), i, rises=True)
        yield Column((f"{metric.name}_count", labels), at + len(bounds), rises=True)
        yield Column((f"{metric.name}_sum", labels), at + len(bounds) + 1, rises=metric.buckets[0] >= 0)
    else:
        yield Column((metric.name, labels), at, rises=False)


# ---- /metrics/aggregated, in plain Python ----------------------------------------------------------------------


def aggregated(frames: Sequence[Held]) -> dict[Key, float]:
    """What /metrics/aggregated says of those frames of one ring."""
    found: dict[Key, float] = {}
    for key, series in frames[-1].layout.series.items() if frames else ():
        values: list[float] = []
        times: list[int] = []
        for frame in frames:
            value = frame.value(key)
            if value is not None:
                values.append(value)
                times.append(frame.monotonic_ns)
        stats = _counted(values, times) if series.metric.type == "counter" else _statistics(values)
        for stat, value in stats.items():
            found[key[0], key[1] | {("stat", stat)}] = value
    return found


def _statistics(values: list[float]) -> dict[str, float]:
    if not values:
        return {}
    ordered, total = sorted(values), math.fsum(values)
    percentiles = {f"p{p}": ordered[math.ceil(p / 100 * (len(ordered) - 1))] for p in (50, 95, 99)}
    return {"avg": total / len(values), "min": ordered[0], "max": ordered[-1], "sum": total, **percentiles}


def _counted(values: list[float], times: list[int]) -> dict[str, float]:
    if len(values) < 2:
        return {}
    increase = math.fsum(b if b < a else b - a for a, b in itertools.pairwise(values))
    return {"rate": increase / ((times[-1] - times[0]) / 1e9), "increase": increase}


def agree(said: dict[Key, float], true: dict[Key, float], tolerance: float = 0.0) -> str:
    """The first difference as words; empty where there is none."""
    for key in said.keys() | true.keys():
        a, b = said.get(key), true.get(key)
        if a is None or b is None or (a != b and not math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance)):
            return f"{named(key)} is {a} on the page and {b} in the ring"
    return ""
