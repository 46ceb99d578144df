"""Exact order statistics of many series, updated as samples are added and removed.

For each series and requested rank, a band of BAND sorted samples around the rank is kept, and the number of samples
below the band:

    below: 2,832 samples │ 41.2 41.3 41.3 … 41.9 … 42.0 │ above: the rest
                           └ the band, sorted; the median is in it

A sample below or above the band only changes the counts: two comparisons for each series and rank. A sample within
the band is inserted or removed. A rank that leaves its band, at least BAND / 2 changes after a fill, requires a new
fill from all samples. Nothing is estimated: :meth:`Bands.ranked` returns elements of the sorted samples, or None.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from exporter.window.incremental.ordering import rank_of

Floats = NDArray[np.float64]
Integers = NDArray[np.intp]

BAND: Final = 64  # samples; 2.5 KiB a series with five ranks
_PAD: Final = np.inf


class Bands:
    """Bands of ``series`` series around the ranks ceil(p / 100 · (n − 1)), p in ``percents``; rank 0 is the minimum.

    n is the number of a series' samples other than NaN; NaNs of both kinds are ignored.
    """

    def __init__(self, series: int, percents: Sequence[int]) -> None:
        self._percents = np.array(percents, dtype=np.intp)[:, None]
        shape = len(percents), series
        self.numbers: Integers = np.zeros(series, dtype=np.intp)
        self._band: Floats = np.full((*shape, BAND), _PAD)
        self._count: Integers = np.zeros(shape, dtype=np.intp)  # samples in the band
        self._below: Integers = np.zeros(shape, dtype=np.intp)
        self._low: Floats = np.full(shape, np.inf)  # the band's first and last sample; no sample fits an empty band
        self._high: Floats = np.full(shape, -np.inf)
        self._broken = False

    def ranges(self, numbers: int) -> list[tuple[int, int]]:
        """The ranks that fill() reads, [begin, end) for each band, in series of so many numbers."""
        below, count = self._extents(np.array([numbers]))
        return [(int(b), int(b + c)) for b, c in zip(below[:, 0], count[:, 0], strict=True)]

    def _extents(self, numbers: Integers) -> tuple[Integers, Integers]:
        """(samples below the band, samples in it), each of shape (percents, series)."""
        below = np.clip(rank_of(self._percents, numbers) - BAND // 2, 0, np.maximum(numbers - BAND, 0))
        return below, np.minimum(numbers - below, BAND)

    def fill(self, some: slice, ordered: Floats, numbers: Integers) -> None:
        """Replace the bands of the series ``some``. ``ordered``: shape (series, samples), sorted within :meth:`ranges`.

        NaNs are last. Different threads may fill different series.
        """
        self.numbers[some] = numbers
        below, count = self._extents(numbers)
        if len(numbers) and (numbers == numbers[0]).all() and count[0, 0] == BAND:
            # The usual case: all series have their bands at the same ranks.
            band = np.stack([ordered[:, begin : begin + BAND] for begin in below[:, 0]])
        else:
            at = np.minimum(below[..., None] + np.arange(BAND), max(ordered.shape[1] - 1, 0))
            band = np.take_along_axis(ordered[None], at, axis=2) if ordered.size else np.full(at.shape, _PAD)
            band[np.arange(BAND) >= count[..., None]] = _PAD
        self._band[:, some], self._below[:, some], self._count[:, some] = band, below, count
        self._low[:, some], self._high[:, some] = _ends(band, count)

    def insert(self, sample: Floats) -> None:
        """Add a sample to each series: float64, shape (series,)."""
        number = ~np.isnan(sample)
        above = self.numbers - self._below - self._count
        # If no sample is below (above) the band, a smaller (larger) one extends the band.
        under = number & (sample < self._low) & (self._below > 0)
        over = number & (sample > self._high) & (above > 0)
        self._below += under
        self.numbers += number
        inside = number & ~under & ~over
        flat = inside & (sample == self._low) & (self._low == self._high)
        if flat.any():  # all samples of the band equal this one, as in a constant series
            self._widen(np.nonzero(flat), sample)
            inside &= ~flat
        which = np.nonzero(inside)
        if not which[0].size:
            return
        band, value, count = self._band[which], sample[which[1]], self._count[which]
        position = (band < value[:, None]).sum(axis=1)
        first = self._evicts_smallest(which, count)
        places = np.arange(BAND + 1)
        wider = np.concatenate((band, np.full((len(band), 1), _PAD)), axis=1)
        before = np.maximum(places - (places > position[:, None]), 0)
        wider = np.take_along_axis(wider, before, axis=1)
        wider[np.arange(len(band)), position] = value
        self._below[which] += first
        self._put(which, np.where(first[:, None], wider[:, 1:], wider[:, :-1]), np.minimum(count + 1, BAND))

    def remove(self, sample: Floats) -> None:
        """Remove a sample, which must be present, from each series: float64, shape (series,)."""
        number = ~np.isnan(sample)
        under = number & (sample < self._low)
        over = number & (sample > self._high)
        self._below -= under
        self.numbers -= number
        inside = number & ~under & ~over
        flat = inside & (self._low == self._high)
        if flat.any():
            self._narrow(np.nonzero(flat))
            inside &= ~flat
        which = np.nonzero(inside)
        if not which[0].size:
            return
        band, value = self._band[which], sample[which[1]]
        position = (band < value[:, None]).sum(axis=1)
        places = np.arange(BAND)
        after = places + (places >= position[:, None])
        wider = np.concatenate((band, np.full((len(band), 1), _PAD)), axis=1)
        self._put(which, np.take_along_axis(wider, after, axis=1), self._count[which] - 1)

    def ranked(self) -> Floats | None:
        """The sample at each rank: shape (percents, series), NaN for a series without numbers.

        None: a rank has left its band; fill the bands again.
        """
        at = rank_of(self._percents, self.numbers) - self._below
        none = self.numbers == 0
        if self._broken or not (none | ((at >= 0) & (at < self._count))).all():
            return None
        found: Floats = np.take_along_axis(self._band, np.where(none, 0, at)[..., None], axis=2)[..., 0]
        found[:, none] = np.nan
        return found + 0.0  # turns -0.0 into 0.0: both are equal, so their order is undefined

    def _evicts_smallest(self, which: tuple[Integers, ...], count: Integers) -> NDArray[np.bool_]:
        """True for full bands that must evict their smallest sample, because the rank is in the upper half."""
        rank = rank_of(self._percents[which[0], 0], self.numbers[which[1]]) - self._below[which]
        return np.asarray((count == BAND) & (rank > BAND // 2))

    def _widen(self, which: tuple[Integers, ...], sample: Floats) -> None:
        count = self._count[which]
        self._below[which] += self._evicts_smallest(which, count)
        self._band[(*which, np.minimum(count, BAND - 1))] = sample[which[1]]
        self._count[which] = np.minimum(count + 1, BAND)

    def _narrow(self, which: tuple[Integers, ...]) -> None:
        count = self._count[which] - 1
        self._band[(*which, count)] = _PAD
        self._count[which] = count
        empty = count == 0
        if empty.any():
            self._low[which] = np.where(empty, np.inf, self._low[which])
            self._high[which] = np.where(empty, -np.inf, self._high[which])
            self._broken |= bool((empty & (self.numbers[which[1]] > 0)).any())

    def _put(self, which: tuple[Integers, ...], band: Floats, count: Integers) -> None:
        self._band[which], self._count[which] = band, count
        self._low[which], self._high[which] = _ends(band, count)
        # With an empty band, a new sample can't be assigned to the samples below or above.
        self._broken |= bool(((count == 0) & (self.numbers[which[1]] > 0)).any())


def _ends(band: Floats, count: Integers) -> tuple[Floats, Floats]:
    last = np.take_along_axis(band, np.maximum(count - 1, 0)[..., None], axis=-1)[..., 0]
    return band[..., 0], np.where(count > 0, last, -np.inf)
