"""What a window came to, kept up to date from request to request: only frames that came or went are looked at.

    new frames  ──▶  ┌ bands   p50 p95 p99 min max ┐  ──▶ statistics
    frames gone ──▶  └ blocks  sum, or increase    ┘

For windows of LEAST_FRAMES and more whose frames follow each other without a gap, of one ring's columns. Everything
else, and the first request, and one after a long time, is computed from all of its samples: the same code fills bands
and blocks, and gives the same bits (tests/exporter/window/incremental/test_rolling.py shows it).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from exporter.window.incremental.bands import BAND, Bands
from exporter.window.incremental.blocks import (
    BLOCK_FRAMES,
    FIRST,
    FIRST_AT,
    INCREASE,
    LAST,
    LAST_AT,
    Blocks,
    step,
    steps,
    sums,
)
from exporter.window.incremental.ordering import put_in_order
from exporter.window.parallel import in_parallel
from exporter.window.ring_window import Window
from exporter.window.statistics import columns_of, count_samples, elapsed_ns, rates, transposed, work_slices
from shm.ring.frame import Frames, absent
from shm.ring.layout import FLAG_TICK, STALE_NAN_BITS

Vector = NDArray[np.float64]
Columns = NDArray[np.intp]

# With fewer frames a good part of all samples is in some band, and computing anew is as fast.
LEAST_FRAMES: Final = 1024
# A rank moves by one a frame that comes, and by one a frame that goes: more at once, and most bands are to be filled.
_MOST_AT_ONCE: Final = BLOCK_FRAMES
_PERCENTS: Final = {"min": 0, "p50": 50, "p95": 95, "p99": 99, "max": 100}


def is_long(window: Window) -> bool:
    """Whether its statistics are worth to be kept, and can be."""
    return window.whole and window.frame_count >= LEAST_FRAMES


class Rolling(ABC):
    """The statistics of some columns of one ring over one window. What is of samples and of counters is in heirs."""

    def __init__(self, columns: Columns, blocks: Blocks, frames: int) -> None:
        self._columns = columns
        self._blocks = blocks
        self.bytes = blocks.bytes(frames)  # of memory, for a window of so many frames; the heirs add theirs
        self._whole = False  # else what is kept may be half moved

    def up_to_date(self, window: Window) -> bool:
        """Bring it to the frames of ``window``. False: not possible. Raises what reading raises."""
        if not is_long(window):
            return False
        blocks = self._blocks
        gone, new = window.first - blocks.first, window.last - blocks.last
        near = self._whole and 0 <= gone <= _MOST_AT_ONCE and 0 <= new <= _MOST_AT_ONCE
        self._whole = False
        if near and self._moved(window, gone, new) and self._settled():
            self._whole = True
        else:
            frames = window.frames
            complete = len(frames.sequence) == window.frame_count
            self._whole = complete and self._fill(frames) and self._settled()
        return self._whole

    def _moved(self, window: Window, gone: int, new: int) -> bool:
        blocks = self._blocks
        if new:
            frames = window.read(blocks.last + 1, window.last)
            if frames is None or not self._arrived(frames):
                return False
            for row in frames.values[:, self._columns]:
                self._insert(row)
                blocks.append(row)
        for _ in range(gone):
            self._remove(blocks.oldest())
            blocks.drop()
        if gone and blocks.held < _MOST_AT_ONCE + BLOCK_FRAMES:
            behind = blocks.first + blocks.held
            frames = window.read(behind, behind + BLOCK_FRAMES - 1)
            if frames is None:
                return False
            blocks.extend(np.ascontiguousarray(frames.values[:, self._columns].T))
        self._left(gone)
        return True

    @abstractmethod
    def _fill(self, frames: Frames) -> bool:
        """Begin anew with all frames of the window. False: their statistics can't be kept."""

    def _arrived(self, frames: Frames) -> bool:
        """Whether frames can be taken over one by one. They are told of together, then inserted."""
        return True

    def _left(self, gone: int) -> None:  # noqa: B027 - for those who keep something else of each frame
        """The first ``gone`` frames have been removed."""

    def _insert(self, sample: Vector) -> None:  # noqa: B027 - the blocks have it already
        """One more frame's samples: shape (series,)."""

    def _remove(self, sample: Vector) -> None:  # noqa: B027
        """One frame's samples less."""

    def _settled(self) -> bool:
        """Whether the statistics can be told; False: fill it anew."""
        return True

    @abstractmethod
    def statistics(self) -> dict[str, Vector]:
        """Each statistic: float64, shape (series,), absent = the stale NaN."""


class RollingSamples(Rolling):
    """avg, min, max, sum and percentiles."""

    def __init__(self, columns: Columns, stats: Sequence[str], frames: int) -> None:
        super().__init__(columns, Blocks(len(columns), sums, 1), frames)
        self._stats = stats
        self._names = [name for name in _PERCENTS if name in stats]
        self._bands = Bands(len(columns), [_PERCENTS[name] for name in self._names])
        self._present = np.zeros(len(columns), dtype=np.intp)
        self._ranked: Vector | None = None
        self.bytes += 8 * len(columns) * len(self._names) * (BAND + 4)

    def _fill(self, frames: Frames) -> bool:
        first, last = int(frames.sequence[0]), int(frames.sequence[-1])
        self._blocks.begin(first, last)
        self._bands = Bands(len(self._columns), [_PERCENTS[name] for name in self._names])

        def fill(some: slice) -> None:
            rows = transposed(columns_of(frames.values, self._columns[some]))
            self._blocks.fill(some, rows)
            present, numbers, gapped = count_samples(rows)
            self._present[some] = present
            if self._names:
                # Series with gaps have their ranks each in a place of its own.
                put_in_order(rows, None if gapped.size else self._bands.places(rows.shape[1]))
                self._bands.fill(some, rows, numbers)

        in_parallel(fill, work_slices(len(self._columns), last - first + 1))
        self._blocks.end()
        return True

    def _insert(self, sample: Vector) -> None:
        self._present += ~absent(sample)
        self._bands.insert(sample)

    def _remove(self, sample: Vector) -> None:
        self._present -= ~absent(sample)
        self._bands.remove(sample)

    def _settled(self) -> bool:
        self._ranked = self._bands.ranked()
        return self._ranked is not None

    def statistics(self) -> dict[str, Vector]:
        assert self._ranked is not None, "not up to date"
        found = dict(zip(self._names, self._ranked, strict=True))
        with np.errstate(over="ignore", invalid="ignore"):
            found["sum"] = np.array([fields[0] for _, fields in self._blocks.parts()]).sum(axis=0)
            found["avg"] = found["sum"] / np.maximum(self._present, 1)
        none = self._present == 0
        for values in found.values():
            values.view(np.uint64)[none] = STALE_NAN_BITS
        return {stat: found[stat] for stat in self._stats}


class RollingCounters(Rolling):
    """rate and increase."""

    def __init__(self, columns: Columns, frames: int) -> None:
        super().__init__(columns, Blocks(len(columns), steps, 5), frames)
        self._clocks = np.empty((2, 0), dtype=np.int64)  # monotonic and wall clock of each frame
        self.bytes += self._clocks.itemsize * 2 * frames

    def _fill(self, frames: Frames) -> bool:
        self._clocks = np.empty((2, 0), dtype=np.int64)
        if not self._arrived(frames):
            return False
        first, last = int(frames.sequence[0]), int(frames.sequence[-1])
        self._blocks.begin(first, last)

        def fill(some: slice) -> None:
            self._blocks.fill(some, transposed(columns_of(frames.values, self._columns[some])))

        in_parallel(fill, work_slices(len(self._columns), last - first + 1))
        self._blocks.end()
        return True

    def _arrived(self, frames: Frames) -> bool:
        self._clocks = np.concatenate((self._clocks, [frames.monotonic_ns, frames.timestamp_ns]), axis=1)
        # One that has a timestamp of its own is not where its time is: such windows are put in order as a whole.
        return bool((frames.flags & np.uint64(FLAG_TICK)).all())

    def _left(self, gone: int) -> None:
        self._clocks = self._clocks[:, gone:]

    def statistics(self) -> dict[str, Vector]:
        series = len(self._columns)
        total, last = np.zeros(series), np.full(series, np.nan)
        first_at, last_at = np.full(series, np.nan), np.full(series, np.nan)
        begin = 0
        with np.errstate(over="ignore", invalid="ignore"):
            for frames, part in self._blocks.parts():
                has = ~np.isnan(part[FIRST])
                joined = has & ~np.isnan(last)
                total[joined] += step(last, part[FIRST])[joined]
                total[has] += part[INCREASE][has]
                last[has], last_at[has] = part[LAST][has], part[LAST_AT][has] + begin
                new = has & np.isnan(first_at)
                first_at[new] = part[FIRST_AT][new] + begin
                begin += frames
        rate, increase = rates(total, first_at, last_at, elapsed_ns(self._clocks.shape[1], *self._clocks))
        return {"rate": rate, "increase": increase}


class RollingWindows:
    """Those that were asked for last, as many as ``most_bytes`` hold. For one thread."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._of: Hashable = None
        self._bytes = 0
        self._kept: OrderedDict[Hashable, Rolling] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Rolling]) -> Rolling:
        """The one of that key, or a new one, which is kept only if there is room for it."""
        kept = self._kept.get(key)
        if kept is None:
            kept = make()
            if kept.bytes > self._most_bytes:
                return kept
            self._kept[key] = kept
            self._bytes += kept.bytes
            while self._bytes > self._most_bytes:
                _, gone = self._kept.popitem(last=False)
                self._bytes -= gone.bytes
        self._kept.move_to_end(key)
        return kept

    def of(self, rings: Hashable) -> RollingWindows:
        """Itself; emptied if what tells the rings and their catalogs is not what it was."""
        if rings != self._of:
            self._of = rings
            self._kept.clear()
            self._bytes = 0
        return self
