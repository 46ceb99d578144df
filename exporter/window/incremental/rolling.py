"""Statistics of long windows, updated from request to request by reading only frames that entered or left.

    new frames  ──▶  ┌ bands   p50 p95 p99 min max ┐  ──▶ statistics
    frames gone ──▶  └ blocks  sum, or increase    ┘

For windows of at least LEAST_FRAMES frames of one ring, without a gap. Other windows, the first request, and a request
after a long time are computed from all samples: the same code fills bands and blocks, and the results are identical to
the bit (tests/exporter/window/incremental/test_rolling.py).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
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

# With fewer frames many of the samples are in some band, and computing from all samples is as fast.
LEAST_FRAMES: Final = 1024
# Each frame added or removed moves a rank by at most one. After more changes most ranks would have left their bands.
_MOST_CHANGES: Final = BLOCK_FRAMES
_PERCENTS: Final = {"min": 0, "p50": 50, "p95": 95, "p99": 99, "max": 100}


def is_long(window: Window) -> bool:
    """True if the window's statistics can be kept, and are worth it."""
    return window.whole and window.frame_count >= LEAST_FRAMES


class Rolling(ABC):
    """The statistics of some columns of one ring over one window; subclasses are for samples and for counters."""

    def __init__(self, columns: Columns, blocks: Blocks, frames: int) -> None:
        self._columns = columns
        self._blocks = blocks
        self.memory_bytes = blocks.bytes(frames)  # memory for a window of so many frames; subclasses add theirs
        self._valid = False  # False while an update is in progress, or after it failed

    def update(self, window: Window) -> bool:
        """Update to the frames of ``window``. False if that is impossible. Raises what reading raises."""
        if not is_long(window):
            return False
        blocks = self._blocks
        gone, new = window.first - blocks.first, window.last - blocks.last
        near = self._valid and 0 <= gone <= _MOST_CHANGES and 0 <= new <= _MOST_CHANGES
        self._valid = False
        if near and self._move(window, gone, new) and self._rank():
            self._valid = True
        else:
            frames = window.frames
            complete = len(frames.sequence) == window.frame_count
            self._valid = complete and self._fill(frames) and self._rank()
        return self._valid

    def _move(self, window: Window, gone: int, new: int) -> bool:
        blocks = self._blocks
        if new:
            frames = window.read(blocks.last + 1, window.last)
            if frames is None or not self._accept(frames):
                return False
            for row in frames.values[:, self._columns]:
                self._insert(row)
                blocks.append(row)
        for _ in range(gone):
            self._remove(blocks.oldest())
            blocks.drop()
        if gone and blocks.held < _MOST_CHANGES + BLOCK_FRAMES:
            after = blocks.first + blocks.held
            frames = window.read(after, after + BLOCK_FRAMES - 1)
            if frames is None:
                return False
            blocks.extend(np.ascontiguousarray(frames.values[:, self._columns].T))
        self._discard(gone)
        return True

    @abstractmethod
    def _fill(self, frames: Frames) -> bool:
        """Start again from all frames of the window. False if their statistics can't be kept."""

    def _accept(self, frames: Frames) -> bool:
        """Called with all new frames before _insert() of each. False if they can't be inserted one by one."""
        return True

    def _discard(self, gone: int) -> None:  # noqa: B027 - only for subclasses that keep more of each frame
        """Called after the first ``gone`` frames were removed."""

    def _insert(self, sample: Vector) -> None:  # noqa: B027 - blocks are updated by the caller
        """Add one frame's samples: shape (series,)."""

    def _remove(self, sample: Vector) -> None:  # noqa: B027
        """Remove one frame's samples: shape (series,)."""

    def _rank(self) -> bool:
        """Compute the samples at the ranks. False if a rank has left its band: fill again."""
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
        self.memory_bytes += 8 * len(columns) * len(self._names) * (BAND + 4)

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
                # With gaps the ranks differ from series to series: sort completely.
                put_in_order(rows, None if gapped.size else self._bands.ranges(rows.shape[1]))
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

    def _rank(self) -> bool:
        self._ranked = self._bands.ranked()
        return self._ranked is not None

    def statistics(self) -> dict[str, Vector]:
        assert self._ranked is not None, "call update() first"
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
        self.memory_bytes += self._clocks.itemsize * 2 * frames

    def _fill(self, frames: Frames) -> bool:
        self._clocks = np.empty((2, 0), dtype=np.int64)
        if not self._accept(frames):
            return False
        first, last = int(frames.sequence[0]), int(frames.sequence[-1])
        self._blocks.begin(first, last)

        def fill(some: slice) -> None:
            self._blocks.fill(some, transposed(columns_of(frames.values, self._columns[some])))

        in_parallel(fill, work_slices(len(self._columns), last - first + 1))
        self._blocks.end()
        return True

    def _accept(self, frames: Frames) -> bool:
        self._clocks = np.concatenate((self._clocks, [frames.monotonic_ns, frames.timestamp_ns]), axis=1)
        # Frames with their own timestamps are not in the order of time: such windows must be sorted as a whole.
        return bool((frames.flags & np.uint64(FLAG_TICK)).all())

    def _discard(self, gone: int) -> None:
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
        rate, increase = rates(total, first_at, last_at, elapsed_ns(*self._clocks))
        return {"rate": rate, "increase": increase}
