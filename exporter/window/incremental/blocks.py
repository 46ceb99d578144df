"""A sliding range of frames as blocks: what is summed is summed block by block, so that most of it is summed once.

    sequences       … 31 32 │ 33 ──────── 64 │ 65 ──────── 96 │ 97 …
                       head │      whole     │     whole      │ tail
                       raw  │    summary     │    summary     │ raw

Blocks are of BLOCK_FRAMES frames and lie where their sequences put them, wherever the range begins and ends. A block
that is whole is summed up when its last frame comes; of the two that the range cuts, the samples are kept and summed
up each time. So a sum depends on the samples and their sequences alone, not on how the range came to be: to the bit,
what was kept up to date is what is computed anew.
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
    """The samples of ``series`` series from ``first`` to ``last``; a block comes to ``fields`` fields of each."""

    def __init__(self, series: int, summarise: Summarise, fields: int) -> None:
        self._series = series
        self._summarise = summarise
        self._fields = fields
        self.first, self.last = 1, 0
        self._head: Floats = np.empty((series, 0))  # the samples from first on, past the end of its block
        self._tail: Floats = np.empty((series, BLOCK_FRAMES))  # those of the block that last is in
        self._filled: Floats = np.empty((0, fields, series))  # what the blocks are parts of while they are filled
        self._whole: dict[int, Floats] = {}  # by number of the block: shape (fields, series)

    def bytes(self, frames: int) -> int:
        """Of memory, for a range of so many frames."""
        return 8 * self._series * (4 * BLOCK_FRAMES + self._fields * (frames // BLOCK_FRAMES))

    def begin(self, first: int, last: int) -> None:
        """Let go of what was. The caller fills every series, for which the range has to have four blocks at least."""
        self.first, self.last = first, last
        self._head = np.empty((self._series, 2 * BLOCK_FRAMES))
        numbers = range(-(-(first - 1) // BLOCK_FRAMES), last // BLOCK_FRAMES)
        self._filled = np.empty((len(numbers), self._fields, self._series))
        self._whole = dict(zip(numbers, self._filled, strict=True))

    def fill(self, some: slice, rows: Floats) -> None:
        """The samples of the series ``some``: shape (series, frames), from first to last.

        Different series may be filled by different threads.
        """
        self._head[some] = rows[:, : self._head.shape[1]]
        lead = -(self.first - 1) % BLOCK_FRAMES
        number, rest = divmod(rows.shape[1] - lead, BLOCK_FRAMES)
        self._tail[some, :rest] = rows[:, rows.shape[1] - rest :]
        blocks = rows[:, lead : lead + number * BLOCK_FRAMES].reshape(len(rows), number, BLOCK_FRAMES)
        self._filled[:, :, some] = self._summarise(blocks).transpose(2, 0, 1)

    def end(self) -> None:
        """Every series is filled. Each block is by itself from here on: the array of them all would live for as long as
        the youngest of them.
        """
        self._whole = {number: block.copy() for number, block in self._whole.items()}
        self._filled = self._filled[:0].copy()

    def append(self, sample: Floats) -> None:
        """The samples of the frame behind last: shape (series,)."""
        at = self.last % BLOCK_FRAMES
        self._tail[:, at] = sample
        self.last += 1
        if at == BLOCK_FRAMES - 1:
            self._whole[(self.last - 1) // BLOCK_FRAMES] = self._summarise(self._tail)

    def oldest(self) -> Floats:
        """The samples of the first frame: shape (series,)."""
        oldest: Floats = self._head[:, 0]
        return oldest

    def drop(self) -> None:
        """Let go of the first frame. Never of more than the head has the samples of, see ``held``."""
        self._whole.pop((self.first - 1) // BLOCK_FRAMES, None)
        self.first += 1
        self._head = self._head[:, 1:]

    @property
    def held(self) -> int:
        """How many frames the head still has the samples of."""
        return int(self._head.shape[1])

    def extend(self, rows: Floats) -> None:
        """The samples of the frames behind the head: shape (series, frames)."""
        self._head = np.concatenate((self._head, rows), axis=1)

    def parts(self) -> list[tuple[int, Floats]]:
        """What each part of the range comes to, oldest first: (its frames, its fields, shape (fields, series))."""
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
        total = np.einsum("...i->...", rows)  # of 32 samples each a quarter of the time of rows.sum(axis=-1)
        # A sum finds every NaN for free; only the rows with one (or with both infinities) pay for masks.
        gapped = np.isnan(total)
        if gapped.any():
            some = rows[gapped]
            total[gapped] = np.einsum("...i->...", np.where(absent(some), 0.0, some))
    return np.asarray(total[None])


# The fields of a block of a counter.
INCREASE, FIRST, LAST, FIRST_AT, LAST_AT = range(5)


def steps(rows: Floats) -> Floats:
    """Five fields: the increase within, the first and the last usable sample and where they are; NaN where none is.

    A fall is a reset of the counter, and the increase is then the value after it.
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
        told = np.full((5, len(some)), np.nan)
        told[INCREASE] = increase
        with_one = owner[begin]
        told[FIRST, with_one], told[LAST, with_one] = values[begin], values[end]
        told[FIRST_AT, with_one], told[LAST_AT, with_one] = at[begin], at[end]
        found[:, gapped] = told
    return found


def step(before: Floats, after: Floats) -> Floats:
    """:func:`shm.metric.increase` for arrays; NaN where one of the two is."""
    return np.where(after < before, after, after - before)
