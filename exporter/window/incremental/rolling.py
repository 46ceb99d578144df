"""Statistics of long windows, updated from request to request by reading only frames that entered or left.

    new frames  ──▶  ┌ bands   p50 p95 p99 min max ┐  ──▶ statistics
    frames gone ──▶  └ blocks  sum, or increase    ┘

For windows of at least LEAST_FRAMES frames of one ring, without a gap. Other windows, the first request, and a request
after a long time are computed from all samples: the same code fills bands and blocks, and the results are identical to
the bit (tests/exporter/window/incremental/test_rolling.py).
"""

from __future__ import annotations

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
from exporter.window.statistics import (
    COUNTER_STATS,
    PERCENTILES,
    columns_of,
    count_samples,
    elapsed_ns,
    rates,
    transposed,
    work_slices,
)
from shm.ring.frame import Frames, absent
from shm.ring.layout import FLAG_TICK, STALE_NAN_BITS

Vector = NDArray[np.float64]
Columns = NDArray[np.intp]

# With fewer frames many of the samples are in some band, and computing from all samples is as fast.
LEAST_FRAMES: Final = 1024
# Each frame added or removed moves a rank by at most one. After more changes most ranks would have left their bands.
_MOST_CHANGES: Final = BLOCK_FRAMES
_PERCENTS: Final = {"min": 0, **PERCENTILES, "max": 100}


def is_long(window: Window) -> bool:
    """True if the window's statistics can be kept, and are worth it."""
    return window.whole and window.frame_count >= LEAST_FRAMES


class Rolling:
    """The statistics ``stats`` of some columns of one ring over one window: of samples, or of counters."""

    def __init__(self, columns: Columns, stats: Sequence[str], frames: int) -> None:
        """``frames``: how many frames the window may get; for ``memory_bytes``."""
        series = len(columns)
        self._columns = columns
        self._stats = stats
        self._counters = stats[0] in COUNTER_STATS
        self._blocks = Blocks(series, steps, 5) if self._counters else Blocks(series, sums, 1)
        self._names = [name for name in _PERCENTS if name in stats]
        self._bands = self._new_bands()
        self._ranked: Vector | None = None
        self._present = np.zeros(series, dtype=np.intp)
        self._clocks = np.empty((2, 0), dtype=np.int64)  # monotonic and wall clock of each frame
        self.memory_bytes = self._blocks.bytes(frames) + 8 * (2 * frames + series * len(self._names) * (BAND + 4))
        self._repairs = 0  # of the window of the last update
        self._valid = False  # False while an update is in progress, or after it failed

    def update(self, window: Window) -> bool:
        """Update to the frames of ``window``. False if that is impossible. Raises what reading raises."""
        if not is_long(window):
            return False
        blocks = self._blocks
        gone, new = window.first - blocks.first, window.last - blocks.last
        near = (
            self._valid and window.repairs == self._repairs and 0 <= gone <= _MOST_CHANGES and 0 <= new <= _MOST_CHANGES
        )
        self._valid, self._repairs = False, window.repairs
        if near and self._move(window, gone, new) and self._rank():
            self._valid = True
        else:
            frames = window.frames
            complete = len(frames.sequence) == window.frame_count
            self._valid = complete and self._fill(frames) and self._rank()
        return self._valid

    def statistics(self) -> dict[str, Vector]:
        """Each statistic: float64, shape (series,), absent = the stale NaN."""
        found = self._of_counters() if self._counters else self._of_samples()
        return {stat: found[stat] for stat in self._stats}

    def _new_bands(self) -> Bands:
        return Bands(len(self._columns), [_PERCENTS[name] for name in self._names])

    def _move(self, window: Window, gone: int, new: int) -> bool:
        """Append the frames that are new and drop those that are gone. False if that is impossible: fill again."""
        blocks = self._blocks
        if new:
            frames = window.read(blocks.last + 1, window.last)
            if frames is None or not self._accept(frames):
                return False
            for row in frames.values[:, self._columns]:
                self._present += ~absent(row)
                self._bands.insert(row)
                blocks.append(row)
        for _ in range(gone):
            row = blocks.drop()
            self._present -= ~absent(row)
            self._bands.remove(row)
        if gone and blocks.held < _MOST_CHANGES + BLOCK_FRAMES:
            after = blocks.first + blocks.held
            frames = window.read(after, after + BLOCK_FRAMES - 1)
            if frames is None:
                return False
            blocks.extend(np.ascontiguousarray(frames.values[:, self._columns].T))
        self._clocks = self._clocks[:, gone:]
        return True

    def _fill(self, frames: Frames) -> bool:
        """Start again from all frames of the window. False if their statistics can't be kept."""
        self._clocks = self._clocks[:, :0]
        if not self._accept(frames):
            return False
        first, last = int(frames.sequence[0]), int(frames.sequence[-1])
        self._blocks.begin(first, last)
        self._bands = self._new_bands()

        def fill(some: slice) -> None:
            rows = transposed(columns_of(frames.values, self._columns[some]))
            self._blocks.fill(some, rows)
            if self._counters:
                return
            present, numbers, gapped = count_samples(rows)
            self._present[some] = present
            if self._names:
                # With gaps the ranks differ from series to series: sort completely.
                put_in_order(rows, None if gapped.size else self._bands.ranges(rows.shape[1]))
                self._bands.fill(some, rows, numbers)

        in_parallel(fill, work_slices(len(self._columns), last - first + 1))
        self._blocks.end()
        return True

    def _accept(self, frames: Frames) -> bool:
        """Note the clocks of new frames. False if the frames can't be added one by one."""
        self._clocks = np.concatenate((self._clocks, [frames.monotonic_ns, frames.timestamp_ns]), axis=1)
        # Frames with their own timestamps are not in the order of time: counters must be sorted as a whole.
        return not self._counters or bool((frames.flags & np.uint64(FLAG_TICK)).all())

    def _rank(self) -> bool:
        """Compute the samples at the ranks. False if a rank has left its band: fill again."""
        self._ranked = self._bands.ranked()
        return self._ranked is not None

    def _of_samples(self) -> dict[str, Vector]:
        assert self._ranked is not None, "call update() first"
        found = dict(zip(self._names, self._ranked, strict=True))
        with np.errstate(over="ignore", invalid="ignore"):
            found["sum"] = np.array([fields[0] for _, fields in self._blocks.parts()]).sum(axis=0)
            found["avg"] = found["sum"] / np.maximum(self._present, 1)
        none = self._present == 0
        for values in found.values():
            values.view(np.uint64)[none] = STALE_NAN_BITS
        return found

    def _of_counters(self) -> dict[str, Vector]:
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
