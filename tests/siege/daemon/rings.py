"""Read every frame of every ring of a daemon while it runs, to compare the exporter's pages with them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from shm.errors import RingMissing
from shm.files import rings_in
from shm.metric import Series
from shm.ring.discovery import Listing
from shm.ring.frame import absent
from shm.ring.reader import RingReader
from shm.ring.windows import GUARD_SLOTS
from tests.siege.harness import require

Key = tuple[str, frozenset[tuple[str, str]]]  # a sample's name and labels, as on /metrics

STALE_INTERVALS = 3  # the exporter's default
_AGAIN = 4  # the newest frames are read a second time: they must not change


@dataclass(frozen=True, slots=True)
class Held:
    """A frame as it was read. ``samples``: what /metrics shows of it."""

    sequence: int
    timestamp_ns: int
    monotonic_ns: int
    samples: dict[Key, float]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the frames that /metrics shows. ``rises``: its values must not fall."""

    key: Key
    at: int
    rises: bool


@dataclass(slots=True)
class History:
    """One ring. ``head``: the newest sequence as the ring announced it; every frame up to ``last`` is in ``held``."""

    namespace: str
    source: str
    held: dict[int, Held] = field(default_factory=dict)
    columns: list[Column] = field(default_factory=list)
    head: int = 0
    last: int = 0
    interval_ns: int = 0
    capacity: int = 0
    _reader: RingReader | None = None
    _series: int = 0

    def catch_up(self, again: int = _AGAIN) -> None:
        """Read the new frames, and the last ``again`` ones a second time.

        Raises Violation where a sequence or a rising value falls, or a frame has changed.
        """
        if self._reader is not None and self._reader.replaced:
            self.close()
        if self._reader is None:
            self._series = 0
            try:
                self._reader = RingReader(self.namespace, self.source)
            except RingMissing:  # between two segments: the next call finds the new one
                return
        reader = self._reader
        head = reader.head
        require(head >= self.head, f"ring {self.source!r} went back from sequence {self.head} to {head}")
        self.interval_ns, self.capacity = reader.header.interval_ns, reader.header.capacity
        frames = reader.frames(after=max(self.last - again, 0))
        # The catalog after the frames: it has every column that they know.
        if len(reader.series) != self._series:
            self._series = len(reader.series)
            self.columns = [column for series in reader.series for column in _columns(series)]
        for i, sequence in enumerate(frames.sequence.tolist()):
            values, missing = frames.values[i].tolist(), absent(frames.values[i]).tolist()
            samples = {column.key: values[column.at] for column in self.columns if not missing[column.at]}
            frame = Held(sequence, int(frames.timestamp_ns[i]), int(frames.monotonic_ns[i]), samples)
            known = self.held.setdefault(sequence, frame)
            require(known == frame, f"frame {sequence} of ring {self.source!r} has changed: {known} is now {frame}")
        while self.last + 1 in self.held:
            self.last += 1
            self._check_rise(self.last)
        self.head = head

    def _check_rise(self, sequence: int) -> None:
        if sequence - 1 not in self.held:
            return
        old, new = self.held[sequence - 1].samples, self.held[sequence].samples
        for column in self.columns:
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

    @property
    def limit_ns(self) -> int:
        """A frame older than this is stale."""
        return STALE_INTERVALS * self.interval_ns

    def newest(self, since: int) -> list[Held]:
        """Every frame that was the newest at some time since the head was ``since``."""
        return [self.held[s] for s in range(since, self.last + 1) if s in self.held]

    def window(self, newest: int) -> list[Held]:
        """The frames that a reader may have while ``newest`` is the newest: all but those of the guard's slots."""
        oldest = max(newest - self.capacity + 1 + GUARD_SLOTS, 1)
        return [self.held[s] for s in range(oldest, newest + 1) if s in self.held]


@dataclass
class Rings(contextlib.AbstractContextManager["Rings"]):
    """Every ring of a namespace, since ``catch_up`` first found it."""

    namespace: str
    by_source: dict[str, History] = field(default_factory=dict)

    def catch_up(self) -> dict[str, int]:
        """Read the new frames of every ring. Returns the heads that the rings announced before that."""
        for source in rings_in(Listing().names(), self.namespace):
            self.by_source.setdefault(source, History(self.namespace, source))
        for ring in self.by_source.values():
            ring.catch_up()
        return {source: ring.head for source, ring in self.by_source.items()}

    def owners(self) -> dict[Key, History]:
        """The ring of each sample that /metrics may have."""
        return {column.key: ring for ring in self.by_source.values() for column in ring.columns}

    def __exit__(self, *exc: object) -> None:
        for ring in self.by_source.values():
            ring.close()


def named(key: Key) -> str:
    labels = ",".join(f'{name}="{value}"' for name, value in sorted(key[1]))
    return f"{key[0]}{{{labels}}}" if labels else key[0]


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
