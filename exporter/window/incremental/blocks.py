"""Sums over a sliding range of frames, kept in blocks so that most frames are summed only once.

    sequences       … 31 32 │ 33 ──────── 64 │ 65 ──────── 96 │ 97 …
                       head │      whole     │     whole      │ tail
                       raw  │    summary     │    summary     │ raw

A block has BLOCK_FRAMES frames; its borders are fixed sequences, independent of the range. A block is summarised when
its last frame is appended; of the blocks that the range cuts (head and tail), the samples are kept and summarised at
each request. So a sum depends only on the samples and their sequences, not on the history of the range: updated and
recomputed results are identical to the bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shm.ring.frame import absent

Floats = NDArray[np.float64]
Summarise = Callable[[Floats], Floats]  # (…, frames) → (fields, …)

BLOCK_FRAMES: Final = 32


class Blocks:
    """The samples of ``series`` series in frames ``first`` to ``last``; a summary has ``fields`` fields a series."""

    def __init__(self, series: int, summarise: Summarise, fields: int) -> None:
        self._series = series
        self._summarise = summarise
        self._fields = fields
        self.first, self.last = 1, 0
        self._head: Floats = np.empty((series, 0))  # samples from first on, beyond the end of its block
        self._tail: Floats = np.empty((series, BLOCK_FRAMES))  # samples of the block that last is in
        self._filled: Floats = np.empty((0, fields, series))  # array that the blocks are views of during a fill
        self._whole: dict[int, Floats] = {}  # summaries by block number: shape (fields, series)

    def bytes(self, frames: int) -> int:
        """Memory for a range of so many frames, in bytes."""
        return 8 * self._series * (4 * BLOCK_FRAMES + self._fields * (frames // BLOCK_FRAMES))

    def begin(self, first: int, last: int) -> None:
        """Start a new range of at least four blocks. The caller must then fill() every series, and call end()."""
        self.first, self.last = first, last
        self._head = np.empty((self._series, 2 * BLOCK_FRAMES))
        numbers = range(-(-(first - 1) // BLOCK_FRAMES), last // BLOCK_FRAMES)
        self._filled = np.empty((len(numbers), self._fields, self._series))
        self._whole = dict(zip(numbers, self._filled, strict=True))

    def fill(self, some: slice, rows: Floats) -> None:
        """Set the samples of the series ``some``: shape (series, frames), from first to last.

        Different threads may fill different series.
        """
        self._head[some] = rows[:, : self._head.shape[1]]
        lead = -(self.first - 1) % BLOCK_FRAMES
        number, rest = divmod(rows.shape[1] - lead, BLOCK_FRAMES)
        self._tail[some, :rest] = rows[:, rows.shape[1] - rest :]
        blocks = rows[:, lead : lead + number * BLOCK_FRAMES].reshape(len(rows), number, BLOCK_FRAMES)
        self._filled[:, :, some] = self._summarise(blocks).transpose(2, 0, 1)

    def end(self) -> None:
        """Finish the fill. Copies each block, because views would keep the array of all blocks in memory."""
        self._whole = {number: block.copy() for number, block in self._whole.items()}
        self._filled = self._filled[:0].copy()

    def append(self, sample: Floats) -> None:
        """Append the samples of the frame after last: shape (series,)."""
        at = self.last % BLOCK_FRAMES
        self._tail[:, at] = sample
        self.last += 1
        if at == BLOCK_FRAMES - 1:
            self._whole[(self.last - 1) // BLOCK_FRAMES] = self._summarise(self._tail)

    def drop(self) -> Floats:
        """Remove the first frame; its samples: shape (series,). They must be in the head, see ``held``."""
        oldest: Floats = self._head[:, 0]
        self._whole.pop((self.first - 1) // BLOCK_FRAMES, None)
        self.first += 1
        self._head = self._head[:, 1:]
        return oldest

    @property
    def held(self) -> int:
        """The number of frames whose samples are in the head."""
        return int(self._head.shape[1])

    def extend(self, rows: Floats) -> None:
        """Append the samples of further frames to the head: shape (series, frames)."""
        self._head = np.concatenate((self._head, rows), axis=1)

    def parts(self) -> list[tuple[int, Floats]]:
        """The summaries of the range, oldest first: (number of frames, fields of shape (fields, series))."""
        lead = -(self.first - 1) % BLOCK_FRAMES
        rest = self.last % BLOCK_FRAMES
        parts = [(lead, self._summarise(np.ascontiguousarray(self._head[:, :lead])))] if lead else []
        parts += [(BLOCK_FRAMES, self._whole[number]) for number in sorted(self._whole)]
        if rest:
            parts.append((rest, self._summarise(np.ascontiguousarray(self._tail[:, :rest]))))
        return parts


def sums(rows: Floats) -> Floats:
    """One field: the sum of the samples that are not absent."""
    with np.errstate(over="ignore", invalid="ignore"):
        total = np.einsum("...i->...", rows)  # for 32 samples, a quarter of the time of rows.sum(axis=-1)
        # The sum of a row with a NaN is NaN; only such rows (and rows with both infinities) need masks.
        gapped = np.isnan(total)
        if gapped.any():
            some = rows[gapped]
            total[gapped] = np.einsum("...i->...", np.where(absent(some), 0.0, some))
    return np.asarray(total[None])


# The fields of a counter's summary.
INCREASE, FIRST, LAST, FIRST_AT, LAST_AT = range(5)


def steps(rows: Floats) -> Floats:
    """Five fields: the increase, the first and the last usable sample, and their indexes; NaN without usable samples.

    A decrease is a reset of the counter, and the increment is then the value after it.
    """
    usable = ~np.isnan(rows)
    width = rows.shape[-1]
    found = np.full((5, *rows.shape[:-1]), np.nan)
    with np.errstate(over="ignore", invalid="ignore"):
        found[INCREASE] = step(rows[..., :-1], rows[..., 1:]).sum(axis=-1)
    found[FIRST], found[LAST], found[FIRST_AT], found[LAST_AT] = rows[..., 0], rows[..., -1], 0, width - 1
    gapped = ~usable.all(axis=-1)
    if gapped.any():
        some, there = rows[gapped], usable[gapped]
        values, (owner, at) = some[there], np.nonzero(there)  # series by series, each in order of time
        within = owner[1:] == owner[:-1]
        increase = np.bincount(
            owner[1:][within], weights=step(values[:-1], values[1:])[within], minlength=len(some)
        )  # fmt: skip
        begin = np.flatnonzero(np.r_[True, ~within]) if len(owner) else np.empty(0, np.intp)
        end = np.r_[begin[1:] - 1, len(owner) - 1] if len(owner) else begin
        fields = np.full((5, len(some)), np.nan)
        fields[INCREASE] = increase
        usable_rows = owner[begin]
        fields[FIRST, usable_rows], fields[LAST, usable_rows] = values[begin], values[end]
        fields[FIRST_AT, usable_rows], fields[LAST_AT, usable_rows] = at[begin], at[end]
        found[:, gapped] = fields
    return found


def step(before: Floats, after: Floats) -> Floats:
    """:func:`shm.metric.increase` for arrays; NaN if either value is NaN."""
    return np.where(after < before, after, after - before)
